// The KV cache: the same logits from one new row a token instead of all of them again, for 2·L·T·G·D numbers of memory.
// A model with random weights reads 48 tokens both ways.
//   build/release/examples/cache
#include <fmt/core.h>

#include <algorithm>

#include "glassformer/model/reading.hpp"

using namespace glassformer;

int main() {
  const ModelConfig config =
      resolved({.vocab = 64, .context = 64, .layers = 3, .heads = 4, .kv_heads = 2, .width = 32, .position = Position::rope});
  Decoder<float> model = make_decoder<float>(config);
  initialize(model, 1);
  std::vector<Token> ids;
  for (std::uint64_t i = 0; i < 48; ++i) ids.push_back(static_cast<Token>(random_below(RandomStream{1}.at("ids"), i, 64)));

  const std::span<const Token> text = ids;
  KvCache<float> cache = make_cache(model, 1);
  float difference = 0;
  Index rows_without = 0, rows_with = 0;
  for (std::size_t t = 1; t <= ids.size(); ++t) {
    const Matrix<float> again = decoder_read<float>(model, text.first(t));                               // [t, V] everything, once more
    const Matrix<float> cached = decoder_read<float>(model, text.subspan(t - 1, 1), {.cache = &cache});  // [1, V] the new token alone
    difference = std::max(difference, (again.bottomRows(1) - cached).cwiseAbs().maxCoeff());
    rows_without += again.rows(), rows_with += cached.rows();
  }
  fmt::print("tokens                          {}\n", ids.size());
  fmt::print("logits differ by less than 1e-5 {}\n", difference < 1e-5F ? "yes" : "NO");
  fmt::print("rows computed without a cache   {}  (1 + 2 + … + {})\n", rows_without, ids.size());
  fmt::print("rows computed with it           {}\n\n", rows_with);

  const Index L = config.layers, T = config.context, G = config.kv_heads, D = config.head_dim;
  fmt::print("bytes by 2·L·T·G·D·4            2·{}·{}·{}·{}·4 = {}\n", L, T, G, D, 2 * L * T * G * D * 4);
  fmt::print("bytes that it holds             {}\n", cache.bytes());
  for (const Index kv_heads : {4, 2, 1}) {  // multi-head, grouped-query, multi-query
    ModelConfig other = config;
    other.kv_heads = kv_heads;
    fmt::print("  with {} key-value head{}       {}\n", kv_heads, kv_heads == 1 ? " " : "s",
               make_cache(make_decoder<float>(other), 1).bytes());
  }
}

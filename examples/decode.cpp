// Decoding by hand: the prompt in one pass (prefill), then one token a pass, with nothing but decoder_forward and decoder_logits.
// The weights are set by hand too: the residual stream carries the letter, and the head answers with the one after it in the alphabet.
//   build/release/examples/decode
#include <fmt/core.h>

#include <array>

#include "glassformer/model/decoder.hpp"
#include "glassformer/sample/generate.hpp"

using namespace glassformer;

int main() {
  const Tokenizer tokenizer = character_tokenizer("abcdefghijklmnopqrstuvwxyz");
  const Index V = tokenizer.vocab_size();
  const ModelConfig config =
      resolved({.vocab = V, .context = 32, .layers = 1, .heads = 1, .width = V, .norm = ops::Norm::rms, .tied = false});
  Decoder<float> model = make_decoder<float>(config);  // all zero: attention and MLP add nothing to the stream
  (*model.embed.weight).setIdentity();                        // letter i is channel i
  (*model.ln_final.gain).setOnes();
  for (Index i = 0; i < V; ++i) (*model.unembed.weight)((i + 1) % V, i) = 1;  // channel i votes for letter i + 1

  std::vector<Token> text = tokenizer.encode("wxy");
  KvCache<float> cache = make_cache(model, 1);
  Workspace workspace;
  std::vector<Token> unread = text;  // prefill: the whole prompt
  for (int step = 0; step < 6; ++step) {
    const Index N = static_cast<Index>(unread.size());
    const std::array<Index, 2> starts = {0, N};  // one sequence of N rows …
    const std::array<Index, 1> slots = {0};      // … whose keys and values lie in slot 0
    Pass<float> pass;
    pass.starts = starts, pass.slots = slots, pass.cache = &cache, pass.workspace = &workspace;
    Matrix<float> hidden(N, config.width), logits(1, V);
    decoder_forward<float>(model, pass, unread, hidden);
    const std::array<Index, 2> last = {0, 1};
    pass.starts = last;
    decoder_logits<float>(model, pass, hidden.bottomRows(1), logits);  // only the last row is asked

    Index best = 0;
    logits.row(0).maxCoeff(&best);
    fmt::print("step {}: read {} row{}, cache holds {}, next: {}\n", step, N, N == 1 ? " " : "s", cache.length(0),
               tokenizer.token_bytes(static_cast<Token>(best)));
    text.push_back(static_cast<Token>(best));
    unread = {static_cast<Token>(best)};
  }
  GenerateOptions options;
  options.sampling.temperature = 0, options.max_tokens = 6;  // greedy
  const std::string by_hand = tokenizer.decode(text), by_generate = "wxy" + generate(model, tokenizer, "wxy", options).text;
  fmt::print("by hand: {}\ngenerate: {}\n", by_hand, by_generate);
}

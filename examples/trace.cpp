// Every value of a pass has a name. A Recorder keeps those that are asked for, here all of them; then one pattern is looked at.
// The model is random with ALiBi: the nearer a key, the more weight, and each head has a slope of its own.
//   build/release/examples/trace
#include <fmt/core.h>

#include "glassformer/model/reading.hpp"
#include "glassformer/model/sites.hpp"
#include "glassformer/plot/heat_map.hpp"

using namespace glassformer;

int main() {
  const ModelConfig config = resolved({.vocab = 32, .context = 16, .layers = 1, .heads = 4, .width = 16, .position = Position::alibi});
  Decoder<double> model = make_decoder<double>(config);
  initialize(model, 1);

  Recorder<double> recorder;  // Recorder({"blocks.0.attn.pattern"}) would keep the patterns alone
  const std::vector<Token> ids = {3, 14, 15, 9, 26};
  decoder_read<double>(model, ids, {.trace = &recorder});

  fmt::print("site                        shape    (5 tokens, 4 heads of width 4)\n");
  for (const std::string& site : decoder_sites(config)) {  // in the order in which they fire
    const bool by_head = site.ends_with("scores") || site.ends_with("pattern");
    const Matrix<double>& value = by_head ? recorder.at(site, 0, 0) : recorder.at(site);
    fmt::print("{:27} [{}, {}]{}\n", site, value.rows(), value.cols(), by_head ? ", one a head" : "");
  }

  const std::vector<double>& slopes = model.blocks[0].attention.config.core.slopes;
  for (const Index head : {0, 1}) {
    fmt::print("\nblocks.0.attn.pattern, head {}, slope {}; a row is a query, a column a key\n", head,
               slopes[static_cast<std::size_t>(head)]);
    fmt::print("{}", plot::heat_map(recorder.at("blocks.0.attn.pattern", 0, head)));
  }
}

// explain quantize: one block of weights through each format.
#include "cli/explain.hpp"
#include "glassformer/explain/quantize.hpp"

namespace glassformer::cli {

int explain_quantize_command(Arguments arguments) {
  Options o(
      "explain quantize",
      "One block of weights through each format: scale, codes, what comes back, the error; NF4's levels beside int4's; the scales' own "
      "quantization. Without --model, an example small enough to redo by hand.");
  o.path("model", "DIR", "model directory, or llama2.c's model.bin; none: the example");
  o.text("tensor", "NAME", "which of its matrices (blocks.0.attn.qkv.weight)");
  o.integer("row", 0, 0, "row of the matrix");
  o.integer("block", 0, 0, "which 64 numbers of the row, counted from 0");
  o.common(kThreads | kJson);
  o.example("glassformer explain quantize");
  o.example("glassformer explain quantize --model model --tensor blocks.1.mlp.up.weight --row 5");
  if (!o.parse(arguments)) return 0;
  for (const char* name : {"tensor", "row", "block"})
    require_usage(o.given("model") || !o.given(name), "--{}: expected --model: the example has one block", name);

  if (o.given("model")) {
    const ModelFiles model = load_to_explain(o);
    print_story(o, explain_quantize(model.decoder, model.description,
                                    {.tensor = o.text("tensor"), .row = o.integer("row"), .block = o.integer("block"), .exec = o.exec()}));
  } else {
    print_story(o, explain_quantize_example());
  }
  return 0;
}

}  // namespace glassformer::cli

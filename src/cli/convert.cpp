// convert: a model in another format.
#include "cli/explain.hpp"
#include "cli/json_line.hpp"
#include "cli/model_options.hpp"
#include "cli/options.hpp"
#include "cli/terminal.hpp"
#include "glassformer/io/model_directory.hpp"

namespace glassformer::cli {

int convert_command(Arguments arguments) {
  Options o("convert",
            "Writes a model as a Hugging Face directory. It is read from such a directory, or from llama2.c's .bin with its tokenizer.bin "
            "beside it.\n"
            "Other formats (GGUF, adapters) are not there yet.");
  o.path("from", "PATH", "model directory or .bin file", required);
  o.path("to", "DIR", "directory to write", required);
  o.choice("dtype", {"F32", "F16", "BF16"}, "type of the weights", "F32");
  o.flag("overwrite", "replace a model in DIR");
  o.common(kJson);
  o.example("glassformer convert --from stories260K/model.bin --to stories260K-hf");
  if (!o.parse(arguments)) return 0;

  const std::filesystem::path to = o.text("to");
  require_free(to.string(), o.is_set("overwrite"));
  const ModelFiles files = load_to_explain(o, "from");  // other tools read no quantized directory of ours
  const Dtype dtype = o.text("dtype") == "F16" ? Dtype::F16 : o.text("dtype") == "BF16" ? Dtype::BF16 : Dtype::F32;
  checked(save_model(to, files.decoder, files.tokenizer, files.metadata, dtype));
  const std::string_view family = family_name(model_family(files.decoder.config));
  fmt::print(stderr, "{}\nwritten to {} as {}, {}\n", files.description, to.string(), family, o.text("dtype"));
  if (o.json()) {
    JsonLine()
        .add("from", std::string_view(o.text("from")))
        .add("to", std::string_view(to.string()))
        .add("model_type", family)
        .add("parameters", files.decoder.arena.layout().parameters())
        .print();
  }
  return 0;
}

}  // namespace glassformer::cli

// convert: a model in another format.
#include "cli/explain.hpp"
#include "cli/json_line.hpp"
#include "cli/model_options.hpp"
#include "cli/options.hpp"
#include "cli/terminal.hpp"
#include "glassformer/io/gguf.hpp"
#include "glassformer/io/model_directory.hpp"

namespace glassformer::cli {
namespace {

namespace fs = std::filesystem;

void report(const Options& o, const ModelFiles& files, const fs::path& to, const std::string& type) {
  const std::string_view family = family_name(model_family(files.decoder.config));
  fmt::print(stderr, "{}\nwritten to {} as {}, {}\n", files.description, to.string(), family, type);
  if (!o.json()) return;
  JsonLine()
      .add("from", std::string_view(o.text("from")))
      .add("to", std::string_view(to.string()))
      .add("model_type", family)
      .add("parameters", decoder_parameters(files.decoder))
      .print();
}

void write_gguf(const Options& o, const fs::path& to) {
  require_usage(o.text("dtype") == "F32", "--dtype: expected F32 for a .gguf, whose few bits are those of a quantized model, found {}",
                o.text("dtype"));
  require_new_file(to.string(), o.is_set("overwrite"));
  const ModelFiles files = checked(load_model(o.text("from")));
  for (const std::string& warning : files.warnings) fmt::print(stderr, "note: {}\n", warning);
  checked(save_gguf(to, files.decoder, files.tokenizer));
  report(o, files, to, files.stored ? quantize_types_name(*files.stored) : "f32");
}

}  // namespace

int convert_command(Arguments arguments) {
  Options o("convert",
            "Writes a model as a Hugging Face directory, or, where --to ends in .gguf, as llama.cpp's file (models of the family llama, in "
            "f32, q8_0 or "
            "q4_0). It is read from such a directory, or from llama2.c's .bin with its tokenizer.bin beside it.\n"
            "Reading GGUF, and adapters, are not there yet.");
  o.path("from", "PATH", "model directory or .bin file", required);
  o.path("to", "PATH", "directory, or .gguf file, to write", required);
  o.choice("dtype", {"F32", "F16", "BF16"}, "type of the weights", "F32");
  o.flag("overwrite", "replace what is there");
  o.common(kJson);
  o.example("glassformer convert --from stories260K/model.bin --to stories260K-hf");
  o.example("glassformer convert --from stories260K/model.bin --to stories260K.gguf");
  if (!o.parse(arguments)) return 0;

  const fs::path to = o.text("to");
  if (to.extension() == ".gguf") return write_gguf(o, to), 0;
  require_free(to.string(), o.is_set("overwrite"));
  const ModelFiles files = load_to_explain(o, "from");  // other tools read no quantized directory of ours
  const Dtype dtype = o.text("dtype") == "F16" ? Dtype::F16 : o.text("dtype") == "BF16" ? Dtype::BF16 : Dtype::F32;
  checked(save_model(to, files.decoder, files.tokenizer, files.metadata, dtype));
  report(o, files, to, o.text("dtype"));
  return 0;
}

}  // namespace glassformer::cli

// lora merge
#include "cli/json_line.hpp"
#include "cli/lora.hpp"
#include "cli/options.hpp"
#include "cli/terminal.hpp"
#include "glassformer/io/adapter_directory.hpp"
#include "glassformer/io/model_directory.hpp"

namespace glassformer::cli {

int lora_merge_command(Arguments arguments) {
  Options o("lora merge", "Adds an adapter to a model's weights: a plain model that computes the same.");
  o.path("model", "DIR", "the base model", required);
  o.path("adapter", "DIR", "its adapter", required);
  o.path("out", "DIR", "directory to write", required);
  o.flag("overwrite", "replace a model in DIR");
  o.common(kThreads | kJson);
  o.example("glassformer lora merge --model model --adapter adapter --out merged");
  if (!o.parse(arguments)) return 0;
  std::error_code ignored;
  const std::filesystem::path out = o.text("out");
  if (!o.is_set("overwrite") && std::filesystem::exists(out, ignored) && !std::filesystem::is_empty(out, ignored)) {
    throw Failure(fmt::format("{}: expected a new or empty directory, found something in it; give --overwrite", out.string()));
  }
  ModelFiles files = checked(load_model(o.text("model")));
  const AdapterFiles adapter = checked(load_adapter(o.text("adapter"), files.decoder));
  for (const std::vector<std::string>* warnings : {&std::as_const(files.warnings), &adapter.warnings}) {
    for (const std::string& warning : *warnings) fmt::print(stderr, "note: {}\n", warning);
  }
  attach(files.decoder, adapter.adapter);
  glassformer::merge(files.decoder, adapter.adapter, o.exec());
  checked(save_model(out, files.decoder, files.tokenizer));
  fmt::print(stderr, "{} with {} in it: {}\n", o.text("model"), o.text("adapter"), out.string());
  if (o.json())
    JsonLine().add("model", std::string_view(out.string())).add("parameters", files.decoder.arena.layout().parameters()).print();
  return 0;
}

}  // namespace glassformer::cli

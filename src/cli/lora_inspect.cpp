// lora inspect
#include "cli/json_line.hpp"
#include "cli/lora.hpp"
#include "cli/options.hpp"
#include "cli/terminal.hpp"
#include "glassformer/io/adapter_directory.hpp"
#include "glassformer/io/model_directory.hpp"

namespace glassformer::cli {

int lora_inspect_command(Arguments arguments) {
  Options o("lora inspect", "Shows what an adapter changes: its rank and scale, and the size of its change of each matrix.");
  o.path("model", "DIR", "the base model", required);
  o.path("adapter", "DIR", "its adapter", required);
  o.common(kJson);
  o.example("glassformer lora inspect --model model --adapter adapter");
  if (!o.parse(arguments)) return 0;
  const ModelFiles files = checked(load_model(o.text("model")));
  const AdapterFiles loaded = checked(load_adapter(o.text("adapter"), files.decoder));
  const Adapter<float>& adapter = loaded.adapter;
  for (const std::string& warning : loaded.warnings) fmt::print(stderr, "note: {}\n", warning);
  const Index parameters = adapter.arena.layout().parameters();
  const double share = static_cast<double>(parameters) / static_cast<double>(files.decoder.arena.layout().parameters());

  JsonLine json;
  json.add("rank", adapter.config.rank)
      .add("alpha", adapter.config.alpha)
      .add("scale", adapter.config.scale())
      .add("dropout", adapter.config.dropout);
  json.add("rank_stabilized", adapter.config.rank_stabilized).add("parameters", parameters).add("share", share);
  std::string text =
      fmt::format("rank {}, alpha {:g}, scale {:g}{}; {} parameters, {:.2f}% of the model's\n\n{:<28} {:>14} {:>12} {:>12} {:>10}\n",
                  adapter.config.rank, adapter.config.alpha, adapter.config.scale(), adapter.config.rank_stabilized ? " (rsLoRA)" : "",
                  grouped(parameters), 100 * share, "target", "shape", "|change|", "|weight|", "ratio");
  for (const AdapterTarget& t : adapter.targets) {
    // ΔW = s·B·A, [O, I]; the weight's own rows beside it
    const Matrix<float> change =
        static_cast<float>(adapter.config.scale()) * (*adapter.arena.view(t.name + ".lora_B") * *adapter.arena.view(t.name + ".lora_A"));
    const auto whole = files.decoder.arena.view(fmt::format("blocks.{}.{}.weight", t.block, t.projection));
    const double norm = change.norm(), weight = (*whole).middleRows(t.row_begin, t.rows).norm();
    text += fmt::format("{:<28} {:>14} {:>12.5f} {:>12.5f} {:>9.2f}%\n", t.name, fmt::format("[{}, {}]", t.rows, t.inputs), norm, weight,
                        100 * norm / weight);
    json.push("targets", JsonLine()
                             .add("name", std::string_view(t.name))
                             .add("rows", t.rows)
                             .add("inputs", t.inputs)
                             .add("change_norm", norm)
                             .add("weight_norm", weight));
  }
  if (o.json())
    json.print();
  else
    print_output(text);
  return 0;
}

}  // namespace glassformer::cli

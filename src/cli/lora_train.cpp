// lora train
#include <cmath>

#include "cli/lora.hpp"
#include "cli/recipes.hpp"
#include "cli/terminal.hpp"
#include "cli/training.hpp"
#include "glassformer/io/adapter_directory.hpp"
#include "glassformer/io/model_directory.hpp"

namespace glassformer::cli {
namespace {

namespace fs = std::filesystem;

Options declare_train() {
  Options o("lora train", "Trains a low-rank change of a model (LoRA) on a text; the model itself stays as it is.");
  o.path("model", "DIR", "the model to adapt", required);
  declare_text_source(o);
  o.real("val-fraction", 0.1, 0.000001, 0.999999, "share of the text, its end, that is kept for validation");
  o.flag("answers-only", "dialogues of \"Customer: …\" and \"Agent: …\" lines: only what the agent says is learned and scored");
  declare_run_options(o, "the best adapter");
  o.group("Adapter");
  o.integer("rank", 8, 1, "rank of the change");
  o.positive("alpha", {}, "scale: the change is multiplied by alpha/rank; twice the rank unless given");
  o.real("lora-dropout", 0, 0, 0.999, "dropout on the adapter's input");
  o.text("targets", "A,B,…",
         "matrices to adapt: of attn.q, attn.k, attn.v, attn.qkv, attn.out, mlp.gate, mlp.up, mlp.gate_up, mlp.down; all linear layers "
         "unless given");
  o.flag("rslora", "scale alpha/√rank (rsLoRA)");
  declare_training_options(o, "500 steps of 16 sequences, rate 2e-3 to 2e-4, no decay, unless given");
  o.common(kSeed | kThreads | kKernels | kJson);
  o.example("glassformer lora train --model model --corpus support --answers-only --rank 8 --out adapter");
  o.example("glassformer sample --model model --adapter adapter --prompt \"Customer:\"");
  return o;
}

std::vector<std::string> split_names(const std::string& text) {
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) names.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

LoraConfig lora_config(const Options& o) {
  LoraConfig c;
  c.rank = o.integer("rank");
  c.alpha = o.real_or("alpha", 2.0 * static_cast<double>(c.rank));
  c.dropout = o.real("lora-dropout");
  c.rank_stabilized = o.is_set("rslora");
  c.targets = split_names(o.text("targets"));
  return c;
}

TrainOptions standard_training(bool muon) {
  TrainOptions t;
  t.steps = 500, t.batch = 16, t.warmup = 50, t.rate = 2e-3, t.min_rate = 2e-4, t.weight_decay = 0, t.muon = muon;
  return t;
}

// What an adapter learns from: batches of a step, and batches to validate on.
struct Lessons {
  BatchSource batches;
  std::vector<Batch> validation;
  std::string description;
};

// Windows of the text, as in training a model.
Lessons windows(const TextSource& source, const Tokenizer& tokenizer, const Decoder<float>& model, const TrainOptions& t,
                double val_fraction) {
  const Index context = model.config.context;
  auto tokens =
      std::make_shared<const TokenSplit>(split_tokens(encode_text(tokenizer, source, document_separator(model.config)), val_fraction));
  if (static_cast<Index>(tokens->train.size()) <= context || tokens->val.size() < 2) {
    throw Failure(fmt::format("{}: expected more than {} tokens to train on (the context) and at least 2 to validate, found {} and {}",
                              source.name, context, tokens->train.size(), tokens->val.size()));
  }
  const RandomStream stream = RandomStream{t.seed}.at("batches");
  const std::optional<Token> separator = document_separator(model.config);
  return {[tokens, t, context, stream, separator](Index step, Index micro) {
            return random_batch(tokens->train, t.batch, context, stream, static_cast<std::uint64_t>(step * t.accumulate + micro),
                                separator);
          },
          whole_split(tokens->val, context, std::max<Index>(1, 2048 / context), separator),
          fmt::format("{} tokens to train on, {} to validate", tokens->train.size(), tokens->val.size())};
}

// Questions and answers of dialogues; the answers are scored.
Lessons answers(const TextSource& source, const Tokenizer& tokenizer, const Decoder<float>& model, const TrainOptions& t,
                double val_fraction) {
  const Index context = model.config.context;
  auto train = std::make_shared<std::vector<Example>>();
  std::vector<Example> all, validation;
  Index too_long = 0;
  try {
    for (const auto& [prompt, answer] : prompts_and_answers(source.text)) {
      Example e{tokenizer.encode(prompt), tokenizer.encode(answer)};
      if (const auto start = document_separator(model.config)) e.prompt.insert(e.prompt.begin(), *start);
      if (static_cast<Index>(e.answer.size()) > context)
        ++too_long;
      else
        all.push_back(std::move(e));
    }
  } catch (const std::invalid_argument& error) {
    throw Failure(fmt::format("{}: {}", source.name, error.what()));
  }
  const auto cut = static_cast<std::size_t>((1 - val_fraction) * static_cast<double>(all.size()));
  if (cut == 0 || cut == all.size()) {
    throw Failure(fmt::format(
        "{}: expected dialogues of \"Customer: …\" and \"Agent: …\" lines with at least two answers of up to {} tokens, found {}",
        source.name, context, all.size()));
  }
  train->assign(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(cut));
  validation.assign(all.begin() + static_cast<std::ptrdiff_t>(cut), all.end());
  Lessons lessons;
  const RandomStream stream = RandomStream{t.seed}.at("batches");
  lessons.batches = [train, t, context, stream](Index step, Index micro) {
    std::vector<Example> drawn;
    const RandomStream at = stream.at(static_cast<std::uint64_t>(step * t.accumulate + micro));
    for (Index i = 0; i < t.batch; ++i) drawn.push_back((*train)[random_below(at, static_cast<std::uint64_t>(i), train->size())]);
    return pack_examples(drawn, context);
  };
  constexpr std::size_t kAtOnce = 16;
  for (std::size_t i = 0; i < validation.size(); i += kAtOnce) {
    lessons.validation.push_back(pack_examples(std::span(validation).subspan(i, std::min(kAtOnce, validation.size() - i)), context));
  }
  lessons.description = fmt::format("{} answers to train on, {} to validate{}", train->size(), validation.size(),
                                    too_long ? fmt::format(" ({} longer than the context were left out)", too_long) : "");
  return lessons;
}

struct Start {
  ModelFiles base;
  Adapter<float> adapter;
};

// The base model with a fresh adapter, or with the one of the run that is resumed, whose options are then supplied.
Start begin(Options& o) {
  const fs::path last = fs::path(o.text("out")) / "last";
  Start s{checked(load_model(o.text("model"))), {}};
  for (const std::string& warning : s.base.warnings) fmt::print(stderr, "note: {}\n", warning);
  if (o.is_set("resume")) {
    AdapterFiles files = checked(load_adapter(last, s.base.decoder));
    supply_recorded(o, last.string(), files.metadata);
    s.adapter = std::move(files.adapter);
  } else {
    s.adapter = make_adapter<float>(s.base.decoder.config, lora_config(o), o.seed());
  }
  return s;
}

}  // namespace

int lora_train_command(Arguments arguments) {
  Options o = declare_train();
  if (!o.parse(arguments)) return 0;
  check_out(o);
  Start start = begin(o);
  ModelFiles& base = start.base;
  Adapter<float>& adapter = start.adapter;
  const TextSource source = read_text_source(o, o.seed());
  const TrainOptions options = training_options(o, standard_training(o.is_set("muon")));
  if (o.is_set("resume")) {
    const std::string last = o.text("out") + "/last";
    check_same_text(source, last, checked(load_adapter(last, base.decoder)).metadata);
  }
  Decoder<float>& model = base.decoder;
  const Lessons lessons = o.is_set("answers-only") ? answers(source, base.tokenizer, model, options, o.real("val-fraction"))
                                                   : windows(source, base.tokenizer, model, options, o.real("val-fraction"));
  const auto validate = [&] { return score_batches(model, base.tokenizer, lessons.validation, options.exec); };
  const double before = validate().loss_nats();  // the model alone
  attach(model, adapter);
  Trainer<float> trainer(model, adapter, options);
  const Index trainable = adapter.arena.layout().parameters(), all = model.arena.layout().parameters();
  const double share = static_cast<double>(trainable) / static_cast<double>(all);
  fmt::print(stderr, "model      {}\ntext       {}: {}\n", base.description, source.name, lessons.description);
  fmt::print(stderr, "adapter    rank {} on {} matrices: {} of {} parameters, {:.2f}%\nbefore     {:.4f} nats per token\n",
             adapter.config.rank, adapter.targets.size(), grouped(trainable), grouped(all), 100 * share, before);

  RunRecord record(o, source);
  Run run;
  run.trainer = &trainer, run.batches = lessons.batches, run.record = &record, run.validate = validate;
  run.expected = fmt::format("before {:.4f}", before);
  if (!o.is_set("answers-only")) run.source_bits = source.bits_per_byte;  // answers alone are another text
  run.files = [&](const Metadata& metadata) { return adapter_files(adapter, model, o.text("model"), metadata); };
  const RunResult result = run_and_show(o, run);
  const int code = result.interrupted ? interrupted_exit(o, result) : 0;
  if (!result.interrupted) {
    fmt::print(stderr, "after      {:.4f} nats per token (before {:.4f}), best at step {}, in {}\n", result.val_loss_nats, before,
               result.best_step, duration(result.seconds));
    fmt::print(stderr, "adapter    {}\nnext       glassformer sample --model {} --adapter {} --max-tokens 200\n", o.text("out"),
               o.text("model"), o.text("out"));
  }
  if (o.json()) {
    JsonLine json = run_json(result, all, o.text("model"));
    json.add("adapter", std::string_view(o.text("out")))
        .add("trainable_parameters", trainable)
        .add("trainable_share", share)
        .add("val_loss_nats_before", before)
        .print();
  }
  return code;
}

}  // namespace glassformer::cli

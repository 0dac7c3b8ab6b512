// lora train
#include <chrono>
#include <cmath>

#include "cli/lora.hpp"
#include "cli/lora_lessons.hpp"
#include "cli/lora_methods.hpp"
#include "cli/model_options.hpp"
#include "cli/ranks.hpp"
#include "cli/recipes.hpp"
#include "cli/terminal.hpp"
#include "cli/training.hpp"
#include "glassformer/model/quantize.hpp"

namespace glassformer::cli {
namespace {

namespace fs = std::filesystem;

constexpr Index kSequences = 16;  // in a batch that is only scored

Options declare_train() {
  Options o("lora train",
            "Adapts a model to a text: by a low-rank change (LoRA), or by what that is compared with. The model itself stays as it is.");
  o.path("model", "DIR", "the model to adapt", required);
  declare_text_source(o);
  o.real("val-fraction", 0.1, 0.000001, 0.999999, "share of the text, its end, that is kept for validation");
  o.flag("answers-only", "dialogues of \"Customer: …\" and \"Agent: …\" lines: only what the agent says is learned and scored");
  o.path("forget-data", "FILE", "another text, whose loss before and after shows what is forgotten");
  o.choice("forget-corpus", {"stories", "support"}, "instead of --forget-data: a generated text, drawn with another seed than --corpus");
  o.size("forget-bytes", "100K", "how much of it");
  declare_run_options(o, "the best adapter, or model", !required);
  o.real("until-loss", {}, 0, 1e6, "stop at the first validation whose loss in nats is at most this");
  declare_method_options(o);
  declare_training_options(o, "500 steps of 16 sequences, no decay, rate 2e-3 (soft-prompt 0.1) down to a tenth, unless given");
  o.common(kSeed | kThreads | kKernels | kJson);
  o.example("glassformer lora train --model model --corpus support --answers-only --rank 8 --out adapter");
  o.example("glassformer lora train --model model --corpus support --answers-only --base-type nf4 --out qlora");
  o.example("glassformer lora train --model model --corpus support --answers-only --method full --forget-corpus stories --out adapted");
  o.example("glassformer lora train --model model --corpus support --answers-only --method few-shot --shots 2");
  o.example("glassformer sample --model model --adapter adapter --prompt \"Customer:\"");
  return o;
}

// Another text, on which the adapted model is compared with the one before.
class Elsewhere {
 public:
  Elsewhere(const Options& o, const ModelFiles& base) : base_(base) {
    require_usage(!(o.given("forget-data") && o.given("forget-corpus")),
                  "expected either --forget-data FILE or --forget-corpus stories|support, found both");
    require_usage(o.given("forget-corpus") || !o.given("forget-bytes"), "--forget-bytes: expected --forget-corpus beside it, found none");
    if (!o.given("forget-data") && !o.given("forget-corpus")) return;
    TextSource source;
    if (o.given("forget-data")) {
      source = {o.text("forget-data"), checked(read_text(o.text("forget-data"))), {}};
    } else {
      constexpr std::uint64_t kOther = 1000003;  // the model may well have learned the corpus of this very seed by heart
      Corpus corpus = make_corpus(checked(corpus_kind(o.text("forget-corpus"))), o.integer("forget-bytes"), o.seed() + kOther);
      source = {"corpus " + o.text("forget-corpus"), std::move(corpus.text), {}, std::move(corpus.documents)};
    }
    ids_ = tokens_to_score(base.tokenizer, source, base.decoder.config);
  }
  bool empty() const { return !ids_; }
  double loss_nats(const Exec& exec) const {
    return score_tokens(base_.decoder, base_.tokenizer, *ids_, base_.decoder.config.context, exec).loss_nats();
  }

 private:
  const ModelFiles& base_;
  std::optional<std::vector<Token>> ids_;
};

// What every method says of itself, so that they can be laid side by side.
struct Figures {
  Index all = 0, trainable = 0, val_tokens = 0;
  double before = 0;
  std::optional<double> forget_before, forget;
};
double share(const Figures& f) { return static_cast<double>(f.trainable) / static_cast<double>(f.all); }

void add(JsonLine& json, const Options& o, const Figures& f) {
  json.add("method", std::string_view(o.text("method")));
  json.add("trainable_parameters", f.trainable)
      .add("trainable_share", share(f))
      .add("val_tokens", f.val_tokens)
      .add("val_loss_nats_before", f.before);
  if (f.forget_before) json.add("forget_loss_nats_before", *f.forget_before).add("forget_loss_nats", *f.forget);
  if (const auto peak = peak_bytes()) json.add("peak_bytes", *peak);
}

std::string forgotten(const Figures& f) {
  return f.forget_before ? fmt::format("elsewhere  {:.4f} nats per token (before {:.4f})\n", *f.forget, *f.forget_before) : "";
}

ModelFiles load_base(const Options& o) {
  LoadOptions options;
  options.exec = o.exec();
  if (const std::string type = o.text("base-type"); type != "f32") options.quantize = QuantizeTypes::all(checked(quantized_named(type)));
  ModelFiles base = checked(load_model(o.text("model"), options));
  for (const std::string& warning : base.warnings) fmt::print(stderr, "note: {}\n", warning);
  if (options.quantize) {
    Index quantized = 0;
    for (const auto& [name, weights] : base.decoder.quantized)
      quantized += weights->type == *options.quantize->linear && name.starts_with("blocks.");
    if (quantized == 0)
      throw Failure(fmt::format("{}: expected a matrix with rows of a multiple of {} numbers, a block of {}, found none", o.text("model"),
                                block_length(*options.quantize->linear), o.text("base-type")));
    fmt::print(stderr, "base       {}, {} bytes of weights in memory\n", quantize_types_name(*options.quantize),
               grouped(decoder_bytes(base.decoder)));
  }
  return base;
}

// Nothing is trained: examples stand before each question.
int few_shot(const Options& o) {
  const auto start = std::chrono::steady_clock::now();
  const ModelFiles base = load_base(o);
  const TextSource source = read_text_source(o, o.seed());
  const Lessons lessons(source, base.tokenizer, base.decoder.config, o.is_set("answers-only"), o.real("val-fraction"), 0);
  const Elsewhere elsewhere(o, base);
  const auto score = [&](std::span<const Batch> batches) { return score_batches(base.decoder, base.tokenizer, batches, o.exec()); };
  const std::vector<Batch> plain = lessons.validation(kSequences, {});
  double used = 0;
  const std::vector<Batch> shown = lessons.few_shot(kSequences, o.integer("shots"), o.seed(), used);
  Figures f;
  f.all = decoder_parameters(base.decoder), f.val_tokens = scored_tokens(shown), f.before = score(plain).loss_nats();
  if (!elsewhere.empty()) f.forget_before = f.forget = elsewhere.loss_nats(o.exec());  // the model is the same
  const Score after = score(shown);
  fmt::print(stderr, "model      {}\ntext       {}: {}\nbefore     {:.4f} nats per token\nafter      {:.4f} nats per token, {}\n",
             base.description, source.name, lessons.description(), f.before, after.loss_nats(),
             o.is_set("answers-only") ? fmt::format("{:.2f} examples before each question", used)
                                      : "half a context of the text before each window");
  fmt::print(stderr, "{}", forgotten(f));
  if (!o.json()) return 0;
  JsonLine json;
  json.add("parameters", f.all)
      .add("val_loss_nats", after.loss_nats())
      .add("val_bits_per_byte", after.bits_per_byte())
      .add("val_accuracy", after.accuracy());
  json.add("seconds", std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count())
      .add("model", std::string_view(o.text("model")));
  if (o.is_set("answers-only")) json.add("shots", o.integer("shots")).add("shots_used", used);
  add(json, o, f);
  json.print();
  return 0;
}

void check_directories(const Options& o) {
  require_usage(o.given("out"), "expected --out DIR; see glassformer lora train --help");
  require_apart(o.text("out"), o.text("model"));
  check_out(o);
}

void report(const Options& o, const Learner& learner, const RunResult& r, const Figures& f) {
  fmt::print(stderr, "after      {:.4f} nats per token (before {:.4f}), best at step {} of {}, in {}\n{}", r.val_loss_nats, f.before,
             r.best_step, r.steps, duration(r.seconds), forgotten(f));
  if (learner.is_adapter())
    fmt::print(stderr, "adapter    {}\nnext       glassformer sample --model {} --adapter {} --max-tokens 200\n", o.text("out"),
               o.text("model"), o.text("out"));
  else
    fmt::print(stderr, "model      {}\nnext       glassformer sample --model {} --max-tokens 200\n", o.text("out"), o.text("out"));
}

int adapt(const Options& o, Method method, Ranks& ranks) {
  const fs::path last = fs::path(o.text("out")) / "last";
  ModelFiles base = load_base(o);
  const bool adapter = method == Method::lora || method == Method::soft_prompt;
  if (const auto types = quantize_types(base.decoder); types && !adapter)
    throw Failure(fmt::format("{}: expected a model in floating point, found one in {}, which is only read: train an adapter of it",
                              o.text("model"), quantize_types_name(*types)));
  const TextSource source = read_text_source(o, o.seed());
  if (o.is_set("resume")) check_same_text(source, last.string(), run_metadata(last));
  const TrainOptions options = ranks.share_out(training_options(o, standard_training(method, o.is_set("muon"))));
  const Index virtual_tokens = prompt_tokens(o, method);
  require_usage(virtual_tokens < base.decoder.config.context, "--prompt-tokens: expected less than the context of {}, found {}",
                base.decoder.config.context, virtual_tokens);
  const Lessons lessons(source, base.tokenizer, base.decoder.config, o.is_set("answers-only"), o.real("val-fraction"), virtual_tokens);
  const Elsewhere elsewhere(o, base);
  Figures f;
  f.all = decoder_parameters(base.decoder);
  f.before =
      score_batches(base.decoder, base.tokenizer, lessons.validation(options.batch, {}), options.exec).loss_nats();  // the model alone
  if (!elsewhere.empty()) f.forget_before = elsewhere.loss_nats(options.exec);

  Learner learner(o, method, base, last, options);
  const std::vector<Token> prefix = learner.prefix();
  const std::vector<Batch> validation = lessons.validation(options.batch, prefix);
  f.trainable = learner.trainable(), f.val_tokens = scored_tokens(validation);
  fmt::print(stderr, "model      {}\ntext       {}: {}\n{:<11}{}: {} of {} parameters, {:.2f}%\nbefore     {:.4f} nats per token\n",
             base.description, source.name, lessons.description(), learner.is_adapter() ? "adapter" : "training", learner.description(),
             grouped(f.trainable), grouped(f.all), 100 * share(f), f.before);

  RunRecord record(o, source);
  Run run;
  run.trainer = &learner.trainer(), run.batches = lessons.batches(options, prefix), run.record = &record;
  run.validate = [&] { return score_batches(base.decoder, base.tokenizer, validation, options.exec); };
  run.expected = fmt::format("before {:.4f}", f.before);
  run.until_loss = o.real_or("until-loss", -1);
  if (!o.is_set("answers-only")) run.source_bits = source.bits_per_byte;  // answers alone are another text
  run.files = [&](const Metadata& metadata) { return learner.files(metadata); };
  ranks.run_begins(o);
  const RunResult result = run_and_show(o, run);
  if (!ranks.is_first()) return 0;
  if (!elsewhere.empty()) {
    if (result.best_step != result.steps && result.best_step > 0) learner.read(o.text("out"));
    f.forget = elsewhere.loss_nats(options.exec);
  }
  const int code = result.interrupted ? interrupted_exit(o, result) : 0;
  if (!result.interrupted) report(o, learner, result, f);
  if (o.json()) {
    JsonLine json = run_json(result, f.all, learner.is_adapter() ? o.text("model") : o.text("out"));
    json.add(learner.is_adapter() ? "adapter" : "base", std::string_view(learner.is_adapter() ? o.text("out") : o.text("model")));
    if (o.given("until-loss")) json.add("until_loss_reached", result.val_loss_nats <= run.until_loss);
    add(json, o, f);
    add_exchange(json, learner.trainer());
    json.print();
  }
  return code;
}

int lora_train(Arguments arguments, Ranks& ranks) {
  Options o = declare_train();
  if (!o.parse(arguments)) return 0;
  if (o.is_set("resume")) {
    check_directories(o);
    const fs::path last = fs::path(o.text("out")) / "last";
    supply_recorded(o, last.string(), run_metadata(last));
  }
  const Method method = method_of(o);
  if (method == Method::few_shot) return few_shot(o);
  check_directories(o);
  return adapt(o, method, ranks);
}

}  // namespace

int lora_train_command(Arguments arguments) {
  return with_ranks([&](Ranks& ranks) { return lora_train(arguments, ranks); });
}

}  // namespace glassformer::cli

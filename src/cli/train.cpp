// train: a decoder on a text.
#include <cmath>
#include <numbers>

#include "cli/model_options.hpp"
#include "cli/ranks.hpp"
#include "cli/recipes.hpp"
#include "cli/terminal.hpp"
#include "cli/training.hpp"
#include "glassformer/io/model_directory.hpp"

namespace glassformer::cli {
namespace {

Options declare() {
  Options o("train", "Trains a decoder on a text: from random weights to a model directory.");
  declare_text_source(o);
  o.real("val-fraction", 0.1, 0.000001, 0.999999, "share of the text, its end, that is kept for validation");
  o.path(
      "from", "DIR",
      "begin with the weights of this model, not with random ones; it keeps its tokenizer and shape, but for --context and RoPE's scaling");
  o.text("tokenizer", "NAME", "char, byte, bpe (trains one), a model directory or a tokenizer.json", "char");
  o.integer("vocab-size", 512, 257, "tokens of --tokenizer bpe");
  o.integer("pad-vocab", {}, 1,
            "rows of the embedding, more than the tokenizer (bpe) has tokens, as models of a round number of rows have");
  declare_run_options(o, "the best model");
  o.group("Preset");
  o.choice("preset", model_preset_names(), "a model and the recipe that belongs to it; the options below change parts of it", "nano-llama");
  declare_model_options(o, "the preset's unless given");
  declare_training_options(o, "the preset's recipe unless given");
  o.common(kSeed | kThreads | kKernels | kJson);
  o.example("glassformer train --corpus stories --tokenizer bpe --preset stories --muon --out model");
  o.example("glassformer train --data shakespeare.txt --preset nano-llama --muon --out shakespeare");
  o.example("glassformer train --out shakespeare --resume");
  o.example("glassformer train --from model --corpus stories --context 1024 --rope-scaling ntk --steps 100 --out longer");
  return o;
}

// The token that stands before each document, where the text has documents and the tokenizer such a token.
std::optional<Token> start_token(const TextSource& source, const Tokenizer& tokenizer) {
  return source.documents.empty() ? std::nullopt : tokenizer.bos();
}

ModelConfig configuration(const Options& o, const Tokenizer& tokenizer, std::span<const Token> ids, bool documents) {
  ModelConfig c = model_options(o, checked(model_preset(o.text("preset"))));
  c.vocab = o.integer_or("pad-vocab", tokenizer.vocab_size());
  require_usage(c.vocab >= tokenizer.vocab_size(), "--pad-vocab: expected at least the tokenizer's {} tokens, found {}",
                tokenizer.vocab_size(), c.vocab);
  // A start or end token that the text does not have would never be learned.
  const auto learned = [&](std::optional<Token> t) { return t && std::ranges::find(ids, *t) != ids.end() ? *t : Token{-1}; };
  c.bos = learned(tokenizer.bos());
  c.eos = learned(tokenizer.eos());
  c.prepend_bos = documents && c.bos >= 0;
  return resolved(c);
}

Index bytes_of(const Tokenizer& tokenizer, std::span<const Token> ids) {
  Index bytes = 0;
  for (const Token t : ids) bytes += tokenizer.is_special(t) ? 0 : static_cast<Index>(tokenizer.token_bytes(t).size());
  return bytes;
}

double source_nats_per_token(const TextSource& source, const Tokenizer& tokenizer, const TokenSplit& tokens) {
  return *source.bits_per_byte * std::numbers::ln2 * static_cast<double>(bytes_of(tokenizer, tokens.val)) /
         static_cast<double>(tokens.val.size());
}

void describe(const TextSource& source, const Tokenizer& tokenizer, const TokenSplit& tokens, const Decoder<float>& model,
              const TrainOptions& t, std::optional<double> loss_before) {
  const ModelConfig& c = model.config;
  fmt::print(stderr, "text       {}: {} bytes, {} tokens to train on, {} to validate\n", source.name,
             grouped(static_cast<long long>(source.text.size())), grouped(static_cast<long long>(tokens.train.size())),
             grouped(static_cast<long long>(tokens.val.size())));
  fmt::print(stderr,
             "model      {} layers, {} heads ({} of keys and values), width {}, MLP {} ({}), context {}, {} positions, {}, vocabulary {}: "
             "{} parameters\n",
             c.layers, c.heads, c.kv_heads, c.width, c.hidden, choice_name(c.mlp), c.context, choice_name(c.position), choice_name(c.norm),
             c.vocab, grouped(model.arena.layout().parameters()));
  fmt::print(stderr, "training   {} steps of {} x {} tokens, rate {:g} to {:g}{}\n", grouped(t.steps), t.batch * t.accumulate, c.context,
             t.rate, t.min_rate, t.muon ? fmt::format(", Muon at {:g} on the hidden matrices", t.muon_rate) : "");
  const auto stretch = c.rope_stretch;
  if (stretch.scaling != RopeScaling::none)
    fmt::print(stderr, "RoPE       {} by a factor of {:g}\n", choice_name(stretch.scaling), stretch.factor);
  if (loss_before)
    fmt::print(stderr, "before     {:.4f} nats per token, read in windows of {}", *loss_before, c.context);
  else
    fmt::print(stderr, "expected   {:.4f} nats per token at the start (ln {})", std::log(static_cast<double>(c.vocab)), c.vocab);
  if (source.bits_per_byte) {
    fmt::print(stderr, "; the source has {:.4f} bits per byte, {:.4f} nats per token: no model stays below", *source.bits_per_byte,
               source_nats_per_token(source, tokenizer, tokens));
  }
  fmt::print(stderr, "\n");
  if (t.exchange)
    fmt::print(stderr, "processes  {}, each {} of a step's {} batches on {} threads\n", t.exchange->ranks(),
               t.accumulate / t.exchange->ranks(), t.accumulate, t.exec.threads);
}

// The model of --from, at the length and with the scaling that were asked for.
ModelFiles model_to_go_on(const Options& o) {
  for (const char* name : {"tokenizer", "pad-vocab"})
    require_usage(!o.given(name), "--{}: expected none beside --from, whose model has its own", name);
  for (const std::string& name : shape_options_given(o))
    require_usage(false, "--{}: expected only --context and --rope-… options beside --from, whose model has its shape", name);
  ModelFiles files = checked(load_model(o.text("from")));
  for (const std::string& warning : files.warnings) fmt::print(stderr, "note: {}\n", warning);
  stretch_model(o, files.decoder);
  return files;
}

void finish(const Options& o, const RunResult& r, const TextSource& source) {
  fmt::print(stderr, "done       {} steps in {}, {} tokens/s; best at step {}: {:.4f} nats per token, {:.4f} bits per byte",
             grouped(r.steps), duration(r.seconds), grouped(static_cast<long long>(r.tokens_per_s)), r.best_step, r.val_loss_nats,
             r.val_bits_per_byte);
  if (source.bits_per_byte) fmt::print(stderr, ", {:.4f} above the source", r.val_bits_per_byte - *source.bits_per_byte);
  fmt::print(stderr, "\nmodel      {}\nnext       glassformer sample --model {} --max-tokens 200\n", o.text("out"), o.text("out"));
}

int train(Arguments arguments, Ranks& ranks) {
  Options o = declare();
  if (!o.parse(arguments)) return 0;
  require_usage(o.is_set("resume") || o.text("tokenizer") == "bpe" || !o.given("vocab-size"),
                "--vocab-size: expected --tokenizer bpe beside it, found {}", o.text("tokenizer"));
  check_out(o);
  const bool resume = o.is_set("resume");
  const std::filesystem::path last = std::filesystem::path(o.text("out")) / "last";
  std::optional<ModelFiles> before;  // what there is to go on with: the run's own last state, or another model
  if (resume) {
    before = checked(load_model(last));
    supply_recorded(o, last.string(), before->metadata);
  }
  const bool from = o.given("from");
  if (from && !resume) before = model_to_go_on(o);

  const TextSource source = read_text_source(o, o.seed());
  if (resume) check_same_text(source, last.string(), before->metadata);
  const TrainOptions options = ranks.share_out(training_options(o, recipe(o.text("preset"), o.is_set("muon"))));
  const Tokenizer tokenizer = before ? before->tokenizer : choose_tokenizer(o.text("tokenizer"), source, o.integer("vocab-size"));
  ModelConfig shape = from ? before->decoder.config : model_options(o, checked(model_preset(o.text("preset"))));
  shape.vocab = tokenizer.vocab_size();
  const std::optional<Token> start = from ? document_separator(shape) : start_token(source, tokenizer);
  if (!from && !source.documents.empty() && !start) {
    fmt::print(stderr,
               "note: this tokenizer has no start token, so documents are read as running text; --tokenizer bpe learns them apart\n");
  }
  const TokenSplit tokens = tokens_to_train(tokenizer, source, start, o.real("val-fraction"), resolved(shape).context);
  const ModelConfig config = from ? before->decoder.config : configuration(o, tokenizer, tokens.train, start.has_value());
  if (resume && !from) {
    ModelConfig found = before->decoder.config;
    found.init_std = config.init_std, found.embedding_std = config.embedding_std;  // of the beginning: no checkpoint has them
    require_usage(found == config, "expected the model options of the run in {}, or none, found others", last.string());
  }
  Decoder<float> model = before ? std::move(before->decoder) : make_decoder<float>(config);
  if (!before) initialize(model, o.seed());
  Trainer<float> trainer(model, options);
  std::optional<double> loss_before;  // of another model, on this text
  if (from && !resume) loss_before = score_tokens(model, tokenizer, tokens.val, config.context, options.exec).loss_nats();
  describe(source, tokenizer, tokens, model, options, loss_before);

  RunRecord record(o, source);
  Run run;
  run.trainer = &trainer;
  run.record = &record, run.source_bits = source.bits_per_byte;
  run.expected = source.bits_per_byte ? fmt::format("source {:.4f}", source_nats_per_token(source, tokenizer, tokens))
                                      : fmt::format("guessing {:.4f}", std::log(static_cast<double>(config.vocab)));
  const RandomStream stream = RandomStream{o.seed()}.at("batches");
  run.batches = [&](Index step, Index micro) {
    return random_batch(tokens.train, options.batch, config.context, stream, static_cast<std::uint64_t>(step * options.accumulate + micro),
                        document_separator(config));
  };
  run.files = [&](const Metadata& metadata) { return model_files(model, tokenizer, metadata); };
  run.validate = [&] { return score_tokens(model, tokenizer, tokens.val, config.context, options.exec); };
  ranks.run_begins(o);
  const RunResult result = run_and_show(o, run);
  const int code = result.interrupted ? interrupted_exit(o, result) : 0;
  if (!result.interrupted) finish(o, result, source);
  if (o.json()) {
    JsonLine json = run_json(result, model.arena.layout().parameters(), o.text("out"));
    json.add("source_bits_per_byte", source.bits_per_byte.value_or(NAN));
    if (loss_before) json.add("val_loss_nats_before", *loss_before);
    add_exchange(json, trainer);
    json.print();
  }
  return code;
}

}  // namespace

int train_command(Arguments arguments) {
  return with_ranks([&](Ranks& ranks) { return train(arguments, ranks); });
}

}  // namespace glassformer::cli

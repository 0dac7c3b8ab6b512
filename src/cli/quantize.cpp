// quantize: a model with its matrices in few bits, and what that costs.
#include <cmath>
#include <filesystem>

#include "cli/json_line.hpp"
#include "cli/model_options.hpp"
#include "cli/terminal.hpp"
#include "cli/text_source.hpp"
#include "glassformer/data/dataset.hpp"
#include "glassformer/io/model_directory.hpp"
#include "glassformer/score/compare.hpp"
#include "glassformer/score/score.hpp"

namespace glassformer::cli {
namespace {

namespace fs = std::filesystem;

Options declare() {
  Options o("quantize",
            "Writes a model with its matrices in few bits. It is read, quantized and let go matrix by matrix, so that it is never whole in "
            "floating point. With a text, what that costs is measured on it.");
  o.path("model", "DIR", "model directory, or a llama2.c .bin file", required);
  o.choice("type", {"q8_0", "q4_0", "int4", "nf4"}, "format of the linear layers (required): 8.5, 4.5, 4.25 or 4.127 bits a weight");
  o.choice("embedding-type", {"q8_0", "q4_0", "int4", "nf4", "f32"}, "format of the token embedding and the head", "q8_0");
  o.path("out", "DIR", "directory to write", required);
  o.flag("overwrite", "replace a model in DIR");
  declare_text_source(o);
  o.integer("context", {}, 1, "tokens of a window of the text; the model's context unless given");
  o.common(kSeed | kThreads | kKernels | kJson);
  o.example("glassformer quantize --model model --type nf4 --out model-nf4 --corpus stories --corpus-bytes 200K --seed 99");
  o.example("glassformer sample --model model-nf4 --prompt \"Once upon a time\"");
  return o;
}

// What one kind of tensor was and became.
struct Kind {
  const char* name;
  Index numbers = 0, bytes = 0;
  double error = 0, square = 0;  // Σ (w − ŵ)², Σ w² of what was quantized
  Index bytes_before() const { return numbers * static_cast<Index>(sizeof(float)); }
  double bits() const { return 8.0 * static_cast<double>(bytes) / static_cast<double>(numbers); }
  double relative_rmse() const { return square > 0 ? std::sqrt(error / square) : 0; }
};

struct Account {
  Kind attention{"attention"}, mlp{"mlp"}, embedding{"embedding, head"}, rest{"norms, biases, positions"};
  std::vector<Kind> kinds() const { return {attention, mlp, embedding, rest}; }
  Kind total() const {
    Kind sum{"all"};
    for (const Kind& k : kinds()) sum.numbers += k.numbers, sum.bytes += k.bytes, sum.error += k.error, sum.square += k.square;
    return sum;
  }
  Kind& of(const TensorInfo& info) {
    if (info.kind == ParameterKind::vector || info.name == "pos_embed.weight") return rest;
    if (info.kind == ParameterKind::embedding) return embedding;
    return info.name.find(".attn.") != std::string::npos ? attention : mlp;
  }
  void add(const TensorInfo& info, ConstMatrixRef<float> numbers, const QuantizedMatrix& w) {
    Kind& kind = of(info);
    kind.numbers += info.size(), kind.bytes += w.bytes();
    Matrix<float> back(1, info.cols);
    for (Index r = 0; r < info.rows; ++r) {
      dequantize<float>(w, r, back);
      kind.error += (numbers.row(r) - back).cast<double>().squaredNorm();
      kind.square += numbers.row(r).cast<double>().squaredNorm();
    }
  }
  void add(const TensorInfo& info) {  // stays as it is
    Kind& kind = of(info);
    kind.numbers += info.size(), kind.bytes += info.size() * static_cast<Index>(sizeof(float));
  }
};

std::optional<QuantizedType> type_named(const std::string& name) {
  return name == "f32" ? std::nullopt : std::optional(checked(quantized_named(name)));
}

// Matrices whose rows are no multiple of the block: they were not quantized, unless that was asked for.
void tell_kept(const Decoder<float>& m, const QuantizeTypes& types) {
  Index count = 0, cols = 0;
  std::string first;
  for (const TensorInfo& info : m.arena.layout().tensors()) {
    const auto wanted = info.kind == ParameterKind::embedding ? types.embedding : types.linear;
    if (info.kind == ParameterKind::vector || info.name == "pos_embed.weight" || !wanted) continue;
    if (count++ == 0) first = info.name, cols = info.cols;
  }
  if (count > 0)
    fmt::print(stderr, "note: {}{}: rows of {} numbers are no multiple of the format's block: kept in floating point\n", first,
               count > 1 ? fmt::format(" and {} more", count - 1) : "", cols);
}

std::string table(const Account& account) {
  std::string out = fmt::format("{:<26}{:>14}{:>14}{:>9}{:>16}\n", "", "bytes before", "bytes", "bits", "relative RMSE");
  const auto line = [&](const Kind& k) {
    if (k.numbers == 0) return;
    out += fmt::format("{:<26}{:>14}{:>14}{:>9.3f}{:>16}\n", k.name, grouped(k.bytes_before()), grouped(k.bytes), k.bits(),
                       k.error > 0 ? fmt::format("{:.5f}", k.relative_rmse()) : "0");
  };
  for (const Kind& k : account.kinds()) line(k);
  line(account.total());
  return out;
}

struct Lesson {
  std::vector<Batch> batches;
  std::string name;
};

Lesson read_lesson(const Options& o, const TextSource& source, const ModelFiles& files) {
  const ModelConfig& config = files.decoder.config;
  const std::vector<Token> ids = tokens_to_score(files.tokenizer, source, config);
  const Index context = o.integer_or("context", config.context);
  require_usage(context <= config.context, "--context: expected at most {}, the model's, found {}", config.context, context);
  return {scoring_batches(ids, context, document_separator(config)), source.name};
}

}  // namespace

int quantize_command(Arguments arguments) {
  Options o = declare();
  if (!o.parse(arguments)) return 0;
  require_usage(o.given("type"), "--type: expected one of q8_0, q4_0, int4, nf4, found none");
  std::optional<TextSource> source;
  for (const char* name : {"data", "corpus", "corpus-bytes", "document-end", "source-bits-per-byte", "context"}) {
    if (o.given(name) && !source) source = read_text_source(o, o.seed());
  }
  require_apart(o.text("out"), o.text("model"));
  require_free(o.text("out"), o.is_set("overwrite"));
  const fs::path out = o.text("out");
  const QuantizeTypes types{type_named(o.text("type")), type_named(o.text("embedding-type"))};

  Account account;
  const auto seen = [&](const TensorInfo& info, ConstMatrixRef<float> numbers, const QuantizedMatrix& w) { account.add(info, numbers, w); };
  ModelFiles files = checked(load_model(o.text("model"), {.quantize = types, .quantized = seen, .exec = o.exec()}));
  for (const std::string& warning : files.warnings) fmt::print(stderr, "note: {}\n", warning);
  if (files.stored)
    throw Failure(
        fmt::format("{}: expected a model in floating point, found one in {}", o.text("model"), quantize_types_name(*files.stored)));
  if (files.decoder.quantized.empty()) {
    throw Failure(fmt::format(
        "{}: expected a matrix whose rows are a multiple of the format's block, found none: nothing would be quantized", o.text("model")));
  }
  for (const TensorInfo& info : files.decoder.arena.layout().tensors()) account.add(info);
  std::optional<Lesson> lesson;
  if (source) lesson = read_lesson(o, *source, files);
  for (const char* key : {"glassformer.val_loss_nats", "glassformer.val_bits_per_byte"}) files.metadata.erase(key);  // of the model before
  checked(save_model(out, files.decoder, files.tokenizer, files.metadata));
  tell_kept(files.decoder, types);
  fmt::print(stderr, "{}\nwritten to {}\n", files.description, out.string());

  std::optional<ModelComparison> cost;
  if (lesson) {
    const ModelFiles before = checked(load_model(o.text("model")));
    cost = compare_models(before.decoder, files.decoder, lesson->batches, o.exec());
  }
  if (!o.json()) {
    print_output(table(account));
    if (cost) {
      print_output(fmt::format("\non {}, {} tokens:\n", lesson->name, grouped(cost->tokens)));
      print_output(fmt::format("perplexity ratio  {:.5f}    loss {:.5f} nats, before {:.5f}\n", cost->perplexity_ratio, cost->loss_nats,
                               cost->base_loss_nats));
      print_output(fmt::format("mean KL           {:.6f} nats\n", cost->mean_kl_nats));
      print_output(fmt::format("same first choice {:.2f}%\n", 100 * cost->top1_agreement));
    }
    return 0;
  }
  const Kind all = account.total();
  JsonLine json;
  json.add("model", std::string_view(out.string()))
      .add("type", std::string_view(o.text("type")))
      .add("embedding_type", std::string_view(o.text("embedding-type")));
  json.add("bytes", all.bytes)
      .add("bytes_before", all.bytes_before())
      .add("bits_per_weight", all.bits())
      .add("relative_rmse", all.relative_rmse());
  for (const Kind& k : account.kinds()) {
    if (k.numbers == 0) continue;
    json.push("kinds", JsonLine()
                           .add("kind", k.name)
                           .add("bytes", k.bytes)
                           .add("bytes_before", k.bytes_before())
                           .add("bits_per_weight", k.bits())
                           .add("relative_rmse", k.relative_rmse()));
  }
  if (cost) {
    json.add("tokens", cost->tokens).add("perplexity_ratio", cost->perplexity_ratio).add("mean_kl_nats", cost->mean_kl_nats);
    json.add("top1_agreement", cost->top1_agreement).add("loss_nats", cost->loss_nats).add("loss_nats_before", cost->base_loss_nats);
  }
  json.print();
  return 0;
}

}  // namespace glassformer::cli

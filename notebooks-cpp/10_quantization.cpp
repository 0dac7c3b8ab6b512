// %% [markdown]
// # 10 · What does quantization cost?
//
// A weight was trained in 32 bits. How many does it need afterwards? Blocks of neighbours share a scale, and each number keeps a small
// code: 8 bits, or 4. This notebook asks five things.
//
// 1. How far off are the weights, format by format, and why does it matter where the levels lie?
// 2. How far off is a *model* then? And why does an undertrained one make every format look free?
// 3. How many bytes are saved?
// 4. Can a small adapter over the 4-bit model (QLoRA) win back what was lost?
// 5. And what happens to that when the adapter is merged into the 4-bit weights?
//
// **Predict first.** Four bits are 16 values. How many of a trained model's first choices of the next character change when every weight is
// rounded to one of 16: one in two, one in ten, one in a hundred? And what does that do to its perplexity: +4%, +40%, four times as much?

// %%
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "glassformer/core/random.hpp"
#include "glassformer/io/model_directory.hpp"
#include "glassformer/model/adapter.hpp"
#include "glassformer/model/quantize.hpp"
#include "glassformer/model/reading.hpp"
#include "glassformer/notebook/toy.hpp"
#include "glassformer/sample/generate.hpp"
#include "glassformer/score/compare.hpp"
#include "program.hpp"

using namespace glassformer;

constexpr QuantizedType kTypes[] = {QuantizedType::q8_0, QuantizedType::q4_0, QuantizedType::nf4, QuantizedType::int4};

std::string named(QuantizedType type) { return std::string(quantized_name(type)); }

// What comes back: Ŵ.
Matrix<float> rounded(QuantizedType type, const Matrix<float>& w) {
  const QuantizedMatrix q = quantize(type, w);
  Matrix<float> back(w.rows(), w.cols());
  dequantize<float>(q, 0, back);
  return back;
}

// %% [markdown]
// ## 1. The weights
// | | block | scale | code |
// |---|---|---|---|
// | q8_0 | 32 numbers | 16 bits | 8 bits, equal steps |
// | q4_0 | 32 | 16 bits, with the sign of the largest number | 4 bits, equal steps, −8 … 7 |
// | int4 | 64 | 16 bits | 4 bits, equal steps, −7 … 7 |
// | nf4 | 64 | 8 bits, itself quantized | 4 bits, one of 16 *uneven* levels: quantiles of a normal distribution |
//
// First the rule, on one block whose largest number is 1: what comes back for each x that goes in.

// %%
void show_levels(Notebook& nb) {
  plot::Chart stairs;
  stairs.title = "What comes back, for a block from −1 to 1", stairs.x_label = "x", stairs.y_label = "x rounded";
  stairs.series = {{"int4: equal steps", {}}, {"nf4: fine near zero", {}}};
  for (int i = -80; i <= 80; ++i) {
    Matrix<float> block = Matrix<float>::Zero(1, 64);
    block(0, 0) = 1, block(0, 1) = static_cast<float>(i) / 80;
    stairs.x.push_back(i / 80.0);
    stairs.series[0].y.push_back(rounded(QuantizedType::int4, block)(0, 1));
    stairs.series[1].y.push_back(rounded(QuantizedType::nf4, block)(0, 1));
  }
  nb.show(story::Chart{"levels", stairs}, within(0.001));
}

// %% [markdown]
// Weights of a trained layer are close to normally distributed: most lie near zero, a block's largest, which sets the scale, far out. So
// equal steps spend codes where hardly any weight is. A million normal numbers through each format; the error is ‖W − Ŵ‖/‖W‖, and the codes
// are counted. A code that is never used is a wasted one: −Σ p·log₂ p says how many of its bits a format really uses.

// %%
// How often each of the 16 codes is used.
std::vector<double> code_shares(QuantizedType type, const QuantizedMatrix& q) {
  std::vector<double> count(16, 0);
  const Index scale_bytes = type == QuantizedType::nf4 ? 0 : 2, bytes = block_bytes(type);
  for (Index i = 0; i < static_cast<Index>(q.blocks.size()); ++i) {
    if (i % bytes < scale_bytes) continue;
    const auto two = std::to_integer<unsigned>(q.blocks[static_cast<std::size_t>(i)]);
    count[two & 15U] += 1, count[two >> 4U] += 1;
  }
  for (double& c : count) c /= static_cast<double>(q.rows * q.cols);
  return count;
}

double entropy_bits(const std::vector<double>& p) {
  double bits = 0;
  for (const double x : p) bits -= x > 0 ? x * std::log2(x) : 0;
  return bits;
}

Matrix<float> normal_matrix(Index rows, Index cols, std::uint64_t seed) {
  Matrix<float> w(rows, cols);
  const RandomStream stream = RandomStream{seed}.at("normal");
  for (Index i = 0; i < w.size(); ++i) w.data()[i] = static_cast<float>(random_normal(stream, static_cast<std::uint64_t>(i)));
  return w;
}

void show_errors(Notebook& nb) {
  const Matrix<float> w = normal_matrix(1024, 1024, nb.seed());
  const double expected[] = {0.0053, 0.086, 0.092, 0.108};  // for normal weights, computed in another program
  story::Table table{"errors", {"format", "bits a number", "relative error", "bits of a code that are used"}, {}, 4};
  plot::Chart bars{plot::Chart::Kind::bars, "How often each code is used, %"};
  for (int c = 0; c < 16; ++c) bars.names.push_back(fmt::format("code {}", c));
  std::map<QuantizedType, double> error;
  double furthest = 0;
  std::string measured;
  for (std::size_t i = 0; i < std::size(kTypes); ++i) {
    const QuantizedType type = kTypes[i];
    const QuantizedMatrix q = quantize(type, w, nb.exec());
    error[type] = (rounded(type, w) - w).norm() / w.norm();
    furthest = std::max(furthest, std::abs(error[type] / expected[i] - 1));
    measured += fmt::format("{}{} {:.4f}", i == 0 ? "" : ", ", named(type), error[type]);
    table.rows.push_back({named(type), 8.0 * static_cast<double>(q.bytes()) / static_cast<double>(w.size()), error[type], "–"});
    if (type == QuantizedType::q8_0) continue;
    const std::vector<double> shares = code_shares(type, q);
    table.rows.back().back() = entropy_bits(shares);
    if (type == QuantizedType::q4_0) continue;
    bars.series.push_back({named(type), {}});
    for (const double s : shares) bars.series.back().y.push_back(100 * s);
  }
  nb.show(table, within(0.01));
  nb.show(story::Chart{"codes", bars}, within(0.5));
  nb.claim("the errors on normal numbers are those of the formats: 0.0053, 0.086, 0.092, 0.108, each within 3%", furthest < 0.03, measured);
  const double gain = 1 - error[QuantizedType::nf4] / error[QuantizedType::int4];
  nb.claim("over the same block NF4's uneven levels have an error at least 10% below int4's equal ones", gain >= 0.1,
           fmt::format("{:.1f}% below", 100 * gain));
  nb.claim("NF4 does not beat q4_0 in error: a block half as long is worth more than better levels, and costs 0.37 bits",
           error[QuantizedType::nf4] > error[QuantizedType::q4_0],
           fmt::format("{:.4f} against {:.4f}", error[QuantizedType::nf4], error[QuantizedType::q4_0]));
}

// %% [markdown]
// **Why blocks at all?** Because of outliers. The largest number of a block sets the step for all. One of the numbers is now made larger,
// and the error of its *neighbours* is measured: those beyond the block would not notice.

// %%
void show_outliers(Notebook& nb) {
  constexpr Index kBlocks = 512;
  const Matrix<float> w = normal_matrix(kBlocks, 64, nb.seed() + 1);
  plot::Chart chart;
  chart.title = "One outlier in a block: error of its neighbours", chart.x_label = "size of the outlier, in standard deviations",
  chart.y_label = "relative error", chart.x_log = chart.y_log = true;
  for (const QuantizedType type : kTypes) chart.series.push_back({named(type), {}});
  for (const double size : {2.0, 4.0, 8.0, 16.0, 32.0, 64.0}) {
    chart.x.push_back(size);
    Matrix<float> spoilt = w;
    spoilt.col(0).setConstant(static_cast<float>(size));
    for (std::size_t i = 0; i < std::size(kTypes); ++i) {
      const Matrix<float> back = rounded(kTypes[i], spoilt);
      const Index neighbours = block_length(kTypes[i]) - 1;
      chart.series[i].y.push_back((back - spoilt).middleCols(1, neighbours).norm() / spoilt.middleCols(1, neighbours).norm());
    }
  }
  nb.show(story::Chart{"outliers", chart}, within(0.005));
  const double four = chart.series[3].y[3], eight = chart.series[0].y[3];
  nb.claim("an outlier of 16 standard deviations takes more than half of its neighbours' size from them in int4, less than 5% in q8_0",
           four > 0.5 && eight < 0.05, fmt::format("relative error {:.2f} and {:.3f}", four, eight));
}

// %% [markdown]
// ## 2. The model
// A two-layer decoder learns the generated tales by characters. Its matrices are then quantized (embeddings always to q8_0; gains and
// biases stay), and both models read the same held-out text. Three measures, from blunt to fine:
//
// - **perplexity ratio**, exp(loss − loss before): the usual one. Errors that help by luck cancel errors that hurt.
// - **first choices that agree**: what a greedy user sees.
// - **mean KL divergence** KL(before‖after): how far the whole distribution moved. It never cancels.
//
// **The trap.** A model that was stopped early has not yet put to use the precision that it has. Quantize *it*, and every format is
// "lossless". The same model is quantized to NF4 here again and again while it learns.

// %%
constexpr Index kContext = 64, kSteps = 1500;

struct Learner {
  ToyText text;
  std::vector<Batch> held_out;
  Decoder<float> model;
};

Learner learn(Notebook& nb) {
  Learner l{toy_text(CorpusKind::stories, 400'000, nb.seed()), {}, {}};
  l.held_out = whole_split(l.text.val, kContext, 64);
  ModelConfig config{
      .vocab = l.text.tokenizer.vocab_size(), .context = kContext, .layers = 2, .heads = 4, .width = 64, .position = Position::rope};
  config.embedding_std = 0.5, config.init_std = 0.125;
  l.model = make_decoder<float>(resolved(config));
  initialize(l.model, nb.seed());
  TrainOptions options{.steps = kSteps, .batch = 16, .rate = 4e-3, .min_rate = 2e-4, .warmup = 50, .seed = nb.seed()};
  options.exec.threads = nb.exec().threads;
  Trainer<float> trainer(l.model, options);
  const BatchSource batches = text_batches(l.text.train, options.batch, kContext, nb.seed());
  story::Table table{
      "while_learning", {"steps", "loss, nats", "NF4's perplexity ratio", "mean KL, nats", "first choices that agree, %"}, {}, 4};
  plot::Chart chart;
  chart.title = "What NF4 costs the same model while it learns", chart.x_label = "steps", chart.y_label = "mean KL, nats",
  chart.x_log = chart.y_log = true, chart.series = {{"NF4", {}}};
  std::vector<ModelComparison> costs;
  for (const Index stop : {Index{50}, Index{100}, Index{200}, Index{400}, Index{800}, kSteps}) {
    while (trainer.steps_done() < stop) trainer.step(batches);
    costs.push_back(
        compare_models(l.model, quantize_decoder(l.model, QuantizeTypes::all(QuantizedType::nf4), nb.exec()), l.held_out, nb.exec()));
    const ModelComparison& c = costs.back();
    nb.progress(fmt::format("step {}/{}, loss {:.3f}, with NF4 {:.3f}", stop, kSteps, c.base_loss_nats, c.loss_nats));
    table.rows.push_back({fmt::format("{}", stop), c.base_loss_nats, c.perplexity_ratio, c.mean_kl_nats, 100 * c.top1_agreement});
    chart.x.push_back(static_cast<double>(stop)), chart.series[0].y.push_back(c.mean_kl_nats);
  }
  nb.show(table, kind_only);
  nb.show(story::Chart{"trap", chart}, kind_only);
  const ModelComparison &early = costs[1], &late = costs.back();
  nb.claim("the model of 100 steps loses at most half, in KL divergence, of what the fully trained one loses to the same NF4",
           early.mean_kl_nats < late.mean_kl_nats / 2,
           fmt::format("{:.4f} against {:.4f} nats; perplexity ratio {:.4f} against {:.4f}", early.mean_kl_nats, late.mean_kl_nats,
                       early.perplexity_ratio, late.perplexity_ratio));
  return l;
}

// %% [markdown]
// Now every format, on the trained model.

// %%
// Bytes of a tensor by the formats' definitions.
Index bytes_by_formula(const TensorInfo& info, const QuantizeTypes& types) {
  const auto type = quantized_type(info, types);
  const Index n = info.size();
  if (!type) return 4 * n;
  switch (*type) {
    case QuantizedType::q8_0:
      return n / 32 * (2 + 32);
    case QuantizedType::q4_0:
      return n / 32 * (2 + 16);
    case QuantizedType::int4:
      return n / 64 * (2 + 32);
    case QuantizedType::nf4:
      return n / 64 * (32 + 1) + (n / 64 + 255) / 256 * 4 + 4;  // codes and absmax; a float for 256 of these; their mean
  }
  return 0;
}

std::map<QuantizedType, ModelComparison> show_formats(Notebook& nb, const Learner& l) {
  story::Table table{"formats", {"format", "perplexity ratio", "mean KL, nats", "first choices that agree, %"}, {}, 4};
  plot::Chart bars{plot::Chart::Kind::bars, "Mean KL divergence from the model in 32 bits, nats"};
  bars.series = {{"mean KL", {}}};
  std::map<QuantizedType, ModelComparison> cost;
  std::string kl, ratio;
  for (const QuantizedType type : kTypes) {
    const ModelComparison c =
        compare_models(l.model, quantize_decoder(l.model, QuantizeTypes::all(type), nb.exec()), l.held_out, nb.exec());
    cost[type] = c;
    table.rows.push_back({named(type), c.perplexity_ratio, c.mean_kl_nats, 100 * c.top1_agreement});
    bars.names.push_back(named(type)), bars.series[0].y.push_back(c.mean_kl_nats);
    kl += fmt::format("{}{} {:.5f}", kl.empty() ? "" : ", ", named(type), c.mean_kl_nats);
    ratio += fmt::format("{}{} {:.4f}", ratio.empty() ? "" : ", ", named(type), c.perplexity_ratio);
  }
  nb.show(table, kind_only);
  nb.show(story::Chart{"formats_kl", bars}, kind_only);
  const ModelComparison &q8 = cost[QuantizedType::q8_0], &q4 = cost[QuantizedType::q4_0], &nf4 = cost[QuantizedType::nf4],
                        &int4 = cost[QuantizedType::int4];
  nb.claim("8 bits are free: perplexity within 0.1%", std::abs(q8.perplexity_ratio - 1) < 0.001,
           fmt::format("ratio {:.5f}", q8.perplexity_ratio));
  nb.claim("4 bits are not: each 4-bit format moves the distribution (KL) at least 20 times as far as q8_0, and perplexity by 1% or more",
           std::min({q4.mean_kl_nats, nf4.mean_kl_nats, int4.mean_kl_nats}) > 20 * q8.mean_kl_nats &&
               std::min({q4.perplexity_ratio, nf4.perplexity_ratio, int4.perplexity_ratio}) > 1.01,
           kl + "; perplexity ratio " + ratio);
  nb.claim("equal steps over long blocks (int4) are the worst, in KL and in perplexity, although NF4 takes fewer bits",
           int4.mean_kl_nats > std::max(q4.mean_kl_nats, nf4.mean_kl_nats) &&
               int4.perplexity_ratio > std::max(q4.perplexity_ratio, nf4.perplexity_ratio),
           fmt::format("{:.4f} against {:.4f} (q4_0) and {:.4f} (nf4) nats", int4.mean_kl_nats, q4.mean_kl_nats, nf4.mean_kl_nats));
  nb.claim("with 8 bits at least 98% of the first choices stay, with 4 bits between 80 and 95%",
           q8.top1_agreement >= 0.98 && std::min({q4.top1_agreement, nf4.top1_agreement, int4.top1_agreement}) > 0.8 &&
               std::max({q4.top1_agreement, nf4.top1_agreement, int4.top1_agreement}) < 0.95,
           fmt::format("q8_0 {:.1f}%, q4_0 {:.1f}%, nf4 {:.1f}%, int4 {:.1f}%", 100 * q8.top1_agreement, 100 * q4.top1_agreement,
                       100 * nf4.top1_agreement, 100 * int4.top1_agreement));
  return cost;
}

// %% [markdown]
// ## 3. The bytes
// Counted in the engine's memory, against what the formats define; and the same count for a model that you know, from its shapes alone. The
// embedding and the head take 8.5 bits here, so 4 bits are not quite an eighth.

// %%
void show_bytes(Notebook& nb, const Decoder<float>& model) {
  const ModelConfig llama = resolved({.vocab = 128256,
                                      .context = 8192,
                                      .layers = 32,
                                      .heads = 32,
                                      .kv_heads = 8,
                                      .width = 4096,
                                      .hidden = 14336,
                                      .position = Position::rope,
                                      .norm = ops::Norm::rms,
                                      .mlp = Mlp::swiglu,
                                      .bias = false,
                                      .tied = false});
  const auto layout = decoder_layout(llama);
  const auto gigabytes = [](double bytes) { return bytes / 1e9; };
  story::Table table{"bytes", {"format", "this model, bytes", "Llama 3 8B, GB"}, {}, 2};
  table.rows.push_back({"32 bits", fmt::format("{}", decoder_bytes(model)), gigabytes(4.0 * static_cast<double>(layout->parameters()))});
  table.rows.push_back({"bf16", "–", gigabytes(2.0 * static_cast<double>(layout->parameters()))});
  std::string wrong, last;
  for (const QuantizedType type : kTypes) {
    const QuantizeTypes types = QuantizeTypes::all(type);
    const Index measured = decoder_bytes(quantize_decoder(model, types));
    Index formula = 0;
    double large = 0;
    for (const TensorInfo& info : model.arena.layout().tensors()) formula += bytes_by_formula(info, types);
    for (const TensorInfo& info : layout->tensors()) large += static_cast<double>(bytes_by_formula(info, types));
    table.rows.push_back({named(type), fmt::format("{}", measured), gigabytes(large)});
    last = fmt::format("{}: {} bytes, by the formula {}", named(type), measured, formula);
    if (measured != formula && wrong.empty()) wrong = last;
  }
  nb.show(table, exactly);
  nb.claim("each quantized model takes exactly the bytes that its format defines", wrong.empty(), wrong.empty() ? last : wrong);
}

// %% [markdown]
// ## 4. Winning it back: an adapter over 4 bits
// QLoRA (Dettmers et al. 2023): the 4-bit weights stay as they are, their gradient does not exist, but the gradient of what flows *through*
// them does. So a LoRA adapter in floating point can be trained over them. Usually it learns a new task; here it only gets the old text, to
// repair the rounding.
//
// **The trap.** More steps might help any model. So the model in 32 bits gets an adapter too, and the same steps: what counts is the
// distance between the two afterwards.

// %%
struct Repaired {
  Decoder<float> model;  // with the adapter attached
  Adapter<float> adapter;
};

void train_adapter(Notebook& nb, const std::string& name, Repaired& r, const Learner& l) {
  TrainOptions options{.steps = 300, .batch = 16, .rate = 2e-3, .min_rate = 1e-4, .warmup = 20, .weight_decay = 0, .seed = nb.seed()};
  options.exec.threads = nb.exec().threads;
  attach(r.model, r.adapter);
  Trainer<float> trainer(r.model, r.adapter, options);
  const BatchSource batches = text_batches(l.text.train, options.batch, kContext, nb.seed() + 1);
  while (trainer.steps_done() < options.steps) trainer.step(batches);
  nb.progress(name);
}

Repaired show_repair(Notebook& nb, const Learner& l, const ModelComparison& before) {
  const LoraConfig lora{.rank = 8, .alpha = 16, .targets = {}};
  Repaired small{quantize_decoder(l.model, QuantizeTypes::all(QuantizedType::nf4), nb.exec()), {}},
      full{convert_decoder<float>(l.model), {}};
  small.adapter = make_adapter(small.model, lora, nb.seed()), full.adapter = make_adapter(full.model, lora, nb.seed());
  train_adapter(nb, "an adapter over NF4", small, l), train_adapter(nb, "an adapter over 32 bits", full, l);
  const ModelComparison repaired = compare_models(l.model, small.model, l.held_out, nb.exec()),
                        control = compare_models(l.model, full.model, l.held_out, nb.exec());
  const double lost = before.loss_nats - before.base_loss_nats, left = repaired.loss_nats - control.loss_nats;
  story::Table table{"repair", {"", "loss, nats", "above 32 bits"}, {}, 4};
  table.rows = {{"32 bits", before.base_loss_nats, "–"},
                {"NF4", before.loss_nats, lost},
                {"32 bits, adapter of rank 8, 300 steps", control.loss_nats, "–"},
                {"NF4, adapter of rank 8, 300 steps", repaired.loss_nats, left}};
  nb.show(table, kind_only);
  nb.show(story::Number{"adapter_share", "share of parameters trained",
                        100.0 * static_cast<double>(small.adapter.arena.layout().parameters()) /
                            static_cast<double>(decoder_parameters(l.model)),
                        1, "%"},
          exactly);
  nb.claim("an adapter over NF4 wins back at least half of what NF4 lost, also beside a model in 32 bits that was trained on alike",
           left < lost / 2, fmt::format("{:+.4f} nats before, {:+.4f} after: {:.0f}% of it", lost, left, 100 * (1 - left / lost)));
  return small;
}

// %% [markdown]
// ## 5. Merging
// In floating point an adapter is merged for nothing: W + ΔW. Into 4-bit weights it cannot be: W + ΔW must be rounded again, and a change
// that is smaller than a step is rounded away, while the weights are rounded to other levels than those the adapter had learnt to correct.
//
// And there is a mistake that is easily made: merging it into the weights that one had *before* quantizing. The adapter has never seen
// those.

// %%
void show_merge(Notebook& nb, const Learner& l, Repaired& repaired, const ModelComparison& before) {
  const Matrix<float> apart = decoder_read<float>(repaired.model, std::span(l.text.val).first(kContext));
  const double kept = compare_models(l.model, repaired.model, l.held_out, nb.exec()).loss_nats;
  detach(repaired.model);
  Decoder<float> merged = dequantize_decoder(repaired.model);
  merge(merged, repaired.adapter, nb.exec());
  const double difference = (decoder_read<float>(merged, std::span(l.text.val).first(kContext)) - apart).cwiseAbs().maxCoeff();
  Decoder<float> original = convert_decoder<float>(l.model);
  merge(original, repaired.adapter, nb.exec());
  const auto loss = [&](const Decoder<float>& model) { return compare_models(l.model, model, l.held_out, nb.exec()).loss_nats; };
  const double again = loss(quantize_decoder(merged, QuantizeTypes::all(QuantizedType::nf4), nb.exec()));
  const double in_full = loss(merged), wrong_base = loss(original);
  story::Table table{"merging", {"", "loss, nats", "bytes"}, {}, 4};
  const auto bytes = [](Index n) { return fmt::format("{}", n); };
  const Index adapter_bytes = 4 * repaired.adapter.arena.layout().parameters();
  table.rows = {{"NF4 and the adapter beside it", kept, bytes(decoder_bytes(repaired.model) + adapter_bytes)},
                {"merged in 32 bits", in_full, bytes(decoder_bytes(merged))},
                {"merged, and rounded to NF4 again", again, bytes(decoder_bytes(repaired.model))},
                {"merged into the weights before quantizing", wrong_base, bytes(decoder_bytes(original))},
                {"NF4 without an adapter", before.loss_nats, bytes(decoder_bytes(repaired.model))}};
  nb.show(table, kind_only);
  nb.claim("merged in 32 bits, the logits are those of the adapter beside NF4, within 1e-4", difference < 1e-4,
           fmt::format("{:.0e}", difference));
  nb.claim("merged and rounded to NF4 again, at least half of what the adapter had won back is lost",
           again - kept > (before.loss_nats - kept) / 2,
           fmt::format("{:.4f} nats beside, {:.4f} merged and rounded, {:.4f} without an adapter", kept, again, before.loss_nats));
}

// %% [markdown]
// ## A real one
// stories260K, a model that others trained, where its file is here: reported, not claimed. The text is what it writes itself.

// %%
std::string told_of_stories(const Notebook& nb) {
  const std::filesystem::path path = std::filesystem::path(__FILE__).parent_path() / "../../shared/data/stories260K";
  if (!std::filesystem::exists(path)) return "stories260K is not here.";
  const Expected<ModelFiles> files = load_model(path);
  if (!files) return "stories260K cannot be read: " + files.error();
  const Decoder<float>& model = files->decoder;
  GenerateOptions options;
  options.max_tokens = 200, options.sampling.temperature = 1, options.seed = nb.seed(), options.exec = nb.exec();
  std::vector<Batch> batches;
  for (const Generation& g : generate_batch(model, files->tokenizer, std::vector<std::string>(16, "Once upon a time"), options)) {
    std::vector<Token> ids = g.prompt_ids;
    ids.insert(ids.end(), g.ids.begin(), g.ids.end());
    for (Batch& b : whole_split(ids, model.config.context, 1)) batches.push_back(std::move(b));
  }
  std::string told = "stories260K on its own tales:";
  for (const QuantizedType type : kTypes) {
    const Decoder<float> small = quantize_decoder(model, QuantizeTypes::all(type), nb.exec());
    const ModelComparison c = compare_models(model, small, batches, nb.exec());
    told += fmt::format("{} {} perplexity ratio {:.4f}, KL {:.4f} nats, {:.1f}% of the first choices, {:.0f} KiB",
                        type == kTypes[0] ? "" : ";", named(type), c.perplexity_ratio, c.mean_kl_nats, 100 * c.top1_agreement,
                        static_cast<double>(decoder_bytes(small)) / 1024);
  }
  return told + fmt::format("; in 32 bits {:.0f} KiB. (Rows of 172 numbers are no multiple of a block, and stay in 32 bits.)",
                            static_cast<double>(decoder_bytes(model)) / 1024);
}

void show_stories(Notebook& nb) { nb.show(story::Paragraph{told_of_stories(nb)}, kind_only); }

// %% [markdown]
// ## What did not appear
// Order by bits. NF4 (4.13 bits) and q4_0 (4.5) end side by side in the model, now one ahead, now the other; int4 (4.25) is always behind
// both. What counts is the error for the bits, not the bits. And the share of first choices that agree says little about the training: a
// model that knows nothing yet has near-ties everywhere, which any rounding turns over.
//
// ## What to say
// *Weights are cut into blocks that share a scale, so that an outlier spoils only its neighbours. Eight bits are free. Four bits cost a
// little: measure it as KL divergence from the model before, on text like yours, because perplexity averages luck away, and never on an
// undertrained model, which loses little because it has little to lose. Levels at the quantiles of a normal distribution (NF4) make up
// for the longer blocks that save bits. An adapter over the 4-bit weights learns at a small part of the memory and repairs most of the
// rounding on the way; keep it beside them, or merge it in floating point into the weights that it was trained over: rounding the merged
// weights again loses most of it, and the weights from before quantizing are not the ones that it knows.*
//
// On a model of your own: `glassformer quantize`, `glassformer explain quantize`.

// %%
int main(int argc, char** argv) {
  return run_notebook(argc, argv, [](Notebook& nb) {
    show_levels(nb);
    show_errors(nb);
    show_outliers(nb);
    const Learner l = learn(nb);
    const ModelComparison nf4 = show_formats(nb, l).at(QuantizedType::nf4);
    show_bytes(nb, l.model);
    Repaired repaired = show_repair(nb, l, nf4);
    show_merge(nb, l, repaired, nf4);
    show_stories(nb);
  });
}

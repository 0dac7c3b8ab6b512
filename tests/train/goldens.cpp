// The engine against PyTorch in float64 (tests/goldens/make_goldens.py): logits, loss, every gradient, five AdamW steps, the
// same for adapters (LoRA, DoRA, QLoRA), the bytes of NF4 and q8_0, and Muon. Compared per tensor as ‖a − b‖/(‖a‖ + ‖b‖).
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "glassformer/io/safetensors.hpp"
#include "glassformer/model/adapter.hpp"
#include "glassformer/model/quantize.hpp"
#include "glassformer/ops/optimizer.hpp"
#include "glassformer/train/trainer.hpp"

namespace glassformer {
namespace {

struct Precision {
  double model;  // logits, loss, gradients
  const char* name;
};
template <class S>
constexpr Precision precision = {1e-9, "double"};
template <>
constexpr Precision precision<float> = {1e-5, "float"};

std::string kernels_name(Kernels kernels) { return kernels == Kernels::fused ? "fused" : "reference"; }

// A value that a file must have, or the test ends with the file's own sentence.
template <class T>
T must(Expected<T> value) {
  if (!value) FAIL(value.error());
  return *std::move(value);
}

// One golden file.
struct Goldens {
  SafetensorsFile file;

  explicit Goldens(const std::string& name)
      : file(must(SafetensorsFile::open(std::string(GLASSFORMER_SOURCE_DIR) + "/tests/goldens/" + name + ".safetensors"))) {}
  const TensorEntry& entry(const std::string& name) const {
    const TensorEntry* found = file.find(name);
    if (found == nullptr) FAIL(file.name(), ": no tensor ", name);
    return *found;
  }
  // A vector is one row, a scalar one row of one.
  Matrix<double> at(const std::string& name) const {
    const TensorEntry& tensor = entry(name);
    Matrix<double> values(tensor.shape.size() == 2 ? tensor.shape[0] : 1, tensor.shape.empty() ? 1 : tensor.shape.back());
    const auto read = file.read<double>(tensor, {values.data(), static_cast<std::size_t>(values.size())});
    if (!read) FAIL(read.error());
    return values;
  }
  double scalar(const std::string& name) const { return at(name)(0, 0); }
  template <class I>
  std::vector<I> integers(const std::string& name) const {
    const TensorEntry& tensor = entry(name);
    REQUIRE(tensor.dtype == Dtype::I64);
    std::vector<std::int64_t> values(static_cast<std::size_t>(tensor.size()));
    REQUIRE(tensor.bytes.size() == values.size() * sizeof(std::int64_t));
    std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
    return {values.begin(), values.end()};
  }
  // How many names begin so.
  Index count(std::string_view prefix) const {
    return std::ranges::count_if(file.tensors(), [&](const TensorEntry& tensor) { return tensor.name.starts_with(prefix); });
  }
};

ModelConfig gpt2_config() {
  ModelConfig c;
  c.vocab = 13, c.context = 10, c.layers = 2, c.heads = 2, c.width = 8, c.hidden = 32;
  c.position = Position::learned, c.norm = ops::Norm::layer, c.mlp = Mlp::gelu_tanh;
  c.bias = true, c.norm_bias = true, c.tied = true;
  return c;
}

ModelConfig llama_config() {
  ModelConfig c;
  c.vocab = 13, c.context = 10, c.layers = 2, c.heads = 4, c.kv_heads = 2, c.width = 16, c.hidden = 24;
  c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu;
  c.bias = false, c.norm_bias = false, c.tied = false;
  return c;
}

ModelConfig qlora_config() {
  ModelConfig c = llama_config();
  c.layers = 1, c.width = 64, c.hidden = 192;
  return c;
}

double relative_error(const Matrix<double>& a, const Matrix<double>& b) {
  REQUIRE(a.rows() == b.rows());
  REQUIRE(a.cols() == b.cols());
  const double total = a.norm() + b.norm();
  return total == 0 ? 0 : (a - b).norm() / total;
}

// Checks tensors and remembers the worst.
class Comparison {
 public:
  explicit Comparison(double tolerance) : tolerance_(tolerance) {}
  void check(const std::string& name, const Matrix<double>& engine, const Matrix<double>& golden) {
    const double error = relative_error(engine, golden);
    INFO(name, ": relative error ", error, ", norms ", engine.norm(), " and ", golden.norm());
    CHECK(error <= tolerance_);
    if (!(error <= worst_)) worst_ = error, where_ = name;
  }
  void check(const std::string& name, double engine, double golden) {
    check(name, Matrix<double>::Constant(1, 1, engine), Matrix<double>::Constant(1, 1, golden));
  }
  // The key's part of the joined bias moves all scores of a query by the same amount, which softmax ignores: its gradient is zero in
  // theory and rounding noise here and in PyTorch, so the noise must be small beside the gradient of the whole bias. The query's and
  // the value's parts are compared like any tensor.
  void check_qkv_bias(const std::string& name, const ModelConfig& config, const Matrix<double>& engine, const Matrix<double>& golden) {
    const Index head_dim = config.width / config.heads, kv_heads = config.kv_heads == 0 ? config.heads : config.kv_heads;
    const Index q = config.heads * head_dim, k = kv_heads * head_dim;
    REQUIRE(engine.cols() == q + 2 * k);
    check(name + " (q)", engine.leftCols(q), golden.leftCols(q));
    check(name + " (v)", engine.rightCols(k), golden.rightCols(k));
    INFO(name, " (k)");
    CHECK(golden.middleCols(q, k).norm() <= 1e-14 * golden.norm());
    CHECK(engine.middleCols(q, k).norm() <= tolerance_ * golden.norm());
  }
  void report(const std::string& what) const { MESSAGE(what, ": worst relative error ", worst_, " in ", where_); }

 private:
  double tolerance_, worst_ = -1;
  std::string where_ = "nothing";
};

template <class S>
Matrix<double> in_double(MatrixView<S> view) {
  return (*view).template cast<double>();
}

// The tensors of the arena from the golden ones, name for name and shape for shape.
template <class S>
void fill(Arena<S> arena, const Goldens& goldens, const std::string& prefix) {
  REQUIRE(goldens.count(prefix) == static_cast<Index>(arena.layout().tensors().size()));
  const auto read = read_arena(goldens.file, prefix, arena);
  if (!read) FAIL(read.error());
}

template <class S>
void check_gradients(Comparison& comparison, const Arena<S>& gradients, const Goldens& goldens, const std::string& prefix,
                     const ModelConfig& config) {
  REQUIRE(goldens.count(prefix) == static_cast<Index>(gradients.layout().tensors().size()));
  for (const TensorInfo& tensor : gradients.layout().tensors()) {
    const Matrix<double> engine = in_double(gradients.view(tensor)), golden = goldens.at(prefix + tensor.name);
    if (tensor.name.ends_with("attn.qkv.bias")) {
      comparison.check_qkv_bias(prefix + tensor.name, config, engine, golden);
    } else {
      comparison.check(prefix + tensor.name, engine, golden);
    }
  }
}

// The packed batch of a golden file, and a pass over it.
template <class S>
struct PackedPass {
  std::vector<Token> ids, targets;
  std::vector<Index> starts;
  Index scored;
  Workspace workspace;
  Pass<S> pass;

  PackedPass(const Goldens& goldens, Kernels kernels)
      : ids(goldens.integers<Token>("ids")), targets(goldens.integers<Token>("targets")), starts(goldens.integers<Index>("starts")) {
    scored = static_cast<Index>(targets.size()) - std::count(targets.begin(), targets.end(), -1);
    pass.exec.kernels = kernels;
    pass.starts = starts;
    pass.workspace = &workspace;
  }
  Matrix<double> logits(const Decoder<S>& model) {
    Matrix<S> hidden(pass.tokens(), model.config.width), out(pass.tokens(), model.config.vocab);
    decoder_forward<S>(model, pass, ids, hidden);
    decoder_logits<S>(model, pass, hidden, out);
    return out.template cast<double>();
  }
  // The mean loss; its gradient is added to `gradients`.
  double loss(const Decoder<S>& model, DecoderGrads<S>& gradients) {
    DecoderSaved<S> saved;
    const Loss loss = decoder_loss<S>(model, pass, ids, targets, &saved, &gradients, S(1) / static_cast<S>(scored));
    CHECK(loss.count == scored);
    return loss.mean();
  }
};

template <class S>
void check_model(const std::string& name, const ModelConfig& config, Kernels kernels) {
  const Goldens goldens(name);
  const Decoder<S> model = make_decoder<S>(config);
  fill(model.arena, goldens, "param.");
  PackedPass<S> batch(goldens, kernels);
  DecoderGrads<S> gradients = make_gradients(model);

  Comparison forward(precision<S>.model), backward(precision<S>.model);
  forward.check("logits", batch.logits(model), goldens.at("logits"));
  forward.check("loss", batch.loss(model, gradients), goldens.scalar("loss"));
  check_gradients(backward, gradients.arena, goldens, "grad.", config);
  const std::string what = name + ", " + kernels_name(kernels) + ", " + precision<S>.name;
  forward.report(what + ", logits and loss");
  backward.report(what + ", gradients");
}

void check_five_steps(const std::string& name, const ModelConfig& config, Kernels kernels) {
  const Goldens goldens(name);
  const Decoder<double> model = make_decoder<double>(config);
  fill(model.arena, goldens, "param.");
  PackedPass<double> batch(goldens, kernels);
  DecoderGrads<double> gradients = make_gradients(model);
  const Arena<double> m(model.arena.shared_layout()), v(model.arena.shared_layout());
  const Matrix<double> losses = goldens.at("losses"), norms = goldens.at("norms");
  REQUIRE(losses.size() == 5);

  // In double the noise in the key bias's gradient, 1e-17, is far below ε = 1e-8, so AdamW makes steps of 1e-12 of it, not ±rate:
  // nothing has to be left out. In float it would not hold, so the steps are compared in double alone.
  Comparison comparison(1e-8);
  for (Index step = 0; step < 5; ++step) {
    gradients.arena.set_zero();
    comparison.check("losses", batch.loss(model, gradients), losses(step));
    const double norm = std::sqrt(ops::sum_of_squares<double>(gradients.arena.values(), batch.pass.exec));
    comparison.check("norms", norm, norms(step));
    REQUIRE(norm > 1);  // or clipping would go untested
    ops::AdamwStep update{.rate = 1e-3, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .decay = 0, .step = step + 1, .gradient_scale = 1};
    update.gradient_scale = std::min(1.0, 1.0 / (norm + 1e-6));  // as clip_grad_norm_(…, 1.0)
    for (const TensorInfo& tensor : model.arena.layout().tensors()) {
      update.decay = tensor.decay() ? 0.1 : 0;
      const auto span = [&](const Arena<double>& arena) {
        return std::span(arena.view(tensor).data, static_cast<std::size_t>(tensor.size()));
      };
      ops::adamw_update<double>(update, span(model.arena), span(gradients.arena), span(m), span(v), batch.pass.exec);
    }
  }
  for (const TensorInfo& tensor : model.arena.layout().tensors()) {
    const Matrix<double> golden = goldens.at("after." + tensor.name);
    CHECK(relative_error(goldens.at("param." + tensor.name), golden) > 1e-5);  // it moved
    comparison.check("after." + tensor.name, in_double(model.arena.view(tensor)), golden);
  }
  comparison.report(name + ", five AdamW steps, " + kernels_name(kernels));
}

// An adapter on the model of a golden file, as make_goldens.py's adapter_goldens() has it there.
struct AdapterCase {
  std::string file, prefix;
  ModelConfig config;
  LoraConfig lora;
  bool quantized = false;
};

std::vector<AdapterCase> adapter_cases() {
  LoraConfig lora;
  lora.rank = 2, lora.alpha = 4, lora.targets = {"attn.qkv", "mlp.down"};
  LoraConfig dora;
  dora.rank = 3, dora.alpha = 4, dora.dora = true, dora.rank_stabilized = true;
  dora.targets = {"attn.q", "attn.v", "attn.out", "mlp.gate", "mlp.down"};
  LoraConfig qlora;
  qlora.rank = 2, qlora.alpha = 8, qlora.targets = {"attn.q", "attn.v", "mlp.gate", "mlp.down"};
  return {
      {"gpt2", "lora.", gpt2_config(), lora}, {"llama", "dora.", llama_config(), dora}, {"qlora", "lora.", qlora_config(), qlora, true}};
}

template <class S>
Decoder<S> base_of(const AdapterCase& c, const Goldens& goldens) {
  if (c.quantized) {
    const Decoder<float> whole = make_decoder<float>(c.config);
    fill(whole.arena, goldens, "param.");
    return convert_decoder<S>(quantize_decoder(whole, QuantizeTypes::all(QuantizedType::nf4)));
  }
  Decoder<S> model = make_decoder<S>(c.config);
  fill(model.arena, goldens, "param.");
  return model;
}

template <class S>
void check_adapter(const AdapterCase& c, Kernels kernels) {
  const Goldens goldens(c.file);
  Decoder<S> model = base_of<S>(c, goldens);
  PackedPass<S> batch(goldens, kernels);
  Comparison comparison(precision<S>.model);
  comparison.check("logits of the base", batch.logits(model), goldens.at("logits"));

  const Adapter<S> adapter = make_adapter<S>(model, c.lora, 0);
  fill(adapter.arena, goldens, c.prefix + "param.");
  attach(model, adapter);
  DecoderGrads<S> gradients = make_adapter_gradients(model, adapter);
  CHECK_FALSE(static_cast<bool>(gradients.arena));  // the base is frozen
  const Matrix<double> golden = goldens.at(c.prefix + "logits");
  CHECK(relative_error(golden, goldens.at("logits")) > 1e-2);  // it matters
  comparison.check("logits", batch.logits(model), golden);
  comparison.check("loss", batch.loss(model, gradients), goldens.scalar(c.prefix + "loss"));
  check_gradients(comparison, gradients.adapter, goldens, c.prefix + "grad.", c.config);

  if (!c.quantized) {
    const Arena<S> kept = merge(model, adapter, batch.pass.exec);
    comparison.check("merged logits", batch.logits(model), golden);
    restore(model, kept);
  } else {
    detach(model);
  }
  comparison.check("logits without the adapter", batch.logits(model), goldens.at("logits"));
  comparison.report(c.file + ", " + c.prefix + " " + kernels_name(kernels) + ", " + precision<S>.name);
}

// By the trainer itself: what it clips, decays and refreshes after a step.
void check_five_adapter_steps(const AdapterCase& c, Kernels kernels) {
  const Goldens goldens(c.file);
  Decoder<double> model = base_of<double>(c, goldens);
  const Adapter<double> adapter = make_adapter<double>(model, c.lora, 0);
  fill(adapter.arena, goldens, c.prefix + "param.");
  attach(model, adapter);
  TrainOptions options;
  options.steps = 5, options.warmup = 0, options.rate = options.min_rate = 1e-3;
  options.exec.kernels = kernels;
  Trainer<double> trainer(model, adapter, options);
  const Batch batch{goldens.integers<Token>("ids"), goldens.integers<Token>("targets"), goldens.integers<Index>("starts")};
  const Matrix<double> losses = goldens.at(c.prefix + "losses"), norms = goldens.at(c.prefix + "norms");
  REQUIRE(losses.size() == 5);

  Comparison comparison(1e-8);
  for (Index step = 0; step < 5; ++step) {
    const StepReport report = trainer.step([&](Index, Index) { return batch; });
    comparison.check("losses", report.loss_nats, losses(step));
    comparison.check("norms", report.gradient_norm, norms(step));
    REQUIRE(report.gradient_norm > options.clip);  // or clipping would go untested
  }
  for (const TensorInfo& tensor : adapter.arena.layout().tensors()) {
    const Matrix<double> after = goldens.at(c.prefix + "after." + tensor.name);
    CHECK(relative_error(goldens.at(c.prefix + "param." + tensor.name), after) > 1e-5);  // it moved
    comparison.check("after." + tensor.name, in_double(adapter.arena.view(tensor)), after);
  }
  comparison.report(c.file + ", " + c.prefix + " five AdamW steps, " + kernels_name(kernels));
}

template <class S>
void check_muon(const std::string& shape, Kernels kernels) {
  const Goldens goldens("muon");
  const Exec exec{.threads = 1, .kernels = kernels};
  Comparison comparison(precision<S>.model);
  Matrix<S> x = goldens.at(shape + ".x").cast<S>();
  ops::newton_schulz<S>(x, 5, exec);
  comparison.check(shape + ".y", x.template cast<double>(), goldens.at(shape + ".y"));

  Matrix<S> theta = goldens.at(shape + ".theta").cast<S>();
  Matrix<S> m = Matrix<S>::Zero(theta.rows(), theta.cols());
  const auto view = [](Matrix<S>& matrix) { return MatrixView<S>{matrix.data(), matrix.rows(), matrix.cols()}; };
  const ops::MuonStep update{.rate = 0.02, .momentum = 0.95, .decay = 0.1, .gradient_scale = 0.5, .iterations = 5};
  for (const std::string step : {"1", "2"}) {
    Matrix<S> gradient = goldens.at(shape + ".gradient." + step).cast<S>();
    ops::muon_update<S>(update, view(theta), view(gradient), view(m), exec);
    comparison.check(shape + ".after." + step, theta.template cast<double>(), goldens.at(shape + ".after." + step));
    comparison.check(shape + ".m." + step, m.template cast<double>(), goldens.at(shape + ".m." + step));
  }
  comparison.report("Muon, " + shape + ", " + kernels_name(kernels) + ", " + precision<S>.name);
}

TEST_CASE("PyTorch: a GPT-2-style decoder's logits, loss and gradients") {
  for (const Kernels kernels : {Kernels::fused, Kernels::reference}) {
    check_model<double>("gpt2", gpt2_config(), kernels);
    check_model<float>("gpt2", gpt2_config(), kernels);
  }
}

TEST_CASE("PyTorch: a Llama-style decoder's logits, loss and gradients") {
  for (const Kernels kernels : {Kernels::fused, Kernels::reference}) {
    check_model<double>("llama", llama_config(), kernels);
    check_model<float>("llama", llama_config(), kernels);
  }
}

TEST_CASE("PyTorch: five AdamW steps with clipping") {
  for (const Kernels kernels : {Kernels::fused, Kernels::reference}) {
    check_five_steps("gpt2", gpt2_config(), kernels);
    check_five_steps("llama", llama_config(), kernels);
  }
}

TEST_CASE("PyTorch's side quantizes to the same bytes: NF4 with double quantization, q8_0") {
  const Goldens goldens("qlora");
  const auto same = [&](const std::string& name, const void* data, std::size_t bytes) {
    const TensorEntry& golden = goldens.entry(name);
    REQUIRE(golden.bytes.size() == bytes);
    INFO(name);
    CHECK(std::memcmp(golden.bytes.data(), data, bytes) == 0);
  };
  int matrices = 0;
  for (const TensorEntry& tensor : goldens.file.tensors()) {
    if (!tensor.name.starts_with("param.") || tensor.shape.size() != 2) continue;
    ++matrices;
    const std::string prefix = "quantized." + tensor.name.substr(6);
    const bool embedding = tensor.name.find("embed") != std::string::npos;
    const QuantizedMatrix q =
        quantize(embedding ? QuantizedType::q8_0 : QuantizedType::nf4, Matrix<float>(goldens.at(tensor.name).cast<float>()));
    same(prefix + ".blocks", q.blocks.data(), q.blocks.size());
    if (embedding) continue;
    same(prefix + ".absmax", q.absmax.data(), q.absmax.size());
    same(prefix + ".group_maximum", q.group_maximum.data(), q.group_maximum.size() * sizeof(float));
    same(prefix + ".offset", &q.offset, sizeof q.offset);
  }
  CHECK(matrices == 6);
}

TEST_CASE("PyTorch: LoRA, rank-stabilised DoRA and QLoRA: logits, loss, gradients, merged") {
  for (const AdapterCase& c : adapter_cases()) {
    for (const Kernels kernels : {Kernels::fused, Kernels::reference}) {
      check_adapter<double>(c, kernels);
      check_adapter<float>(c, kernels);
    }
  }
}

TEST_CASE("PyTorch: five AdamW steps of LoRA, DoRA and QLoRA by the trainer") {
  for (const AdapterCase& c : adapter_cases()) {
    for (const Kernels kernels : {Kernels::fused, Kernels::reference}) check_five_adapter_steps(c, kernels);
  }
}

TEST_CASE("PyTorch: Newton-Schulz and Muon steps") {
  for (const std::string shape : {"tall", "wide"}) {
    for (const Kernels kernels : {Kernels::fused, Kernels::reference}) {
      check_muon<double>(shape, kernels);
      check_muon<float>(shape, kernels);
    }
  }
}

}  // namespace
}  // namespace glassformer

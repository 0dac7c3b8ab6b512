// Questions about LoRA: what is trained, the scale, merging, the start.
#include <cmath>

#include "glassformer/model/adapter.hpp"
#include "glassformer/model/reading.hpp"
#include "glassformer/train/trainer.hpp"
#include "learn/formulas.hpp"
#include "learn/interview.hpp"

namespace glassformer::learn {
namespace {

double number(Index n) { return static_cast<double>(n); }

LoraConfig low_rank(Index rank, std::vector<std::string> targets = {}) {
  LoraConfig c;
  c.rank = rank, c.alpha = 2 * number(rank), c.targets = std::move(targets);
  return c;
}

// Of an adapter on all linear layers of a GPT-2: qkv, out, up, down.
double all_linear(const ModelConfig& c, double rank) {
  const double C = number(c.width), F = number(c.hidden);
  return number(c.layers) * (adapter_parameters(rank, 3 * C, C) + adapter_parameters(rank, C, C) + adapter_parameters(rank, F, C) +
                             adapter_parameters(rank, C, F));
}

double norm_of(const Arena<float>& arena, std::string_view ending) {
  double squares = 0;
  for (const TensorInfo& t : arena.layout().tensors()) {
    if (t.name.ends_with(ending)) squares += (*arena.view(t)).template cast<double>().squaredNorm();
  }
  return std::sqrt(squares);
}

// B is zero at first: numbers in it, so that the adapter does something.
template <class S>
void fill_b(const Adapter<S>& adapter, const RandomStream& stream) {
  for (const TensorInfo& t : adapter.arena.layout().tensors()) {
    if (!t.name.ends_with("lora_B")) continue;
    const MatrixView<S> b = adapter.arena.view(t);
    for (Index i = 0; i < b.size(); ++i) b.data[i] = static_cast<S>(random_normal(stream.at(t.name), static_cast<std::uint64_t>(i)));
  }
}

InterviewQuestion one_matrix(std::uint64_t seed) {
  Draws d(seed, "lora-parameters");
  const Index C = d.one_of({64, 96, 128, 256}), r = d.one_of({1, 2, 4, 8, 16}), H = 4;
  const ModelConfig c = gpt2_like(1, H, C, 16, 16);
  const double formula = adapter_parameters(number(r), number(4 * C), number(C));
  return {
      .id = "lora-parameters",
      .text =
          fmt::format("LoRA of rank {} on one matrix, from width {} to {} (an MLP's first). How many parameters are trained?", r, C, 4 * C),
      .unit = "parameters",
      .tolerance = {0.01, 0},
      .compute = [=] { return number(make_adapter<float>(c, low_rank(r, {"mlp.up"}), seed).arena.layout().parameters()); },
      .formula = formula,
      .derivation = fmt::format("A is [r, I], B is [O, r]: r·(I + O) = {}·({} + {}) = {}, of {} in the matrix.", r, C, 4 * C,
                                grouped(formula), grouped(number(4 * C * C))),
      .carry_over = fmt::format(
          "PEFT's usual adapter of GPT-2, rank 8 on c_attn in 12 layers: 12·8·(768 + 2,304) = {} parameters, {}% of the model.",
          grouped(12 * adapter_parameters(8, 2304, 768)), digits(100 * 12 * adapter_parameters(8, 2304, 768) / parameters(gpt2_small()))),
      .carry_over_number = 12 * adapter_parameters(8, 2304, 768),
      .follow_up = "At which rank does LoRA have as many parameters as the matrix itself?",
      .follow_up_answer =
          "At r = I·O/(I + O): for a square matrix at half its width. Well below that a plain full update of the matrix would cost the "
          "same and could do more.",
      .read = {"docs/lora.md", "glassformer explain lora", "docs/checkpoints.md"}};
}

InterviewQuestion trained_share(std::uint64_t seed) {
  Draws d(seed, "lora-share");
  const Index L = d.between(2, 4), C = d.one_of({128, 192, 256}), r = d.one_of({2, 4, 8}), V = d.one_of({256, 512});
  const ModelConfig c = gpt2_like(L, 4, C, 64, V);
  const double share = 100 * all_linear(c, number(r)) / parameters(c), there = 32 * 2 * adapter_parameters(8, 4096, 4096);
  return {.id = "lora-share",
          .text = fmt::format("A GPT-2 with {} layers, width {}, {} tokens of vocabulary, context 64. LoRA of rank {} on all its linear "
                              "layers (qkv joined). Trained parameters, in % of the model's?",
                              L, C, V, r),
          .unit = "%",
          .tolerance = {0.15, 0},
          .compute =
              [=] {
                const Decoder<float> model = make_decoder<float>(c);
                return 100 * number(make_adapter<float>(c, low_rank(r), seed).arena.layout().parameters()) /
                       number(model.arena.layout().parameters());
              },
          .formula = share,
          .agreement = {1e-12, 0},
          .derivation = fmt::format(
              "A layer: r·(4C + 2C + 5C + 5C) = 16·r·C against 12·C²; all: {} of {}, {}%. It falls with the width: r/C is what counts.",
              grouped(all_linear(c, number(r))), grouped(parameters(c)), digits(share)),
          .carry_over = fmt::format("Llama 2 7B, rank 8 on q and v as in the paper: 32·2·8·(4096 + 4096) = {} parameters, {}%.",
                                    grouped(there), digits(100 * there / parameters(llama2_7b()))),
          .carry_over_number = there,
          .follow_up = "When is LoRA not enough?",
          .follow_up_answer =
              "When much must be learned: a new language, a domain with many new facts, far more text than the adapter can hold. It then "
              "stays above full fine-tuning's loss at any "
              "rate. For a style, a format or one task, a small rank usually reaches it.",
          .read = {"docs/lora.md", "glassformer explain lora"}};
}

InterviewQuestion scale(std::uint64_t seed) {
  Draws d(seed, "lora-scale");
  const Index r = d.one_of({4, 16, 64});
  const double alpha = d.number_of({8.0, 16.0, 32.0});
  const bool stabilized = d.between(0, 1) == 1;
  const double formula = stabilized ? alpha / std::sqrt(number(r)) : alpha / number(r);
  return {.id = "lora-scale",
          .text = fmt::format("{} with rank {} and α = {}. By what factor is B·A·x multiplied before it is added?",
                              stabilized ? "rsLoRA" : "LoRA", r, alpha),
          .unit = "",
          .tolerance = {0.01, 0},
          .compute =
              [=] {  // B·A·x = 1 in the first output; what is added there is the scale
                LoraConfig config = low_rank(r);
                config.alpha = alpha, config.rank_stabilized = stabilized;
                Matrix<double> A = Matrix<double>::Zero(r, 3), B = Matrix<double>::Zero(2, r), x = Matrix<double>::Zero(1, 3),
                               y = Matrix<double>::Zero(1, 2);
                A(0, 0) = B(0, 0) = x(0, 0) = 1;
                LoraView<double> view;
                view.a = {A.data(), r, 3}, view.b = {B.data(), 2, r}, view.scale = config.scale();
                Workspace workspace;
                lora_forward<double>(view, {}, {}, x, {}, y, workspace, {});
                return y(0, 0);
              },
          .formula = formula,
          .agreement = {1e-12, 0},
          .derivation = fmt::format("{} = {}/{} = {}.", stabilized ? "α/√r" : "α/r", alpha,
                                    stabilized ? fmt::format("√{}", r) : fmt::format("{}", r), digits(formula)),
          .carry_over = fmt::format("A usual setting, r = 8 and α = 16: factor {}. A loader that multiplies by α makes the change eight "
                                    "times too large; it was a bug in more than one tool.",
                                    digits(16 / 8.0)),
          .carry_over_number = 16 / 8.0,
          .follow_up = "You double the rank and keep α. What happens to the learning rate that you tuned?",
          .follow_up_answer =
              "The factor halves while twice as many terms are summed, so each learns more slowly and large ranks look no better than "
              "small ones. With α/√r (rsLoRA) the size of the update is "
              "about the same at every rank, and so is the best rate.",
          .read = {"docs/lora.md", "glassformer explain lora", "docs/checkpoints.md"}};
}

InterviewQuestion fresh_adapter(std::uint64_t seed) {
  Draws d(seed, "lora-start");
  const Index r = d.one_of({1, 4, 8}), n = d.between(6, 12);
  return {.id = "lora-start",
          .text = fmt::format("An adapter of rank {} has just been made and attached; nothing is trained yet. By how much do the model's "
                              "logits change at most?",
                              r),
          .unit = "",
          .tolerance = {0, 1e-6},
          .compute =
              [=] {
                Decoder<float> model = random_decoder(gpt2_like(2, 2, 32, 16, 40), seed);
                const std::vector<Token> ids = random_ids(n, 40, d.stream("ids"));
                const Matrix<float> before = decoder_read<float>(model, ids);
                const Adapter<float> adapter = make_adapter<float>(model.config, low_rank(r), seed);
                attach(model, adapter);
                return static_cast<double>((decoder_read<float>(model, ids) - before).cwiseAbs().maxCoeff());
              },
          .formula = 0,
          .agreement = {0, 1e-7},
          .derivation = "A is drawn at random, B is zero, so B·A = 0: the adapted model starts as the model.",
          .carry_over =
              "So with every adapter that PEFT makes, of GPT-2 or of a 70B model: the change before the first step is 0, and the loss "
              "starts where the base model's is. If yours does not, B or the base is wrong.",
          .carry_over_number = 0,
          .follow_up = "Why not set both A and B to zero?",
          .follow_up_answer =
              "dB is proportional to A·x and dA to B. With both at zero both gradients are zero, and nothing ever moves. With A random, B "
              "moves in the first step and A from the second on.",
          .read = {"docs/lora.md", "glassformer explain lora"}};
}

InterviewQuestion first_gradient(std::uint64_t seed) {
  Draws d(seed, "lora-first-gradient");
  const Index r = d.one_of({2, 4, 8});
  return {.id = "lora-first-gradient",
          .text = fmt::format("Rank {}, the first training step. What is the norm of the gradient of all A matrices together?", r),
          .unit = "",
          .tolerance = {0, 1e-6},
          .compute =
              [=] {
                Decoder<float> model = random_decoder(gpt2_like(2, 2, 32, 16, 40), seed);
                const Adapter<float> adapter = make_adapter<float>(model.config, low_rank(r), seed);
                attach(model, adapter);
                DecoderGrads<float> grads = make_adapter_gradients(model, adapter);
                const std::vector<Token> ids = random_ids(16, 40, d.stream("ids")), targets = random_ids(16, 40, d.stream("targets"));
                const std::vector<Index> starts = {0, 16};
                Workspace workspace;
                Pass<float> pass;
                pass.starts = starts, pass.workspace = &workspace, pass.training = true;
                DecoderSaved<float> saved;
                decoder_loss<float>(model, pass, ids, targets, &saved, &grads, 1.0F / 16);
                require(norm_of(grads.adapter, "lora_B") > 0, "interview: expected a gradient of B");
                return norm_of(grads.adapter, "lora_A");
              },
          .formula = 0,
          .agreement = {0, 1e-12},
          .derivation = "dA = s·(dy·B)ᵀ·x and B is still zero: 0. B has a gradient at once; A follows when B has moved.",
          .carry_over =
              "In a 7B model's first LoRA step only half of the adapter's matrices learn: every A has gradient 0. That is no bug, and "
              "monitoring should not alarm on it.",
          .carry_over_number = 0,
          .follow_up = "Would it be the same with B random and A zero?",
          .follow_up_answer =
              "The start would be neutral too, and A would move first. Studies find the usual choice (A random) stable at larger learning "
              "rates; the two are not symmetric because A reads "
              "inputs and B writes outputs (Hayou et al. 2024).",
          .read = {"docs/gradients.md", "glassformer explain lora"}};
}

// How many rows are no combination of the others: Gram and Schmidt, the largest that is left first.
Index rank_of(Matrix<double> x) {
  const double largest = x.rowwise().norm().maxCoeff();
  for (Index rank = 0; rank < x.rows(); ++rank) {
    Index pivot = 0;
    const double left = x.rowwise().norm().maxCoeff(&pivot);
    if (left <= 1e-9 * largest) return rank;
    const Vector<double> direction = x.row(pivot) / left;
    for (Index i = 0; i < x.rows(); ++i) x.row(i) -= x.row(i).dot(direction) * direction;
  }
  return x.rows();
}

InterviewQuestion merged_rank(std::uint64_t seed) {
  Draws d(seed, "lora-merged-rank");
  const Index a = d.between(1, 6), b = d.between(1, 6);
  return {
      .id = "lora-merged-rank",
      .text = fmt::format("Two trained adapters of the same 64×64 matrix, ranks {} and {}, are merged into it one after the other. What "
                          "rank has the whole change?",
                          a, b),
      .unit = "",
      .tolerance = kExact,
      .compute =
          [=] {
            Decoder<double> model = convert_decoder<double>(random_decoder(gpt2_like(1, 2, 64, 16, 16), seed));
            const Matrix<double> before = *model.blocks[0].attention.out.weight;
            for (const Index r : {a, b}) {
              const Adapter<double> adapter =
                  make_adapter<double>(model.config, low_rank(r, {"attn.out"}), seed + static_cast<std::uint64_t>(r));
              fill_b(adapter, d.stream("b").at(static_cast<std::uint64_t>(r)).at(static_cast<std::uint64_t>(before.size())));
              attach(model, adapter);
              merge(model, adapter, {});
            }
            return number(rank_of(*model.blocks[0].attention.out.weight - before));
          },
      .formula = number(a == b ? a : a + b),
      .derivation = fmt::format(
          "B₁A₁ + B₂A₂ is [B₁ B₂]·[A₁; A₂], a product over {} + {} inner columns: rank {}, unless their directions coincide.", a, b, a + b),
      .carry_over = fmt::format("Ten adapters of rank 8 merged into one Llama 2 matrix of 4096×4096 make a change of rank {} at most: 2% "
                                "of its full rank, and they may disturb each other.",
                                10 * 8),
      .carry_over_number = 10 * 8,
      .follow_up = "The merged model answers slightly differently from the unmerged one. Is that a bug?",
      .follow_up_answer =
          "Not by itself: W + s·B·A is rounded once more, in 16 bits visibly so, and products are summed in another order. Merging into a "
          "4-bit base is another matter: the change must be "
          "rounded to the grid and part of it is lost.",
      .read = {"docs/lora.md", "glassformer explain lora"}};
}

InterviewQuestion training_memory(std::uint64_t seed) {
  Draws d(seed, "lora-memory");
  const Index C = d.one_of({64, 128}), r = d.one_of({2, 4, 8}), L = d.between(2, 3);
  const ModelConfig c = gpt2_like(L, 4, C, 64, 500);
  const double P = parameters(c), A = all_linear(c, number(r)), there = 32 * 2 * adapter_parameters(8, 4096, 4096);
  return {.id = "lora-memory",
          .text = fmt::format("{} parameters, frozen; an adapter of {} parameters is trained with AdamW, all in 32-bit floats. How many "
                              "bytes for weights, gradients and moments?",
                              grouped(P), grouped(A)),
          .unit = "bytes",
          .tolerance = kBytes,
          .compute =
              [=] {
                Decoder<float> model = make_decoder<float>(c);
                const Adapter<float> adapter = make_adapter<float>(c, low_rank(r), seed);
                attach(model, adapter);
                Trainer<float> trainer(model, adapter, TrainOptions{});
                const DecoderGrads<float> grads = make_adapter_gradients(model, adapter);
                double numbers = number(model.arena.layout().parameters());
                for (const Arena<float>* arena : std::initializer_list<const Arena<float>*>{
                         &adapter.arena, &grads.arena, &grads.adapter, &trainer.first_moment(), &trainer.second_moment()}) {
                  if (*arena) numbers += number(arena->layout().parameters());
                }
                return numbers * sizeof(float);
              },
          .formula = 4 * P + 16 * A,
          .derivation = fmt::format(
              "The base needs its weights only, 4·{}; the adapter weight, gradient, m and v, 16·{}: {} bytes, against 16·{} = {} for all.",
              grouped(P), grouped(A), grouped(4 * P + 16 * A), grouped(P), grouped(16 * P)),
          .carry_over = fmt::format("Llama 2 7B in 16 bits, rank 8 on q and v in 32: {} rather than {}. Activations come on top in both.",
                                    binary_bytes(2 * parameters(llama2_7b()) + 16 * there), binary_bytes(16 * parameters(llama2_7b()))),
          .carry_over_number = 2 * parameters(llama2_7b()) + 16 * there,
          .follow_up = "Is a LoRA step also so much faster?",
          .follow_up_answer =
              "No. The forward pass is the whole model's and the gradient must flow back through every layer to reach the first adapter; "
              "only the products for the weights' own gradients fall away, about "
              "a third of the operations.",
          .read = {"docs/lora.md", "glassformer explain lora", "docs/training.md"}};
}

InterviewQuestion many_products(std::uint64_t seed) {
  Draws d(seed, "lora-products");
  const Index n = d.one_of({10, 20, 50}), C = d.one_of({64, 128}), r = d.one_of({2, 4}), L = d.between(2, 4);
  const ModelConfig c = gpt2_like(L, 4, C, 64, 1000);
  const auto ratio = [](double products, double base, double adapter) { return products * base / (base + products * adapter); };
  const double there = ratio(number(n), parameters(llama2_7b()), 32 * 2 * adapter_parameters(8, 4096, 4096));
  return {.id = "lora-products",
          .text = fmt::format("A bank adapts one model of {} parameters to {} products. How many times less storage do one base and {} "
                              "adapters of {} parameters take than {} fine-tuned models?",
                              grouped(parameters(c)), n, n, grouped(all_linear(c, number(r))), n),
          .unit = "times",
          .tolerance = {0.1, 0},
          .compute =
              [=] {
                const double base = number(make_decoder<float>(c).arena.layout().parameters());
                double adapters = 0;
                for (Index i = 0; i < n; ++i)
                  adapters += number(make_adapter<float>(c, low_rank(r), seed + static_cast<std::uint64_t>(i)).arena.layout().parameters());
                return number(n) * base / (base + adapters);
              },
          .formula = ratio(number(n), parameters(c), all_linear(c, number(r))),
          .agreement = {1e-12, 0},
          .derivation = fmt::format("{0}·P/(P + {0}·A) with P = {1}, A = {2}: {3}.", n, grouped(parameters(c)),
                                    grouped(all_linear(c, number(r))), digits(ratio(number(n), parameters(c), all_linear(c, number(r))))),
          .carry_over = fmt::format("Llama 2 7B with rank 8 on q and v: {} times less for {} products.", digits(there), n),
          .carry_over_number = there,
          .follow_up = "How do you serve all of them from one process?",
          .follow_up_answer =
              "Leave the adapters unmerged: the base product is the same for all requests, and each adds its own small s·B·A·x, so one "
              "batch may mix products. Merging is faster for one product, "
              "but then the weights are that product's.",
          .read = {"docs/lora.md", "glassformer explain lora", "docs/checkpoints.md"}};
}

}  // namespace

void add_lora_questions(Questions& all, std::uint64_t seed) {
  for (const auto make : {one_matrix, trained_share, scale, fresh_adapter, first_gradient, merged_rank, training_memory, many_products}) {
    all.push_back(make(seed)), all.back().topic = "lora";
  }
}

}  // namespace glassformer::learn

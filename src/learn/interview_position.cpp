// Questions about positions.
#include <cmath>
#include <numbers>

#include "glassformer/model/reading.hpp"
#include "glassformer/ops/attention_core.hpp"
#include "glassformer/position/position.hpp"
#include "learn/formulas.hpp"
#include "learn/interview.hpp"

namespace glassformer::learn {
namespace {

double number(Index n) { return static_cast<double>(n); }

InterviewQuestion learned_table(std::uint64_t seed) {
  Draws d(seed, "positions-table");
  const Index context = d.one_of({128, 256, 512, 1024}), width = d.one_of({64, 96, 128, 192});
  return {.id = "positions-table",
          .text = fmt::format("A decoder of width {} is trained on contexts of {} tokens. How many parameters fewer has it with RoPE than "
                              "with learned positions?",
                              width, grouped(number(context))),
          .unit = "parameters",
          .tolerance = {0.02, 0},
          .compute =
              [=] {
                ModelConfig c = gpt2_like(1, 4, width, context, 64);
                const Index learned = make_decoder<float>(c).arena.layout().parameters();
                c.position = Position::rope;
                return number(learned - make_decoder<float>(c).arena.layout().parameters());
              },
          .formula = number(context * width),
          .derivation = fmt::format("A learned row for each place: T·C = {}·{} = {}. RoPE has no parameters.", context, width,
                                    grouped(number(context * width))),
          .carry_over =
              fmt::format("GPT-2: 1,024·768 = {} of its 124M parameters.", grouped(number(gpt2_small().context * gpt2_small().width))),
          .carry_over_number = number(gpt2_small().context * gpt2_small().width),
          .follow_up = "What happens to a model with learned positions at place 1,025 of a context of 1,024?",
          .follow_up_answer =
              "There is no row for it, so it cannot be run: the engine says so. The text must be cut, or the table lengthened and trained. "
              "Sinusoids and RoPE give a value anywhere, which does not mean that the model has learned to use it.",
          .read = {"docs/position.md", "glassformer explain position", "notebook 02"}};
}

// How far the pair turns at `place`: the vector (1, 0) of that pair, rotated by the engine.
double rope_angle(Index place, Index head_dim, double base, Index pair) {
  Matrix<double> x = Matrix<double>::Zero(1, head_dim);
  x(0, pair) = 1;
  const Index places[] = {place};
  rope_rotate<double>(rope_table<double>(1, head_dim, base), places, 1, false, x, {});
  return std::atan2(x(0, pair + head_dim / 2), x(0, pair));
}

InterviewQuestion rope_slowest(std::uint64_t seed) {
  Draws d(seed, "positions-rope-slow");
  const Index D = d.one_of({32, 64, 128}), T = d.one_of({512, 1024, 2048, 4096});
  const auto turned = [](Index tokens, Index head_dim, double base) {
    return number(tokens) * std::pow(base, -number(head_dim - 2) / number(head_dim));
  };
  const double angle = turned(T, D, 10000);
  const ModelConfig llama = llama3_8b();
  const double there = turned(llama.context, llama.head_dim, llama.rope_base);
  return {.id = "positions-rope-slow",
          .text = fmt::format("RoPE with head width {} and base 10,000. By how many radians does its slowest pair turn over {} places?", D,
                              grouped(number(T))),
          .unit = "radians",
          .tolerance = {0.1, 0},
          .compute = [=] { return rope_angle(T, D, 10000, D / 2 - 1); },
          .formula = angle,
          .agreement = {1e-9, 0},
          .derivation = fmt::format("Pair i turns by base^(−2i/D) a place; the slowest has i = D/2 − 1: {}·10000^(−{}/{}) = {} radians.", T,
                                    D - 2, D, digits(angle)),
          .carry_over = fmt::format(
              "Llama 3 8B, base 500,000, D 128: over its 8,192 places the slowest pair turns by {} radians, {}% of a whole turn.",
              digits(there), digits(100 * there / (2 * std::numbers::pi))),
          .carry_over_number = there,
          .follow_up = "Why does a RoPE model fail beyond the length that it was trained on?",
          .follow_up_answer =
              "The slow pairs never completed a turn in training, so beyond it their angles are ones that no key was ever compared at. "
              "Raising the "
              "base (NTK scaling) squeezes the slow pairs back into the angles that were seen and leaves the fast ones nearly alone.",
          .read = {"docs/position.md", "glassformer explain position", "notebook 02"}};
}

InterviewQuestion rope_relative(std::uint64_t seed) {
  Draws d(seed, "positions-rope-distance");
  const Index n = d.between(3, 40), distance = d.between(1, 3), m = n + distance;
  const double score = std::cos(number(distance));
  return {.id = "positions-rope-distance",
          .text = fmt::format("RoPE with head width 2: one pair, which turns by 1 radian a place. Before the rotation q = k = (1, 0). The "
                              "query stands at place {}, the key at "
                              "place {}. What is q·k after the rotation?",
                              m, n),
          .unit = "",
          .tolerance = {0, 0.05},
          .compute =
              [=] {
                Matrix<double> x(2, 2);
                x << 1, 0, 1, 0;
                const Index places[] = {m, n};
                rope_rotate<double>(rope_table<double>(64, 2, 10000), places, 1, false, x, {});
                return x.row(0).dot(x.row(1));
              },
          .formula = score,
          .agreement = {0, 1e-12},
          .derivation = fmt::format(
              "(R_m q)·(R_n k) = q·R_(n−m) k: only the distance counts. Two unit vectors turned {} radians apart: cos({}) = {}.", distance,
              distance, digits(score)),
          .carry_over = fmt::format("The same at places {} and {}, or in the middle of a document of 100,000 tokens: cos({}) again. "
                                    "Llama's heads have 64 such pairs, each with "
                                    "its own speed, and the score is the sum over all.",
                                    m + 1000, n + 1000, distance),
          .carry_over_number = std::cos(number((m + 1000) - (n + 1000))),
          .follow_up = "So are places counted from the start of the text of no use to the model?",
          .follow_up_answer =
              "One score depends on the distance alone, but the causal mask does not: a token that sees few keys spreads its attention "
              "over fewer, and "
              "deeper layers can read from that where they are (Haviv et al. 2022).",
          .read = {"docs/position.md", "glassformer explain position", "notebook 02"}};
}

InterviewQuestion alibi_bias(std::uint64_t seed) {
  Draws d(seed, "positions-alibi");
  const Index H = d.one_of({2, 4, 8}), head = d.between(1, H), distance = d.one_of({4, 8, 16});
  const auto bias = [](Index heads, Index h, Index far) { return -std::pow(2.0, -8 * number(h) / number(heads)) * number(far); };
  const double formula = bias(H, head, distance), there = bias(32, 32, 2048);
  return {.id = "positions-alibi",
          .text = fmt::format("ALiBi with {} heads. What does head number {} (counted from 1) add to the score of a key {} places back?", H,
                              head, distance),
          .unit = "",
          .tolerance = {0.05, 0},
          .compute =
              [=] {  // with q = 0 the score is the bias alone
                const Index T = distance + 1;
                const std::vector<double> zero(static_cast<std::size_t>(T * H), 0.0);
                std::vector<double> z(zero.size());
                ops::AttentionShape shape;
                shape.heads = shape.kv_heads = H, shape.head_dim = 1, shape.slopes = alibi_slopes(H);
                ops::AttentionSequence<double> s;
                s.queries = s.keys = T, s.q = s.k = s.v = {zero.data(), H, 1}, s.z = {z.data(), H, 1};
                double found = 0;
                ops::AttentionWatch<double> watch;
                watch.scores = [&](Index, Index h, MatrixRef<double> scores) {
                  if (h == head - 1) found = scores(T - 1, 0);
                };
                const ops::AttentionSequence<double> sequences[] = {s};
                ops::attention_core_forward<double>(shape, sequences, watch, {});
                return found;
              },
          .formula = formula,
          .agreement = {1e-12, 0},
          .derivation = fmt::format("Head h of H has the slope 2^(−8h/H) = 2^(−{}) = {}; the score loses slope·distance: {}.",
                                    digits(8 * number(head) / number(H)), digits(-formula / number(distance)), digits(formula)),
          .carry_over = fmt::format("With 32 heads, as in MPT-7B, the most far-sighted head has slope 2^−8: a key 2,048 places back gets "
                                    "{}, which divides its weight by e⁸ ≈ 3,000.",
                                    digits(there)),
          .carry_over_number = there,
          .follow_up = "ALiBi's loss stays flat on longer texts. Does it use the longer context?",
          .follow_up_answer =
              "Not by that alone. The bias hides what is far, so the model reads much the same recent window whatever the length. To tell, "
              "score only tokens whose "
              "cause lies far back, or compare with a plain window.",
          .read = {"docs/position.md", "glassformer explain position", "notebook 02"}};
}

InterviewQuestion sinusoid_norm(std::uint64_t seed) {
  Draws d(seed, "positions-sinusoid");
  const Index C = d.one_of({32, 72, 128, 200}), place = d.between(1, 5000);
  return {.id = "positions-sinusoid",
          .text = fmt::format("The sinusoidal encoding of place {} in width {}: what is its length (Euclidean norm)?", place, C),
          .unit = "",
          .tolerance = {0.05, 0},
          .compute =
              [=] {
                Matrix<double> y(1, C);
                sinusoidal_encoding<double>(place, y);
                return y.norm();
              },
          .formula = std::sqrt(number(C) / 2),
          .agreement = {1e-9, 0},
          .derivation = fmt::format("Each of the C/2 pairs is (sin, cos) of one angle, and sin² + cos² = 1 at every place: √({}/2) = {}.",
                                    C, digits(std::sqrt(number(C) / 2))),
          .carry_over = fmt::format("The original Transformer, width 512: √256 = {} at every place. Its embeddings were multiplied by √512 "
                                    "= 22.6, so that the places do not drown them.",
                                    digits(std::sqrt(512 / 2.0))),
          .carry_over_number = std::sqrt(512 / 2.0),
          .follow_up = "What is gained by having the same length everywhere?",
          .follow_up_answer =
              "A place tells itself by direction alone; no place is louder than another. A step of k places is the same rotation "
              "everywhere, so a linear layer can "
              "compute \"k back\". A learned table has to find that for itself.",
          .read = {"docs/position.md", "glassformer explain position", "notebook 02"}};
}

InterviewQuestion order_blind(std::uint64_t seed) {
  Draws d(seed, "positions-none");
  const Index T = d.between(6, 10), a = d.between(0, 2), b = d.between(3, 4);
  return {.id = "positions-none",
          .text = fmt::format("One layer, no positions, no causal mask. Tokens {} and {} of a text of {} change places. By how much do the "
                              "logits after its last token change?",
                              a + 1, b + 1, T),
          .unit = "",
          .tolerance = {0, 1e-4},
          .compute =
              [=] {
                ModelConfig c = gpt2_like(1, 2, 32, 16, 20);
                c.position = Position::none, c.causal = false, c.init_std = c.embedding_std = 0.5;
                const Decoder<double> model = convert_decoder<double>(random_decoder(c, seed));
                std::vector<Token> ids = random_ids(T, 20, d.stream("ids"));
                ids[static_cast<std::size_t>(a)] = 0, ids[static_cast<std::size_t>(b)] = 1;
                const Matrix<double> before = decoder_read<double>(model, ids);
                std::swap(ids[static_cast<std::size_t>(a)], ids[static_cast<std::size_t>(b)]);
                const Matrix<double> after = decoder_read<double>(model, ids);
                return (before.row(T - 1) - after.row(T - 1)).cwiseAbs().maxCoeff();
              },
          .formula = 0,
          .agreement = {0, 1e-10},
          .derivation =
              "softmax(q·kᵀ)·v sums over the keys, and a sum does not know the order of its terms: the last token gets the same mean of "
              "the same values. 0 but for rounding.",
          .carry_over =
              "BERT has no causal mask: without its position table \"man bites dog\" and \"dog bites man\" would be the same to it, "
              "whatever its depth. The difference is 0.",
          .carry_over_number = 0,
          .follow_up = "And with the causal mask?",
          .follow_up_answer =
              "Then the tokens in between see one of the two and not the other, so from the second layer on what the last token reads has "
              "changed: the mask leaks order. "
              "GPTs without positions learn, only worse.",
          .read = {"docs/attention.md", "glassformer explain position", "notebook 02"}};
}

}  // namespace

void add_position_questions(Questions& all, std::uint64_t seed) {
  for (const auto make : {learned_table, rope_slowest, rope_relative, alibi_bias, sinusoid_norm, order_blind}) {
    all.push_back(make(seed)), all.back().topic = "positions";
  }
}

}  // namespace glassformer::learn

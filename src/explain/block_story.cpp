// One block as a story. Legend: C channels, F hidden width.
#include <cmath>
#include <numbers>

#include "explain/block_values.hpp"
#include "explain/teller.hpp"

namespace glassformer {
namespace {

using plot::number;

class BlockTeller : Teller {
 public:
  explicit BlockTeller(const BlockValues& v)
      : v_(v), pre_norm_(v.config.placement == NormPlacement::pre), has_mlp_(v.config.mlp != Mlp::none) {}

  Story tell() {
    opening();
    step("The stream that comes in", fmt::format("x  [1, {}]", C()));
    say(fmt::format("The row of {} in the residual stream: what all earlier parts have added up. Its length is ‖x‖ = {}.",
                    quoted_token(v_.text, v_.place), number(v_.resid_pre.norm())));
    row("resid_pre", v_.resid_pre);
    if (pre_norm_) {
      norm("The first norm", "ln1", v_.ln1, v_.normalized1);
      attention("ln1(x)");
      sum("Back on the stream", "x ← x + attention", "attn_out", v_.resid_pre, v_.attn_out, "resid_mid", v_.resid_mid);
      if (has_mlp_) {
        norm("The second norm", "ln2", v_.ln2, v_.normalized2);
        mlp();
        sum("Back on the stream", "x ← x + mlp", "mlp_out", v_.resid_mid, v_.mlp_out, "resid_post", v_.resid_post);
      }
    } else {
      attention("x");
      norm("Added, then normalised", "ln1", v_.ln1, v_.normalized1);
      put(story::Grid{.key = "resid_mid", .values = v_.resid_mid, .rows = {"resid_mid"}, .columns = numbered("", C())});
      if (has_mlp_) {
        mlp();
        norm("Added, then normalised", "ln2", v_.ln2, v_.normalized2);
      }
    }
    if (!has_mlp_ || !pre_norm_) row("resid_post", v_.resid_post);
    sizes();
    parts();
    data();
    return std::move(out_);
  }

 private:
  Index C() const { return v_.resid_pre.cols(); }
  Index F() const { return v_.post.cols(); }
  bool small() const { return C() <= 8; }

  void row(const char* key, const Matrix<double>& values) {
    put(story::Grid{.key = key, .values = values, .rows = {key}, .columns = numbered("", values.cols())});
  }

  void opening() {
    out_.component = "block";
    const ModelConfig& c = v_.config;
    out_.title = fmt::format("One block, step by step: layer {} of {}", v_.layer, c.layers);
    out_.opening.push_back(v_.text.model.empty() ? "A tiny example, small enough to redo by hand."
                                                 : fmt::format("Model: {}", v_.text.model));
    out_.opening.push_back(
        pre_norm_  ? has_mlp_ ? "Pre-norm: x ← x + attention(ln1(x)), then x ← x + mlp(ln2(x)). The stream itself is never normalised."
                              : "Pre-norm: x ← x + attention(ln1(x)). This model has no MLP."
        : has_mlp_ ? "Post-norm: x ← ln1(x + attention(x)), then x ← ln2(x + mlp(x)). The stream itself is normalised."
                   : "Post-norm: x ← ln1(x + attention(x)). This model has no MLP.");
    out_.opening.push_back(fmt::format("C = {} channels{}; {}.", C(), has_mlp_ ? fmt::format(", F = {} hidden units", F()) : "",
                                       c.norm == ops::Norm::layer ? "LayerNorm" : "RMSNorm"));
    out_.opening.insert(out_.opening.end(), v_.text.notes.begin(), v_.text.notes.end());
    if (v_.adapted) out_.opening.push_back("A LoRA adapter adds to this block's weights.");
    out_.opening.push_back(fmt::format("One token is followed: {}.", quoted_token(v_.text, v_.place)));
  }

  // "(1.00 + 0.00 + …)/4"; of many channels only that it is a sum over them.
  template <class F>
  std::string mean_of(const char* term, F&& text_of) const {
    if (!small()) return fmt::format("Σ {}/{}", term, C());
    std::string sum;
    for (Index c = 0; c < C(); ++c) sum += fmt::format("{}{}", c == 0 ? "" : " + ", text_of(c));
    return fmt::format("({})/{}", sum, C());
  }

  void norm(const char* title, const std::string& name, const NormValues& n, const Matrix<double>& traced) {
    const bool layer = v_.config.norm == ops::Norm::layer, bias = n.bias.size() != 0;
    const std::string of = pre_norm_ ? "x" : name == "ln1" ? "(x + attention)" : "(x + mlp)";
    step(title, fmt::format("{}{} = x̂ ⊙ g{}   x̂ = {}·r", name, pre_norm_ ? "(x)" : of, bias ? " + b" : "", layer ? "(x − mean)" : "x"));
    say(layer ? "LayerNorm takes off the mean of the row and divides by its deviation; then each channel has its own gain and bias."
              : "RMSNorm divides the row by its root mean square, without taking off a mean; then each channel has its own gain.");
    const double epsilon = v_.config.norm_epsilon, r = n.inverse_deviation;
    const Matrix<double> centred = n.read.array() - n.mean;
    const double variance = centred.squaredNorm() / static_cast<double>(C());
    std::vector<std::string> text;
    if (layer) text.push_back(fmt::format("mean = {} = {}", mean_of("x", [&](Index c) { return number(n.read(0, c)); }), number(n.mean)));
    const auto square = [&](Index c) {
      const double d = centred(0, c);
      return d < 0 ? fmt::format("({})²", number(d)) : fmt::format("{}²", number(d));
    };
    text.push_back(
        fmt::format("{} = {} = {}", layer ? "var" : "mean(x²)", mean_of(layer ? "(x − mean)²" : "x²", square), number(variance)));
    text.push_back(fmt::format("r = 1/√({} + {:g}) = {}", number(variance), epsilon, number(r)));
    lines(std::move(text));

    const Matrix<double> x_hat = centred * r;
    Matrix<double> rows(bias ? 5 : 4, C());
    std::vector<std::string> names = {pre_norm_ ? "x" : "sum", "x̂", "g"};
    rows.topRows(3) << n.read, x_hat, n.gain;
    if (bias) rows.row(3) = n.bias.row(0), names.push_back("b");
    rows.bottomRows(1) = traced, names.push_back(name + ".normalized");
    put(story::Grid{.key = "", .values = rows, .rows = names, .columns = numbered("", C())});

    if (layer) hold(n.read.mean(), n.mean, largest(n.read));
    hold(1 / std::sqrt(variance + epsilon), r, r);
    Matrix<double> by_hand = x_hat.cwiseProduct(n.gain);
    if (bias) by_hand += n.bias;
    hold(by_hand, traced, largest(traced));
    add(name == "ln1" ? "ln1.normalized" : "ln2.normalized", traced);
    add(name == "ln1" ? "ln1.read" : "ln2.read", n.read);
    add(name == "ln1" ? "ln1.mean" : "ln2.mean", n.mean);
    add(name == "ln1" ? "ln1.inverse_deviation" : "ln2.inverse_deviation", r);
    add(name == "ln1" ? "ln1.gain" : "ln2.gain", n.gain);
    if (bias) add(name == "ln1" ? "ln1.bias" : "ln2.bias", n.bias);
  }

  void attention(const char* reads) {
    step("Attention", fmt::format("attention({})", reads));
    say(
        fmt::format("The only step in which tokens see each other: this one sees {} of them. `explain attention` tells it head by head. It "
                    "gives back a row of C numbers, of length {}.",
                    v_.keys, number(v_.attn_out.norm())));
    row("attn_out", v_.attn_out);
  }

  void sum(const char* title, const char* formula, const char* what, const Matrix<double>& x, const Matrix<double>& added,
           const char* result, const Matrix<double>& y) {
    step(title, formula);
    say("Added channel by channel: what was there stays, and a later part can read both.");
    Matrix<double> rows(3, C());
    rows << x, added, y;
    put(story::Grid{
        .key = "", .values = rows, .rows = {"x", std::string("+ ") + what, std::string("= ") + result}, .columns = numbered("", C())});
    hold(x + added, y, largest(y));
    add(result, y);
  }

  void mlp() {
    const bool gated = v_.config.mlp == Mlp::swiglu;
    const char* input = pre_norm_ ? "ln2(x)" : "x";
    step("MLP: up", fmt::format("{} = {}·Wupᵀ{}  [1, {}]", gated ? "g, u" : "pre", input, v_.has_bias ? " + b" : "", v_.pre.cols()));
    say(gated ? "Each hidden unit has two weighted sums over the channels: a gate g and a value u."
              : "Each hidden unit is a weighted sum over the channels: it asks how much of one direction there is.");
    const Matrix<double>& h = pre_norm_ ? v_.normalized2 : v_.resid_mid;
    std::vector<std::string> text;
    for (Index i = 0; i < v_.up.rows(); ++i) text.push_back(up_sum(h, i, gated ? i == 0 ? "g" : "u" : "pre"));
    lines(std::move(text));
    row("mlp.pre", v_.pre);

    step("MLP: activation", gated                              ? "post = silu(g)·u   silu(g) = g/(1 + exp(−g))"
                            : v_.config.mlp == Mlp::gelu_exact ? "gelu(x) = x·(1 + erf(x/√2))/2"
                                                               : "gelu(x) = x·(1 + tanh(√(2/π)(x + 0.044715x³)))/2");
    say(gated ? fmt::format("The gate decides how much of the value passes. Unit {}:", v_.unit)
              : fmt::format("Large sums pass, negative ones are held back. Unit {}:", v_.unit));
    lines(gated ? swiglu() : gelu());
    row("mlp.post", v_.post);

    step("MLP: down", fmt::format("mlp = post·Wdownᵀ{}  [1, {}]", v_.has_bias ? " + b" : "", C()));
    say("Each unit adds its own direction to the row, as much as it is active.");
    if (v_.down.size() != 0) down_sum();
    row("mlp_out", v_.mlp_out);
  }

  // Σ h_c·w_c, all of them or the largest.
  std::string up_sum(const Matrix<double>& h, Index i, const char* name) {
    const Matrix<double> terms = h.cwiseProduct(v_.up.row(i));
    const double value = v_.pre(0, i * F() + v_.unit);
    if (!v_.adapted) hold(terms.sum() + v_.up_bias(0, i), value, largest(terms));
    const Index most = small() ? C() : 3;
    std::vector<Index> order(static_cast<std::size_t>(C()));
    for (Index c = 0; c < C(); ++c) order[static_cast<std::size_t>(c)] = c;
    if (!small())
      std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) { return std::abs(terms(0, a)) > std::abs(terms(0, b)); });
    std::string sum;
    for (Index k = 0; k < most; ++k) {
      const Index c = order[static_cast<std::size_t>(k)];
      sum += fmt::format("{}{}·{}", k == 0 ? "" : " + ", number(h(0, c), small() ? 3 : 2), number(v_.up(i, c), small() ? 1 : 2));
    }
    if (!small()) sum += fmt::format(" + ({} smaller)", C() - most);
    if (v_.has_bias) sum += fmt::format(" + {}", number(v_.up_bias(0, i), small() ? 1 : 2));
    return fmt::format("{} {} = {} = {}", name, v_.unit, sum, number(value));
  }

  std::vector<std::string> gelu() {
    const double x = v_.pre(0, v_.unit), y = v_.post(0, v_.unit);
    if (v_.config.mlp == Mlp::gelu_exact) {
      const double e = std::erf(x / std::numbers::sqrt2);
      hold(0.5 * x * (1 + e), y, std::max(std::abs(x), std::abs(y)));
      return {fmt::format("erf({}/√2) = {}", number(x), number(e)), fmt::format("{}·(1 + {})/2 = {}", number(x), number(e), number(y))};
    }
    const double inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x), t = std::tanh(inner);
    hold(0.5 * x * (1 + t), y, std::max(std::abs(x), std::abs(y)));
    return {fmt::format("√(2/π)({} + 0.044715·{}³) = {}", number(x), number(x), number(inner)),
            fmt::format("tanh({}) = {}", number(inner), number(t)), fmt::format("{}·(1 + {})/2 = {}", number(x), number(t), number(y))};
  }
  std::vector<std::string> swiglu() {
    const double g = v_.pre(0, v_.unit), u = v_.pre(0, F() + v_.unit), y = v_.post(0, v_.unit);
    const double silu = g / (1 + std::exp(-g));
    hold(silu * u, y, std::max(std::abs(g * u), std::abs(y)));
    return {fmt::format("silu({}) = {}/(1 + exp({})) = {}", number(g), number(g), number(-g), number(silu)),
            fmt::format("{}·{} = {}", number(silu), number(u), number(y))};
  }

  void down_sum() {
    std::vector<std::string> text;
    for (Index c = 0; c < C() && small(); ++c) {
      std::string sum;
      for (Index f = 0; f < F(); ++f) sum += fmt::format("{}{}·{}", f == 0 ? "" : " + ", number(v_.post(0, f)), number(v_.down(c, f), 1));
      if (v_.has_bias) sum += fmt::format(" + {}", number(v_.down_bias(0, c), 1));
      text.push_back(fmt::format("channel {}: {} = {}", c, sum, number(v_.mlp_out(0, c))));
    }
    lines(std::move(text));
    if (v_.adapted) return;
    Matrix<double> by_hand = v_.post * v_.down.transpose();
    if (v_.has_bias) by_hand += v_.down_bias;
    hold(by_hand, v_.mlp_out, std::max(largest(v_.mlp_out), largest(v_.post)));
  }

  // Length, share and direction of what each half adds.
  void sizes() {
    step("How much each half adds", "‖a‖   ‖a‖/‖x‖   cos(a, x) = a·x/(‖a‖‖x‖)");
    say("x is the stream that comes in. A cosine near 0 writes something new, near 1 makes what is there larger, near −1 takes it away.");
    story::Table table{.key = "sizes", .columns = {"", "length", "share of x", "cosine with x"}, .rows = {}};
    const double x = v_.resid_pre.norm();
    const auto entry = [&](const char* name, const Matrix<double>& a) {
      const double length = a.norm();
      table.rows.push_back({std::string(name), length, length / x, v_.resid_pre.row(0).dot(a.row(0)) / (length * x)});
    };
    entry("resid_pre", v_.resid_pre), entry("attn_out", v_.attn_out), entry("resid_mid", v_.resid_mid);
    if (has_mlp_) entry("mlp_out", v_.mlp_out);
    entry("resid_post", v_.resid_post);
    put(std::move(table));
  }

  void parts() {
    step("What it costs", "a product with W [out, in] takes out·in multiply-adds");
    say(
        fmt::format("Parameters as they lie in memory, and multiply-adds for this token alone, which sees {} key{}. (The norms and the "
                    "activation take a few operations a number and are not counted.)",
                    v_.keys, v_.keys == 1 ? "" : "s"));
    Index parameters = 0, products = 0;
    story::Table table{.key = "parts", .columns = {"part", "parameters", "multiply-adds"}, .rows = {}, .decimals = 0};
    const auto entry = [&](const std::string& name, Index n, Index products_of) {
      table.rows.push_back({name, static_cast<double>(n), static_cast<double>(products_of)});
    };
    for (const BlockPart& p : v_.parts) {
      entry(p.name, p.parameters, p.multiply_adds);
      parameters += p.parameters, products += p.multiply_adds;
    }
    entry("the block", parameters, products);
    put(std::move(table));
    add("parameters", static_cast<double>(parameters)), add("multiply_adds", static_cast<double>(products));
  }

  void data() {
    out_.closing.push_back(deviation_sentence());
    add("model", v_.text.model.empty() ? "tiny example" : v_.text.model), add("example", v_.text.model.empty());
    add("tokens", v_.text.tokens), add("ids", v_.text.ids), add("layer", v_.layer), add("layers", v_.config.layers), add("token", v_.place);
    add("width", C()), add("hidden", F()), add("keys", v_.keys), add("epsilon", v_.config.norm_epsilon);
    add("norm", std::string(choice_name(v_.config.norm))), add("placement", std::string(choice_name(v_.config.placement)));
    add("mlp", std::string(choice_name(v_.config.mlp))), add("adapted", v_.adapted);
    if (has_mlp_) {
      add("unit", v_.unit), add("unit_up", v_.up), add("unit_up_bias", v_.up_bias);
      if (v_.down.size() != 0) add("down", v_.down);
    }
    add("deviation", deviation_);
  }

  const BlockValues& v_;
  bool pre_norm_, has_mlp_;
};

}  // namespace

Story block_story(const BlockValues& v) { return BlockTeller(v).tell(); }

}  // namespace glassformer

// LoRA and DoRA as a story. Legend: T tokens, I inputs, O outputs, r rank.
#include <cmath>
#include <numbers>
#include <numeric>

#include "explain/lora_values.hpp"
#include "explain/teller.hpp"

namespace glassformer {
namespace {

using plot::number;

class LoraTeller : Teller {
 public:
  LoraTeller(const LoraLayer& v, const ExplainedText& text, Index place, const LoraModel* model)
      : v_(v), text_(text), place_(place), model_(model) {}

  Story tell() {
    opening();
    layer();
    adapter();
    change();
    if (!v_.parts.empty()) parts();
    if (model_ && !v_.looked_up) split();
    both_ways();
    parameters();
    fresh();
    gradients();
    spectrum();
    if (v_.quantized) over_quantized();
    if (model_) whole_model();
    data();
    return std::move(out_);
  }

 private:
  Index I() const { return v_.weight.cols(); }
  Index O() const { return v_.rows; }
  Index r() const { return v_.a.rows(); }
  double s() const { return v_.scale; }
  bool dora() const { return v_.magnitude.size() != 0; }
  Index few() const { return r() * (I() + O()) + (dora() ? O() : 0); }  // parameters that are trained
  // Of the rows of W that are shown.
  std::vector<std::string> row_labels(const char* name = "out") const {
    return v_.looked_up ? token_labels(text_) : numbered(name, v_.weight.rows());
  }
  void grid(std::string key, const Matrix<double>& values, std::vector<std::string> rows, const char* column, Index columns,
            int decimals = 3) {
    put(story::Grid{
        .key = std::move(key), .values = values, .rows = std::move(rows), .columns = numbered(column, columns), .decimals = decimals});
  }
  // "0.500·1.000 + …", of two rows of numbers.
  template <class A, class B>
  static std::string dot(const A& a, const B& b, int decimals = 1) {
    std::string sum;
    for (Index i = 0; i < a.size(); ++i) sum += fmt::format("{}{}·{}", i == 0 ? "" : " + ", number(a(i), decimals), number(b(i), decimals));
    return sum;
  }

  void opening() {
    out_.component = "lora";
    const char* kind = dora() ? "DoRA" : "LoRA";
    out_.title = model_ ? fmt::format("{}, step by step: {}", kind, v_.name) : "LoRA, step by step: one layer and its low-rank change";
    out_.opening.push_back(model_ ? fmt::format("Model: {}", text_.model) : "A tiny example, small enough to redo by hand.");
    out_.opening.insert(out_.opening.end(), text_.notes.begin(), text_.notes.end());
    if (v_.rows < v_.tensor_rows) {
      out_.opening.push_back(fmt::format("It sits on rows {} to {} of {} [{}, {}], a joined matrix; the other rows stay as they are.",
                                         v_.row_begin, v_.row_begin + v_.rows - 1, v_.tensor, v_.tensor_rows, I()));
    }
    if (v_.looked_up) {
      out_.opening.push_back(fmt::format(
          "I = {} channels, O = {} tokens of the vocabulary, rank r = {}. The embedding W itself is frozen; only A and B are trained.", I(),
          O(), r()));
    } else {
      out_.opening.push_back(
          fmt::format("I = {} inputs, O = {} outputs, rank r = {}. The layer's own W is frozen; only A{} B{} are trained.", I(), O(), r(),
                      dora() ? "," : " and", dora() ? " and the magnitudes m" : ""));
    }
  }

  void layer() {
    if (v_.looked_up) {
      step("The embedding", fmt::format("y = W[token]   W [{}, {}]", O(), I()));
      say("A token is no number to multiply with: it looks up its row. Below, the rows of this text's tokens.");
      grid("weight", v_.weight, row_labels(), "ch", I());
      return;
    }
    step("The layer", fmt::format("y = x·Wᵀ{}   W [{}, {}]", v_.bias.size() != 0 ? " + b" : "", O(), I()));
    if (v_.quantized)
      say(fmt::format("W is kept in {} ({:.2f} bits a number); what is shown, and computed with, is what that stands for.",
                      v_.quantized->type, v_.quantized->bits));
    say(model_
            ? fmt::format("Trained before, and kept as it is. Below, W; then x, what the layer reads, for {}.", quoted_token(text_, place_))
            : "Trained before, and kept as it is. Below, W; then x, one row for each of two tokens.");
    grid("weight", v_.weight, numbered("out", O()), "in", I(), model_ ? 3 : 1);
    if (model_) {
      grid("", v_.x.row(place_), {"x"}, "in", I());
      add("x", v_.x);
    } else {
      grid("x", v_.x, token_labels(text_), "in", I(), 1);
    }
  }

  void adapter() {
    step("The adapter", fmt::format("A [{}, {}]   B [{}, {}]{}   s = {}", r(), I(), O(), r(),
                                    dora() ? fmt::format("   m [1, {}]", O()) : "", v_.rank_stabilized ? "α/√r" : "α/r"));
    say(v_.looked_up ? "B has r numbers for each token, and A says what each of them adds to the token's row."
                     : "A reads the input in r directions, B writes what they say in r directions of the output.");
    grid("a", v_.a, numbered("A", r()), v_.looked_up ? "ch" : "in", I(), model_ ? 3 : 1);
    grid("b", v_.b, row_labels(), "B", r(), model_ ? 3 : 1);
    if (dora()) {
      say("m is the length that each row of the new matrix has:");
      grid("magnitude", v_.magnitude, {"m"}, "out", O());
    }
    const double rank = static_cast<double>(r());
    lines({v_.rank_stabilized ? fmt::format("s = α/√r = {:g}/√{} = {:.4g}   (rsLoRA)", v_.alpha, r(), s())
                              : fmt::format("s = α/r = {:g}/{} = {:.4g}", v_.alpha, r(), s())});
    hold(v_.alpha / (v_.rank_stabilized ? std::sqrt(rank) : rank), s(), s());
  }

  void change() {
    step("The change, and the merged matrix",
         dora() ? "V = W + s·B·A   W′ = m·V/‖V‖, row by row   ΔW = W′ − W" : "ΔW = s·B·A   W′ = W + ΔW");
    const Index most = std::min<Index>(r(), dora() ? 2 : 3);
    std::string sum = dot(v_.b.row(0).head(most), v_.a.col(0).head(most), model_ ? 3 : 1);
    if (r() > most) sum += fmt::format(" + ({} more)", r() - most);
    const double low = s() * v_.b.row(0).dot(v_.a.col(0)), shown = v_.change(0, 0);
    if (dora()) {
      say("V has the direction of the new rows, m their length. For example the number at the top left:");
      const double c = v_.magnitude(0) / v_.v_norms(0), v00 = v_.weight(0, 0) + low;
      lines({fmt::format("V[0, 0]  = {} + {:.4g}·({}) = {}", number(v_.weight(0, 0), 5), s(), sum, number(v00, 5)),
             fmt::format("W′[0, 0] = {}/{}·{} = {}", number(v_.magnitude(0), 5), number(v_.v_norms(0), 5), number(v00, 5),
                         number(v_.merged(0, 0), 5)),
             fmt::format("ΔW[0, 0] = {} − {} = {}", number(v_.merged(0, 0), 5), number(v_.weight(0, 0), 5), number(shown, 5))});
      hold(c * v00 - v_.weight(0, 0), shown, largest(v_.merged));
      const Matrix<double> v = v_.weight + s() * v_.b * v_.a;
      for (Index o = 0; o < O(); ++o) hold(v.row(o).norm(), v_.v_norms(o), v_.v_norms(o));
    } else {
      say(fmt::format("B·A has {} numbers but only r = {} independent direction{}. For example the one at the top left:", O() * I(), r(),
                      r() == 1 ? "" : "s"));
      lines({fmt::format("ΔW[0, 0] = {:.4g}·({}) = {}", s(), sum, number(shown, model_ ? 5 : 3))});
      hold(low, shown, largest(v_.change));
    }
    hold(v_.weight + v_.change, v_.merged, largest(v_.merged));
    if (!model_) {
      grid("change", v_.change, numbered("ΔW", O()), "in", I(), 2);
      grid("merged", v_.merged, numbered("W′", O()), "in", I(), 2);
    } else {
      grid("change", v_.change, row_labels(), v_.looked_up ? "ch" : "in", I(), 4);
      add("merged", v_.merged);
    }
    const double norm = v_.singular_values.norm();
    put(story::Number{"weight_norm", "‖W‖", v_.weight_norm, 4});
    put(story::Number{"change_norm", "‖ΔW‖", norm, 4});
    put(story::Number{"change_ratio", "‖ΔW‖/‖W‖", norm / v_.weight_norm, 4});
  }

  void parts() {
    step("Which part of the joined matrix moved", "‖ΔW‖/‖W‖ of its rows");
    say("One A reads for all of them; each has rows of B of its own.");
    story::Table table{.key = "parts", .columns = {"part", "‖W‖", "‖ΔW‖", "ratio"}, .rows = {}, .decimals = 4};
    for (const auto& [name, norms] : v_.parts) table.rows.push_back({name, norms[0], norms[1], norms[1] / norms[0]});
    put(std::move(table));
  }

  void split() {
    step("Length and direction", "‖w′ − w‖² = (‖w′‖ − ‖w‖)² + 2‖w‖‖w′‖(1 − cos θ)");
    say(fmt::format("Each row w of W can become longer or shorter, and it can turn by an angle θ. {}",
                    dora() ? "DoRA trains the two apart: m is the length, A and B turn. The rows that changed most:"
                           : "A and B do both at once. The rows that changed most:"));
    std::vector<Index> order(static_cast<std::size_t>(O()));
    std::iota(order.begin(), order.end(), Index{0});
    const Vector<double> moved = v_.change.rowwise().norm().transpose();
    std::ranges::stable_sort(order, [&](Index a, Index b) { return moved(a) > moved(b); });
    order.resize(std::min<std::size_t>(order.size(), dora() ? 6 : 3));
    story::Table table{
        .key = "rows", .columns = {"row", "‖w‖", dora() ? "m = ‖w′‖" : "‖w′‖", "θ in °", "‖w′ − w‖"}, .rows = {}, .decimals = 4};
    for (const Index o : order) {
      table.rows.push_back({fmt::format("out{}", o), v_.base_norms(o), v_.merged_norms(o), v_.angles(o), moved(o)});
      const double w = v_.base_norms(o), n = v_.merged_norms(o), cosine = std::cos(v_.angles(o) * std::numbers::pi / 180);
      hold((n - w) * (n - w) + 2 * w * n * (1 - cosine), moved(o) * moved(o), n * n);
    }
    if (dora()) hold(v_.magnitude.cwiseAbs(), v_.merged_norms, v_.merged_norms.maxCoeff());
    put(std::move(table));
    put(story::Number{"magnitude_share", "share of ‖ΔW‖² that is length", v_.magnitude_share, 4});
    put(story::Number{"direction_share", "share that is direction", 1 - v_.magnitude_share, 4});
    put(story::Number{"mean_angle", "mean angle", v_.angles.mean(), 3, "degrees"});
    add("row_norms", v_.base_norms), add("merged_row_norms", v_.merged_norms), add("angles", v_.angles);
    if (dora()) add("direction_norms", v_.v_norms);
  }

  void both_ways() {
    const bool bias = v_.bias.size() != 0;
    const char* merged = v_.looked_up ? "W′[token] (merged)" : "x·W′ᵀ (merged)";
    step("Both ways give the same y", v_.looked_up ? "W[token] + s·B[token]·A = W′[token]"
                                      : dora()     ? "m/‖V‖ ⊙ (x·Wᵀ + s·(x·Aᵀ)·Bᵀ) = x·W′ᵀ"
                                                   : "x·Wᵀ + s·(x·Aᵀ)·Bᵀ = x·W′ᵀ");
    say(model_ ? "While training the change is computed apart; for use it can be added to W once, and then costs nothing."
               : fmt::format("While training the change is computed apart; for use it can be added to W once, and then costs nothing. {}, "
                             "written out:",
                             quoted_token(text_, place_)));
    if (!model_) {
      lines({fmt::format("x·Aᵀ = {} = {}", dot(v_.x.row(place_), v_.a.row(0)), number(v_.low(place_, 0))),
             fmt::format("y0 = {} + {:g}·{}·{} = {}", number(v_.y_base(place_, 0)), s(), number(v_.low(place_, 0)), number(v_.b(0, 0), 1),
                         number(v_.y_adapted(place_, 0))),
             fmt::format("y0 = {} = {}   (merged)", dot(v_.x.row(place_), v_.merged.row(0), 2), number(v_.y_merged(place_, 0)))});
      hold(v_.x.row(place_).dot(v_.a.row(0)), v_.low(place_, 0), largest(v_.low));
      hold(v_.x.row(place_).dot(v_.merged.row(0)), v_.y_merged(place_, 0), largest(v_.y_merged));
      hold(v_.y_base(place_, 0) + s() * v_.low(place_, 0) * v_.b(0, 0), v_.y_adapted(place_, 0), largest(v_.y_adapted));
    }
    Matrix<double> rows(4, v_.y_base.cols());
    rows << v_.y_base.row(place_), v_.y_adapted.row(place_) - v_.y_base.row(place_), v_.y_adapted.row(place_), v_.y_merged.row(place_);
    grid("", rows, {v_.looked_up ? "W[token]" : bias ? "x·Wᵀ + b" : "x·Wᵀ", "+ adapter", "= y", merged}, "y", rows.cols());
    const double difference = largest(v_.y_merged - v_.y_adapted);
    say(fmt::format("Over all tokens the two differ by {:.1e} at most.", difference));
    add("merged_difference", difference);
    hold(v_.y_merged, v_.y_adapted, largest(v_.y_adapted));
  }

  void parameters() {
    step("Parameters", dora() ? "r·(I + O) + O against I·O" : "r·(I + O) against I·O");
    const Index all = I() * O();
    lines({fmt::format("{}·({} + {}){} = {} against {}·{} = {}: {:.1f}%", r(), I(), O(), dora() ? fmt::format(" + {}", O()) : "", few(),
                       I(), O(), all, 100 * static_cast<double>(few()) / static_cast<double>(all))});
    if (!model_) say("At this size little is saved: the share r·(I + O)/(I·O) falls as matrices grow. Rank 8 of 1,024·1,024 is 1.6%.");
    if (model_) {
      say(fmt::format("The whole adapter, on {} matrices: {} of {} parameters, {:.2f}%.", model_->targets, model_->trainable,
                      model_->parameters, 100 * static_cast<double>(model_->trainable) / static_cast<double>(model_->parameters)));
      add("trainable_parameters", model_->trainable), add("model_parameters", model_->parameters);
    }
    add("layer_trainable", few()), add("layer_parameters", all);
  }

  void fresh() {
    step("A fresh adapter changes nothing", dora() ? "B = 0, m = ‖w‖: W′ = W" : "B = 0: ΔW = s·0·A = 0");
    say(fmt::format("Training starts from the model as it is: A is drawn at random, B is zero{}. {}, y {} {}{}, to the bit.",
                    dora() ? ", m the lengths of W's rows" : "", dora() ? "So" : "With B = 0", v_.fresh_same_bits ? "is" : "is NOT",
                    v_.looked_up ? "W[token]" : "x·Wᵀ", v_.bias.size() != 0 ? " + b" : ""));
    add("fresh_same_bits", v_.fresh_same_bits);
  }

  void gradients() {
    step("What is trained", v_.looked_up ? "dA = s·Σ B[token]ᵀ·dy   dB[token] += s·dy·Aᵀ"
                            : dora()     ? "c = m/‖V‖   dm = Σ dy·(x·Vᵀ)/‖V‖   dA, dB: c ⊙ dy, and through ‖V‖"
                                         : "dA = s·(dy·B)ᵀ·x   dB = s·dyᵀ·(x·Aᵀ)");
    const char* reached = dora() ? "A, B and m" : "A and B";
    say(model_ ? fmt::format("The gradient of the mean loss over these {} tokens, by the engine's backward pass. It reaches {} alone: "
                             "W gets none{}.",
                             text_.tokens.size(), reached, v_.weight_untouched ? ", and its bits are as before" : "")
               : fmt::format("A backward pass of the engine, with dy as below. It reaches A and B alone: W gets no gradient{}.",
                             v_.weight_untouched ? ", and its bits are as before" : ""));
    if (!model_) {
      grid("dy", v_.dy, token_labels(text_), "dy", O(), 1);
      grid("da", v_.da, numbered("dA", r()), "in", I());
      grid("db", v_.db, numbered("dB", O()), "B", r());
      lines({fmt::format("dB[2, 0] = {:g}·({}) = {}", s(), dot(v_.dy.col(2), v_.low.col(0), 2), number(v_.db(2, 0)))});
      hold(s() * v_.dy.col(2).dot(v_.low.col(0)), v_.db(2, 0), largest(v_.db));
      hold(v_.gradient_error, 0, 1);
    } else {
      put(story::Number{"da_norm", "‖dA‖", v_.da.norm(), 6});
      put(story::Number{"db_norm", "‖dB‖", v_.db.norm(), 6});
      if (dora()) put(story::Number{"dm_norm", "‖dm‖", v_.dm.norm(), 6}), add("dm", v_.dm);
      add("da", v_.da), add("db", v_.db);
    }
    say(
        fmt::format("With a fresh adapter (B = 0) dA contains the factor B and is zero, ‖dA‖ = {:g}, while ‖dB‖ = {:g}{}: the first step "
                    "moves {} alone.",
                    v_.da_fresh.norm(), v_.db_fresh.norm(), dora() ? fmt::format(" and ‖dm‖ = {:g}", v_.dm_fresh.norm()) : "",
                    dora() ? "B and m" : "B"));
    add("da_fresh", v_.da_fresh), add("db_fresh", v_.db_fresh), add("weight_untouched", v_.weight_untouched);
  }

  void spectrum() {
    const Vector<double>& values = v_.singular_values;
    const double rank = effective_rank(values), energy = values.squaredNorm();
    step("How many directions are used", "ΔW = Σᵢ σᵢ·uᵢ·vᵢᵀ   effective rank = exp(−Σ p ln p), p = σ/Σσ");
    say(fmt::format("The singular values of ΔW: how strong each of its directions is. {}",
                    dora() ? "Scaling rows is no change of low rank, so there can be as many as W has." : "There are at most r."));
    story::Chart chart{.key = "", .chart = {.kind = plot::Chart::Kind::bars, .title = "", .x_label = "", .y_label = ""}};
    chart.chart.series.push_back({"σ", {}});
    const Index shown = std::min<Index>(values.size(), 16);
    for (Index i = 0; i < shown; ++i) {
      chart.chart.names.push_back(fmt::format("σ{}", i + 1));
      chart.chart.series[0].y.push_back(values(i));
    }
    put(std::move(chart));
    if (values.size() > shown) say(fmt::format("(The first {} of {}.)", shown, values.size()));
    put(story::Number{"effective_rank", "effective rank", rank, 2});
    if (energy > 0) put(story::Number{"first_share", "σ1²/Σσ²", values(0) * values(0) / energy, 3});
    if (!v_.looked_up)
      hold(std::sqrt(energy), v_.change.norm(), std::max(v_.change.norm(), std::numeric_limits<double>::min()));  // ‖ΔW‖² = Σσ²
    add("singular_values", values);
  }

  void over_quantized() {
    const LoraOverQuantized& q = *v_.quantized;
    const double norm = v_.change.norm(), ratio = norm > 0 ? q.requantized_error / norm : 0;
    step(fmt::format("Over {}: is the change larger than the rounding?", q.type), "‖Q(W′) − W′‖ against ‖ΔW‖");
    say(fmt::format(
        "The adapter itself is not rounded, and W is only read. Merged and quantized again, W′ = W + ΔW would be rounded to {} too:",
        q.type));
    put(story::Number{"quantized_bits", "bits a number of W", q.bits, 3});
    put(story::Number{"requantized_error", "‖Q(W′) − W′‖, the rounding", q.requantized_error, 4});
    put(story::Number{"requantized_ratio", "‖Q(W′) − W′‖/‖ΔW‖", ratio, 3});
    put(story::Number{"surviving_share", "share of ΔW that survives it", q.surviving_share, 3});
    say(ratio < 0.5 ? "The change is larger than the rounding: merging and quantizing again would keep most of it."
                    : "The change is not larger than the rounding: merged and quantized again, much of it would be lost in noise. It stays "
                      "apart, or is merged in floating point.");
    if (!q.error) return;
    say("Beside the matrix W₀ that was quantized: what quantization cost, and what is left of it with the adapter, which was trained for a "
        "text and not for W₀.");
    put(story::Number{"quantization_error", "‖W₀ − W‖", *q.error, 4});
    put(story::Number{"quantization_error_with_adapter", "‖W₀ − W′‖", *q.error_with_adapter, 4});
    put(story::Number{"change_over_error", "‖ΔW‖/‖W₀ − W‖", *q.error > 0 ? norm / *q.error : 0, 3});
  }

  void whole_model() {
    const LoraModel& m = *model_;
    step("The whole model", fmt::format("{} adapted matrices in {} layers", m.targets, m.layers));
    lines({fmt::format("loss of the text     {} nats a token without, {} with the adapter", number(m.loss_base), number(m.loss_adapted)),
           fmt::format("next token           {} without, {} with", quoted_bytes(m.next_base), quoted_bytes(m.next_adapted)),
           fmt::format("logits               change by {} at most", number(m.change_of_logits)),
           fmt::format("merged everywhere    logits differ by {:.1e} at most", m.merged_difference)});
    add("loss_base_nats", m.loss_base), add("loss_adapted_nats", m.loss_adapted), add("next_base", m.next_base),
        add("next_adapted", m.next_adapted);
    add("logits_change", m.change_of_logits), add("logits_merged_difference", m.merged_difference), add("largest_logit", m.largest_logit);
  }

  void data() {
    out_.closing.push_back(deviation_sentence());
    add("model", model_ ? text_.model : "tiny example"), add("example", model_ == nullptr), add("tokens", text_.tokens),
        add("ids", text_.ids);
    add("target", v_.name), add("token", place_), add("rank", r()), add("alpha", v_.alpha), add("scale", s());
    add("rank_stabilized", v_.rank_stabilized), add("dora", dora()), add("inputs", I()), add("outputs", O());
    if (v_.bias.size() != 0) add("bias", v_.bias);
    if (!v_.looked_up) add("low", v_.low);
    add("y_base", v_.y_base), add("y_adapted", v_.y_adapted), add("y_merged", v_.y_merged);
    add("deviation", deviation_);
  }

  const LoraLayer& v_;
  const ExplainedText& text_;
  Index place_;
  const LoraModel* model_;
};

}  // namespace

Story lora_story(const LoraLayer& v, const ExplainedText& text, Index place, const LoraModel* model) {
  return LoraTeller(v, text, place, model).tell();
}

}  // namespace glassformer

// LoRA as a story. Legend: T tokens, I inputs, O outputs, r rank.
#include <cmath>

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
    both_ways();
    parameters();
    fresh();
    gradients();
    spectrum();
    if (model_) whole_model();
    data();
    return std::move(out_);
  }

 private:
  Index I() const { return v_.weight.cols(); }
  Index O() const { return v_.weight.rows(); }
  Index r() const { return v_.a.rows(); }
  double s() const { return v_.config.scale(); }
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
    out_.title = model_ ? fmt::format("LoRA, step by step: {}", v_.name) : "LoRA, step by step: one layer and its low-rank change";
    out_.opening.push_back(model_ ? fmt::format("Model: {}", text_.model) : "A tiny example, small enough to redo by hand.");
    out_.opening.insert(out_.opening.end(), text_.notes.begin(), text_.notes.end());
    out_.opening.push_back(
        fmt::format("I = {} inputs, O = {} outputs, rank r = {}. The layer's own W is frozen; only A and B are trained.", I(), O(), r()));
  }

  void layer() {
    step("The layer", fmt::format("y = x·Wᵀ{}   W [{}, {}]", v_.bias.size() != 0 ? " + b" : "", O(), I()));
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
    step("The adapter", fmt::format("A [{}, {}]   B [{}, {}]   s = {}", r(), I(), O(), r(), v_.config.rank_stabilized ? "α/√r" : "α/r"));
    say("A reads the input in r directions, B writes what they say in r directions of the output.");
    grid("a", v_.a, numbered("A", r()), "in", I(), model_ ? 3 : 1);
    grid("b", v_.b, numbered("out", O()), "B", r(), model_ ? 3 : 1);
    const double rank = static_cast<double>(r());
    lines({v_.config.rank_stabilized ? fmt::format("s = α/√r = {:g}/√{} = {:.4g}   (rsLoRA)", v_.config.alpha, r(), s())
                                     : fmt::format("s = α/r = {:g}/{} = {:.4g}", v_.config.alpha, r(), s())});
    hold(v_.config.alpha / (v_.config.rank_stabilized ? std::sqrt(rank) : rank), s(), s());
  }

  void change() {
    step("The change, and the merged matrix", "ΔW = s·B·A   W′ = W + ΔW");
    say(fmt::format("B·A has {} numbers but only r = {} independent direction{}. For example the one at the top left:", O() * I(), r(),
                    r() == 1 ? "" : "s"));
    const Index most = std::min<Index>(r(), 3);
    std::string sum = dot(v_.b.row(0).head(most), v_.a.col(0).head(most), model_ ? 3 : 1);
    if (r() > most) sum += fmt::format(" + ({} more)", r() - most);
    lines({fmt::format("ΔW[0, 0] = {:.4g}·({}) = {}", s(), sum, number(v_.change(0, 0), model_ ? 5 : 3))});
    hold(s() * v_.b.row(0).dot(v_.a.col(0)), v_.change(0, 0), largest(v_.change));
    hold(v_.weight + v_.change, v_.merged, largest(v_.merged));
    if (!model_) {
      grid("change", v_.change, numbered("ΔW", O()), "in", I(), 2);
      grid("merged", v_.merged, numbered("W′", O()), "in", I(), 2);
    } else {
      grid("change", v_.change, numbered("out", O()), "in", I(), 4);
      add("merged", v_.merged);
    }
    put(story::Number{"weight_norm", "‖W‖", v_.weight.norm(), 4});
    put(story::Number{"change_norm", "‖ΔW‖", v_.change.norm(), 4});
    put(story::Number{"change_ratio", "‖ΔW‖/‖W‖", v_.change.norm() / v_.weight.norm(), 4});
  }

  void both_ways() {
    const bool bias = v_.bias.size() != 0;
    step("Both ways give the same y", "x·Wᵀ + s·(x·Aᵀ)·Bᵀ = x·W′ᵀ");
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
    Matrix<double> rows(4, O());
    rows << v_.y_base.row(place_), v_.y_adapted.row(place_) - v_.y_base.row(place_), v_.y_adapted.row(place_), v_.y_merged.row(place_);
    grid("", rows, {bias ? "x·Wᵀ + b" : "x·Wᵀ", "+ adapter", "= y", "x·W′ᵀ (merged)"}, "y", O());
    const double difference = largest(v_.y_merged - v_.y_adapted);
    say(fmt::format("Over all tokens the two differ by {:.1e} at most.", difference));
    add("merged_difference", difference);
    hold(v_.y_merged, v_.y_adapted, largest(v_.y_adapted));
  }

  void parameters() {
    step("Parameters", "r·(I + O) against I·O");
    const Index few = v_.a.size() + v_.b.size(), all = v_.weight.size();
    lines({fmt::format("{}·({} + {}) = {} against {}·{} = {}: {:.1f}%", r(), I(), O(), few, I(), O(), all,
                       100 * static_cast<double>(few) / static_cast<double>(all))});
    if (!model_) say("At this size little is saved: the share r·(I + O)/(I·O) falls as matrices grow. Rank 8 of 1,024·1,024 is 1.6%.");
    if (model_) {
      say(fmt::format("The whole adapter, on {} matrices: {} of {} parameters, {:.2f}%.", model_->targets, model_->trainable,
                      model_->parameters, 100 * static_cast<double>(model_->trainable) / static_cast<double>(model_->parameters)));
      add("trainable_parameters", model_->trainable), add("model_parameters", model_->parameters);
    }
    add("layer_trainable", few), add("layer_parameters", all);
  }

  void fresh() {
    step("A fresh adapter changes nothing", "B = 0: ΔW = s·0·A = 0");
    say(fmt::format("Training starts from the model as it is: A is drawn at random, B is zero. With B = 0, y {} x·Wᵀ{}, to the bit.",
                    v_.fresh_same_bits ? "is" : "is NOT", v_.bias.size() != 0 ? " + b" : ""));
    add("fresh_same_bits", v_.fresh_same_bits);
  }

  void gradients() {
    step("What is trained", "dA = s·(dy·B)ᵀ·x   dB = s·dyᵀ·(x·Aᵀ)");
    say(model_ ? fmt::format("The gradient of the mean loss over these {} tokens, by the engine's backward pass. It reaches A and B alone: "
                             "W gets none{}.",
                             text_.tokens.size(), v_.weight_untouched ? ", and its bits are as before" : "")
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
      add("da", v_.da), add("db", v_.db);
    }
    say(fmt::format(
        "With a fresh adapter (B = 0) dA contains the factor B and is zero, ‖dA‖ = {:g}, while ‖dB‖ = {:g}: the first step moves B alone.",
        v_.da_fresh.norm(), v_.db_fresh.norm()));
    add("da_fresh", v_.da_fresh), add("db_fresh", v_.db_fresh), add("weight_untouched", v_.weight_untouched);
  }

  void spectrum() {
    const Vector<double> values = lora_singular_values(s(), v_.a, v_.b);
    const double rank = effective_rank(values), energy = values.squaredNorm();
    step("How many directions are used", "ΔW = Σᵢ σᵢ·uᵢ·vᵢᵀ   effective rank = exp(−Σ p ln p), p = σ/Σσ");
    say("The singular values of ΔW: how strong each of its directions is. There are at most r.");
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
    hold(std::sqrt(energy), v_.change.norm(), std::max(v_.change.norm(), std::numeric_limits<double>::min()));  // ‖ΔW‖² = Σσ²
    add("singular_values", values);
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
    add("target", v_.name), add("token", place_), add("rank", r()), add("alpha", v_.config.alpha), add("scale", s());
    add("rank_stabilized", v_.config.rank_stabilized), add("inputs", I()), add("outputs", O());
    if (v_.bias.size() != 0) add("bias", v_.bias);
    add("low", v_.low), add("y_base", v_.y_base), add("y_adapted", v_.y_adapted), add("y_merged", v_.y_merged);
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

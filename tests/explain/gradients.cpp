// Every choice of the configuration and every pair of choices, differentiated: analytic against numeric gradients of every tensor.
#include <doctest/doctest.h>

#include <chrono>
#include <set>
#include <string>
#include <vector>

#include "glassformer/explain/gradient_check.hpp"

namespace glassformer {
namespace {

// One choice to make: what its values are called and what each does to the options.
struct Axis {
  std::string name;
  std::vector<std::string> values;
  std::function<void(GradientCheckOptions&, std::size_t)> set;
};

template <class E> Axis axis_of(const char* name, E ModelConfig::*member) {
  Axis axis{name, {}, [member](GradientCheckOptions& o, std::size_t i) { o.config.*member = choices<E>()[i].value; }};
  for (const auto& choice : choices<E>()) axis.values.emplace_back(choice.name);
  return axis;
}
template <class T> Axis axis_of(const char* name, std::vector<std::string> names, T ModelConfig::*member, std::vector<T> values) {
  return {name, std::move(names), [member, values](GradientCheckOptions& o, std::size_t i) { o.config.*member = values[i]; }};
}

std::vector<Axis> axes() {
  using O = GradientCheckOptions;
  const std::vector<std::string> no_yes = {"no", "yes"};
  const std::vector<bool> both = {false, true};
  Axis position = axis_of("position", &ModelConfig::position);
  position.values.emplace_back("rope, yarn");  // q and k are made longer, too
  position.set = [](O& o, std::size_t i) {
    const bool yarn = i == choices<Position>().size();
    o.config.position = yarn ? Position::rope : choices<Position>()[i].value;
    if (yarn) o.config.rope_stretch = {RopeScaling::yarn, 4, 8};
  };
  return {std::move(position),
          axis_of("norm", &ModelConfig::norm),
          axis_of("placement", &ModelConfig::placement),
          axis_of("mlp", &ModelConfig::mlp),
          axis_of<Index>("kv_heads", {"4", "2", "1"}, &ModelConfig::kv_heads, {4, 2, 1}),
          axis_of<Index>("head_dim", {"width/heads", "other"}, &ModelConfig::head_dim, {0, 4}),
          axis_of<Index>("window", {"0", "3"}, &ModelConfig::window, {0, 3}),
          axis_of<double>("dropout", {"0", "0.2"}, &ModelConfig::dropout, {0, 0.2}),
          axis_of<bool>("causal", no_yes, &ModelConfig::causal, both),
          axis_of<bool>("tied", no_yes, &ModelConfig::tied, both),
          axis_of<bool>("bias", no_yes, &ModelConfig::bias, both),
          axis_of<bool>("norm_bias", no_yes, &ModelConfig::norm_bias, both),
          {"kernels", {"fused", "reference"}, [](O& o, std::size_t i) { o.kernels = i == 0 ? Kernels::fused : Kernels::reference; }},
          {"masked prompt", no_yes, [](O& o, std::size_t i) { o.mask_prompt = i == 1; }},
          {"soft prompt", {"none", "2 tokens"}, [](O& o, std::size_t i) { o.soft_prompt = i == 0 ? 0 : 2; }},
          {"lora", {"none", "plain", "dropout", "embedding", "dora"}, [](O& o, std::size_t i) {
             if (i == 0) return;
             o.lora.emplace();
             o.lora->rank = 2, o.lora->dropout = i == 2 ? 0.3 : 0.0, o.lora->dora = i == 4;
             if (i == 3) o.lora->targets = {"embed", "attn.out"}, o.lora->rank_pattern = {{"embed", 3}, {"blocks.1.attn.out", 1}};
           }}};
}

// Rows of choices, one a configuration.
using Row = std::vector<std::size_t>;

// Greedy: each row starts from a pair that no row has yet, and then takes for one axis after the other the value that
// makes most new pairs with what the row has.
std::vector<Row> pairwise_rows(const std::vector<Axis>& axes) {
  struct Choice {
    std::size_t axis, value;
    auto operator<=>(const Choice&) const = default;
  };
  std::set<std::pair<Choice, Choice>> missing;
  for (std::size_t a = 0; a < axes.size(); ++a) {
    for (std::size_t b = a + 1; b < axes.size(); ++b) {
      for (std::size_t i = 0; i < axes[a].values.size(); ++i) {
        for (std::size_t j = 0; j < axes[b].values.size(); ++j) missing.insert({{a, i}, {b, j}});
      }
    }
  }
  std::vector<Row> rows;
  while (!missing.empty()) {
    std::vector<Choice> row = {missing.begin()->first, missing.begin()->second};
    for (std::size_t axis = 0; axis < axes.size(); ++axis) {
      if (axis == row[0].axis || axis == row[1].axis) continue;
      Choice best{axis, rows.size() % axes[axis].values.size()};  // where nothing is new, take turns
      long most = 0;
      for (std::size_t value = 0; value < axes[axis].values.size(); ++value) {
        const Choice c{axis, value};
        const long fresh = std::ranges::count_if(row, [&](const Choice& other) { return missing.contains(std::minmax(c, other)); });
        if (fresh > most) best = c, most = fresh;
      }
      row.push_back(best);
    }
    std::ranges::sort(row);
    rows.emplace_back();
    for (std::size_t i = 0; i < row.size(); ++i) {
      rows.back().push_back(row[i].value);
      for (std::size_t j = i + 1; j < row.size(); ++j) missing.erase({row[i], row[j]});
    }
  }
  return rows;
}

GradientCheckOptions tiny() {
  GradientCheckOptions o;
  o.config.layers = 2, o.config.heads = 4, o.config.width = 8, o.config.hidden = 12, o.config.context = 8;
  return o;
}

// Scales the gradient that passes one site: a mistake for the check to find.
struct Mistake : Trace<double> {
  std::string site;
  explicit Mistake(std::string s) : site(std::move(s)) {}
  bool wants(std::string_view name) const override { return name == site; }
  void visit(const Site&, MatrixRef<double> value) override { value *= 1.001; }
};

}  // namespace

TEST_CASE("gradients: the rows cover every pair of choices") {
  const std::vector<Axis> all = axes();
  const std::vector<Row> rows = pairwise_rows(all);
  for (std::size_t a = 0; a < all.size(); ++a) {
    for (std::size_t b = a + 1; b < all.size(); ++b) {
      std::set<std::pair<std::size_t, std::size_t>> seen;
      for (const Row& row : rows) seen.insert({row[a], row[b]});
      CHECK(seen.size() == all[a].values.size() * all[b].values.size());
    }
  }
}

TEST_CASE("gradients: every choice and every pair of choices, analytic equals numeric") {
  const std::vector<Axis> all = axes();
  const std::vector<Row> rows = pairwise_rows(all);
  const auto begin = std::chrono::steady_clock::now();
  double worst = 0;
  std::string where;
  std::size_t tensors = 0;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    GradientCheckOptions o = tiny();
    o.seed = r + 1;
    std::string description;
    for (std::size_t i = 0; i < all.size(); ++i) {
      all[i].set(o, rows[r][i]);
      description += (i == 0 ? "" : ", ") + all[i].name + " " + all[i].values[rows[r][i]];
    }
    CAPTURE(description);
    for (const TensorCheck& check : check_gradients(o)) {
      INFO(check.name, " analytic ", check.analytic_norm, " numeric ", check.numeric_norm);
      CHECK(check.error <= kGradientTolerance);
      CHECK_FALSE(check.zero);
      CHECK(check.checked == check.size);
      ++tensors;
      if (check.error > worst) worst = check.error, where = check.name + " with " + description;
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  MESSAGE(rows.size(), " configurations, ", tensors, " tensors in ", seconds, " s; worst error ", worst, ", ", where);
}

TEST_CASE("gradients: through quantized weights, of LoRA, rsLoRA, DoRA, an adapted embedding and a soft prompt") {
  for (const QuantizedType base : {QuantizedType::nf4, QuantizedType::q8_0}) {
    for (const int kind : {0, 1, 2, 3}) {
      GradientCheckOptions o = tiny();
      o.config.width = o.config.hidden = 64, o.config.position = Position::rope, o.config.mlp = Mlp::swiglu;
      o.base = base, o.entries = 30, o.soft_prompt = 2;
      o.kernels = kind % 2 == 0 ? Kernels::fused : Kernels::reference;
      o.lora.emplace();
      o.lora->rank = 2, o.lora->rank_stabilized = kind == 1, o.lora->dora = kind == 2;
      if (kind == 3) o.lora->targets = {"embed", "mlp.down"};
      std::size_t checked = 0;
      for (const TensorCheck& check : check_gradients(o)) {
        INFO(quantized_name(base), " kind ", kind, " ", check.name, " analytic ", check.analytic_norm, " numeric ", check.numeric_norm);
        CHECK(check.error <= kGradientTolerance);
        CHECK_FALSE(check.zero);
        checked += check.name.find("lora") != std::string::npos || check.name == "prompt.weight" || check.name.ends_with(".magnitude");
      }
      CHECK(checked == (kind == 3 ? 2 * 2 + 2 : (kind == 2 ? 3 : 2) * 14) + 1);  // all of them, and nothing of the base
    }
  }
}

TEST_CASE("gradients: a backward pass that is wrong by 0.1% anywhere is found") {
  for (const Kernels kernels : {Kernels::fused, Kernels::reference}) {
    GradientCheckOptions o = tiny();
    o.config.position = Position::rope, o.config.layers = 1, o.kernels = kernels;
    Recorder<double> recorder;  // and looking on changes nothing: scores and patterns are then materialised
    o.trace = &recorder;
    CHECK(worst_check(check_gradients(o)).error <= kGradientTolerance);
    std::size_t sites = 0;
    for (const auto& [site, value] : recorder.values()) {
      if (!site.name.ends_with(".grad")) continue;
      Mistake mistake(site.name);
      o.trace = &mistake;
      INFO(site.name);
      CHECK(worst_check(check_gradients(o)).error > 10 * kGradientTolerance);
      ++sites;
    }
    CHECK(sites >= 15);
  }
}

TEST_CASE("gradients: a gradient that is zero in theory is judged by its size") {
  GradientCheckOptions o = tiny();
  o.config.window = 1;  // each query sees its own key only, so nothing depends on queries and keys
  o.lora.emplace();
  o.lora->rank = 2, o.lora->targets = {"attn.q", "attn.v"};
  std::size_t zeros = 0;
  for (const TensorCheck& check : check_gradients(o)) {
    INFO(check.name, " analytic ", check.analytic_norm, " numeric ", check.numeric_norm);
    CHECK(check.zero == (check.name.find("attn.q.") != std::string::npos));
    CHECK(check.error <= kGradientTolerance);
    zeros += check.zero;
  }
  CHECK(zeros == 4);  // A and B of two layers
}

TEST_CASE("gradients: a sample of entries, progress, and what cannot be checked") {
  GradientCheckOptions o = tiny();
  o.entries = 10;
  std::vector<std::string> heard;
  const std::vector<TensorCheck> checks = check_gradients(o, [&](const TensorCheck& check) { heard.push_back(check.name); });
  REQUIRE(heard.size() == checks.size());
  for (std::size_t i = 0; i < checks.size(); ++i) {
    CHECK(heard[i] == checks[i].name);
    CHECK(checks[i].checked == std::min<Index>(10, checks[i].size));
    CHECK(checks[i].error <= kGradientTolerance);
  }
  CHECK(checks.front().name == "embed.weight");
  CHECK(checks.front().size == 11 * 8);

  const auto message = [](const GradientCheckOptions& options) {
    try {
      check_gradients(options);
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  o.lengths = {3, 0};
  CHECK(message(o) == "gradient check: expected sequences of at least one token, found 0");
  o.lengths = {};
  CHECK(message(o) == "gradient check: expected at least one sequence, found none");
  o = tiny();
  o.step = 0;
  CHECK(message(o) == "gradient check: expected a step above 0 and below 1, found 0");
  o = tiny();
  o.config.heads = 3;
  CHECK(message(o).find("3 heads do not divide the width 8") != std::string::npos);
  CHECK_THROWS_AS(worst_check({}), std::invalid_argument);
}

}  // namespace glassformer

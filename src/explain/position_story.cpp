// The steps of a position encoding as a story. Legend: T tokens, P places shown, C channels, H heads, D head width.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "explain/teller.hpp"
#include "glassformer/explain/position.hpp"
#include "glassformer/model/config.hpp"
#include "glassformer/plot/table.hpp"
#include "glassformer/plot/text.hpp"

namespace glassformer {
namespace {

using plot::number;

class PositionTeller : Teller {
 public:
  explicit PositionTeller(const PositionSteps& s) : s_(s), a_(s.attention) {}

  Story tell() {
    opening();
    switch (s_.kind) {
      case Position::none:
        none();
        break;
      case Position::sinusoidal:
        wavelengths("(2i, 2i+1)", "θᵢ = 10000^(−2i/C)"), sinusoidal(), similarity();
        break;
      case Position::learned:
        learned(), similarity();
        break;
      case Position::rope:
        stretched();
        wavelengths(fmt::format("(i, i+{})", D() / 2), is_stretched() ? "θ′ᵢ" : fmt::format("θᵢ = {:g}^(−2i/D)", s_.base)), angles(),
            rotation();
        break;
      case Position::alibi:
        alibi();
        break;
    }
    shift();
    data();
    return std::move(out_);
  }

 private:
  Index T() const { return static_cast<Index>(a_.tokens.size()); }
  Index D() const { return a_.head_dim; }
  bool added() const { return s_.encoding.size() != 0; }
  std::string quoted(Index place) const {
    return fmt::format("\"{}\" (place {})", plot::fit(plot::visible(a_.tokens[static_cast<std::size_t>(place)]), 16), place);
  }
  std::vector<std::string> labels() const {
    std::vector<std::string> all;
    for (Index t = 0; t < T(); ++t)
      all.push_back(fmt::format("{} {}", t, plot::fit(plot::visible(a_.tokens[static_cast<std::size_t>(t)]), 8)));
    return all;
  }

  void opening() {
    out_.component = "position";
    const std::string name(choice_name(s_.kind));
    out_.title = fmt::format("Positions, step by step: {}", name);
    out_.opening.push_back(
        a_.is_example ? fmt::format("A tiny example, small enough to redo by hand: q = k = x, two heads; this is head {}.", a_.head)
                      : fmt::format("Model: {}", a_.model));
    static constexpr const char* kWhat[] = {
        "This model has no position encoding.",
        "Sinusoidal: waves of many lengths, one row a place, added to each token's embedding.",
        "Learned: a trained row for each place, added to each token's embedding.",
        "RoPE: pairs of numbers of q and k are turned by an angle that grows with the place.",
        "ALiBi: nothing is added or turned; each score loses something for every step of distance.",
    };
    out_.opening.emplace_back(kWhat[static_cast<std::size_t>(s_.kind)]);
    if (!a_.is_example) out_.opening.push_back(fmt::format("Layer {} of {}, head {} of {}.", a_.layer, a_.layers, a_.head, a_.heads));
    out_.opening.insert(out_.opening.end(), a_.notes.begin(), a_.notes.end());
    out_.opening.push_back(fmt::format("Followed: the query {} and the key {}.", quoted(s_.query), quoted(s_.key)));
  }

  void none() {
    out_.section("No positions", "sⱼ = q·kⱼ/√D");
    say("q and k come from the tokens alone, so a score does not know where they stand. Only the causal mask does: a token sees those "
        "before it, "
        "and from the second layer on that tells places apart (Haviv et al. 2022). In one layer without a mask, permuted tokens give "
        "permuted "
        "outputs.");
  }

  bool is_stretched() const { return s_.unscaled.size() != 0; }
  // What a scaling of RoPE made of the frequencies.
  void stretched() {
    if (!is_stretched()) return;
    const RopeStretch& r = s_.stretch;
    const bool yarn = is_yarn(r), ntk = r.scaling == RopeScaling::ntk;
    out_.section(fmt::format("RoPE stretched: {}", choice_name(r.scaling)), yarn  ? "θ′ᵢ = (1−γ)·θᵢ/s + γ·θᵢ"
                                                                            : ntk ? "θ′ᵢ = (b·s^(D/(D−2)))^(−2i/D)"
                                                                                  : "θ′ᵢ = θᵢ/s");
    say(fmt::format("For texts s = {:g} times as long as the trained ones, from θᵢ = {:g}^(−2i/D). ", r.factor, s_.base) + about_scaling());
    if (yarn)
      say(fmt::format("And q and k are each multiplied by 0.1·ln s + 1 = {:.4f}: scores grow {:.4f} times.", s_.length,
                      s_.length * s_.length));
    story::Table t{.key = "stretched", .columns = {"pair i", "θ", "θ′", "θ/θ′"}, .rows = {}, .decimals = 4};
    if (yarn) t.columns.emplace_back("turns in L");
    for (const Index i : plot::shown(s_.frequencies.size(), 16)) {
      std::vector<story::Cell> row(t.columns.size(), story::Cell(""));
      row[0] = i < 0 ? "…" : fmt::format("{}", i);
      if (i >= 0) {
        const double before = s_.unscaled(i), after = s_.frequencies(i);
        row[1] = fmt::format("{:.4g}", before), row[2] = fmt::format("{:.4g}", after), row[3] = fmt::format("{:.4g}", before / after);
        if (yarn) row[4] = fmt::format("{:.3g}", static_cast<double>(r.trained_context) * before / (2 * std::numbers::pi));
      }
      t.rows.push_back(std::move(row));
    }
    put(std::move(t));
  }
  std::string about_scaling() const {
    const RopeStretch& r = s_.stretch;
    switch (r.scaling) {
      case RopeScaling::none:
        return "";
      case RopeScaling::linear:
        return "Every pair turns s times more slowly: place p is read as place p/s, and neighbours come s times closer.";
      case RopeScaling::ntk:
        return fmt::format("Only another base: {:.6g} in place of {:g}. The first pair stays, the last turns s times more slowly.",
                           s_.base * std::pow(r.factor, static_cast<double>(D()) / static_cast<double>(D() - 2)), s_.base);
      case RopeScaling::yarn:
      case RopeScaling::yarn_pairs:
        return fmt::format(
            "A pair that turns at most once in the trained L = {} places is slowed s times (γ = 0), one that turns 32 times stays (γ = 1); "
            "between "
            "them γ is linear in {}.",
            r.trained_context,
            r.scaling == RopeScaling::yarn ? "the turns, as the paper has it" : "i, as its authors' code and Hugging Face have it");
    }
    return "";
  }

  void wavelengths(const std::string& pair, const std::string& formula) {
    out_.section("Wavelengths", formula + "   λᵢ = 2π/θᵢ");
    say(fmt::format(
        "Pair {} goes round once in λᵢ places. Short waves tell neighbours apart, long ones far places. Turns: within the {} places "
        "of the context.",
        pair, s_.context));
    story::Table t{.key = "wavelengths", .columns = {"pair i", "θ, radians a place", "λ, places", "turns"}, .rows = {}, .decimals = 4};
    for (const Index i : plot::shown(s_.frequencies.size(), 16)) {
      if (i < 0) {
        t.rows.push_back({"…", "", "", ""});
        continue;
      }
      const double theta = s_.frequencies(i);
      t.rows.push_back({fmt::format("{}", i), fmt::format("{:.4g}", theta), fmt::format("{:.5g}", 2 * std::numbers::pi / theta),
                        fmt::format("{:.3g}", static_cast<double>(s_.context) * theta / (2 * std::numbers::pi))});
    }
    put(std::move(t));
  }

  void picture(std::string key, const Matrix<double>& values, double low, double high, std::vector<std::string> columns = {}) {
    put(story::Picture{.key = std::move(key), .values = values, .columns = std::move(columns), .low = low, .high = high, .max_rows = 24});
  }

  void sinusoidal() {
    out_.section("What is added", "PE(p, 2i) = sin(p·θᵢ)   PE(p, 2i+1) = cos(p·θᵢ)");
    const Index p = s_.query;
    const double theta = s_.frequencies(0), angle = static_cast<double>(p) * theta;
    if (p < s_.encoding.rows()) {
      put(story::Lines{
          {fmt::format("PE({0}, 0) = sin({0}·{1:g}) = {2}", p, theta, number(s_.encoding(p, 0))),
           fmt::format("PE({0}, 1) = cos({0}·{1:g}) = {2}   (angle {3} radians)", p, theta, number(s_.encoding(p, 1)), number(angle))}});
    }
    say(fmt::format("Row: place, column: channel; the first {} places.", s_.encoding.rows()));
    picture("encoding", s_.encoding, -1, 1);
  }

  void learned() {
    out_.section("What is added", fmt::format("x_t = embedding + row t of [{}, {}]", s_.context, a_.width));
    say(fmt::format("Row: place, column: channel; the first {} places.{} A place beyond {} has no row.", s_.encoding.rows(),
                    a_.is_example ? " Here the rows are drawn at random: nothing was trained." : "", s_.context - 1));
    const double most = std::max(s_.encoding.cwiseAbs().maxCoeff(), 1e-9);
    picture("encoding", s_.encoding, -most, most);
  }

  void similarity() {
    out_.section("Which places look alike", "cos(m, n) = pₘ·pₙ/(|pₘ||pₙ|)");
    say(s_.kind == Position::sinusoidal
            ? "The cosine of the angle between two rows depends on the distance alone: sin·sin + cos·cos = cos((m − n)θᵢ) for each pair."
            : "The cosine of the angle between two rows: whatever training found useful.");
    picture("similarity", s_.similarity, std::min(0.9, s_.similarity.minCoeff()), 1);
  }

  void angles() {
    out_.section("Angles", "φ = p·θᵢ");
    const Index pairs = s_.frequencies.size(), shown = std::min<Index>(pairs, 16);
    say(fmt::format("{} (first) and {} of pair i at place p: row p; the first {} places{}.", cosine(), sine(), s_.cosine.rows(),
                    shown < pairs ? fmt::format(", {} of {} pairs", shown, pairs) : ""));
    Matrix<double> both(s_.cosine.rows(), 2 * shown);
    both << s_.cosine.leftCols(shown), s_.sine.leftCols(shown);
    std::vector<std::string> columns;
    for (const char* name : {"cos", "sin"}) {
      for (Index i = 0; i < shown; ++i) columns.push_back(fmt::format("{}{}", name, i));
    }
    picture("", both, -s_.length, s_.length, std::move(columns));
  }

  // Both numbers of one pair, before and after.
  void turned(const char* name, const Matrix<double>& before, const Matrix<double>& after, Index place, Index i) {
    const Index j = i + D() / 2;
    const double angle = static_cast<double>(place) * s_.frequencies(i), c = s_.length * std::cos(angle), s = s_.length * std::sin(angle),
                 x = before(place, i), y = before(place, j);
    put(story::Lines{{
        fmt::format("{} of place {}: φ = {}·{:.4g} = {} radians = {}°", name, place, place, s_.frequencies(i), number(angle),
                    number(angle * 180 / std::numbers::pi, 1)),
        fmt::format("  {}·{} − {}·{} = {}·{} − {}·{} = {}", 'a', cosine(), 'b', sine(), number(x), number(c), number(y), number(s),
                    number(after(place, i))),
        fmt::format("  {}·{} + {}·{} = {}·{} + {}·{} = {}", 'a', sine(), 'b', cosine(), number(x), number(s), number(y), number(c),
                    number(after(place, j))),
        fmt::format("  length √(a² + b²): {} before, {} after", number(std::hypot(x, y)),
                    number(std::hypot(after(place, i), after(place, j)))),
    }});
  }
  std::string cosine() const { return s_.length == 1 ? "cos φ" : "m·cos φ"; }
  std::string sine() const { return s_.length == 1 ? "sin φ" : "m·sin φ"; }
  void rotation() {
    out_.section("One pair, turned", "(a, b) ← (a·cos φ − b·sin φ, a·sin φ + b·cos φ)");
    say(fmt::format(
        "Pair 0 of the query {} and of the key {}, numbers 0 and {} of the head. {}", quoted(s_.query), quoted(s_.key), D() / 2,
        s_.length == 1 ? "A turn changes no length." : fmt::format("This turn makes them m = {:.4f} times longer.", s_.length)));
    turned("q", a_.q, a_.rot_q, s_.query, 0);
    turned("k", a_.k, a_.rot_k, s_.key, 0);
    const double theta = s_.frequencies(0);
    const Index distance = s_.query - s_.key;
    say(
        fmt::format("Their product is {}that of the unturned pair with the key turned back by the difference of the angles: {}·{:.4g} = {} "
                    "radians. Only "
                    "the distance is left.",
                    s_.length == 1 ? "" : "m² times ", distance, theta, number(static_cast<double>(distance) * theta)));
  }

  void alibi() {
    const auto H = static_cast<std::uint64_t>(s_.slopes.size()), lower = std::bit_floor(H);  // P
    out_.section("Slopes", H == lower ? "m_h = 2^(−8h/H), h = 1 … H" : fmt::format("m_h = 2^(−8h/P), h = 1 … P = {}", lower));
    if (H != lower)
      say(fmt::format("H = {0} is no power of two: the first P = {1} heads have the slopes of P heads; the other {2} take every second slope "
                      "of {3} heads, from the first: m_(P+j) = 2^(−8(2j−1)/{3}), j = 1 … {2}.",
                      H, lower, H - lower, 2 * lower));
    say(H != lower ? "Of each kind the first forget quickly, the last see far. Distance: after how many steps a score has lost 1."
                   : "Each head has its own slope: the first forget quickly, the last see far. Distance: after how many steps a score has lost 1.");
    story::Table t{.key = "", .columns = {"head", "slope m", "distance 1/m"}, .rows = {}, .decimals = 5};
    for (const Index h : plot::shown(s_.slopes.size(), 16)) {
      if (h < 0)
        t.rows.push_back({"…", "", ""});
      else
        t.rows.push_back({fmt::format("{}{}", h, h == a_.head ? " (this one)" : ""), fmt::format("{:.5g}", s_.slopes(h)),
                          fmt::format("{:.4g}", 1 / s_.slopes(h))});
    }
    put(std::move(t));
    out_.section("What is taken off", "s_tu = q_t·k_u/√D − m·|t − u|");
    put(story::Lines{{fmt::format("{} − {:.5g}·{} = {}", number(a_.scaled(s_.query, s_.key)), a_.slope, s_.query - s_.key,
                                  number(a_.biased(s_.query, s_.key)))}});
    say("Row: query, column: key.");
    story::Picture p{.key = "penalty",
                     .values = s_.penalty,
                     .rows = labels(),
                     .low = -a_.slope * static_cast<double>(std::max<Index>(T() - 1, 1)),
                     .high = 0,
                     .max_rows = 24,
                     .marked_row = s_.query};
    for (const auto& token : a_.tokens) p.columns.push_back(plot::visible(token));
    put(std::move(p));
  }

  void shift() {
    const bool parts = a_.is_example && added();
    out_.section("What a shift does", parts ? "(xₘ + pₘ)·(xₙ + pₙ) = x·x + mixed + p·p" : "s(m, n) against s(m + s, n + s)");
    std::string about = a_.is_example ? "The whole text moves s places; the distance stays."
                     : added()      ? "The whole text moves s places: the model's pass again, with the rows that are added taken from s places later; the "
                                      "distance stays."
                                    : "The whole text moves s places: this layer's attention runs again, on the same x put s places later; the distance "
                                      "stays.";
    about += " Change: of this score; largest: over all pairs that the mask leaves.";
    say(std::move(about));
    story::Table t{.key = "", .columns = {"s", "places", "score", "change", "largest"}, .rows = {}};
    if (parts) t.columns = {"s", "x·x", "mixed", "p·p", "score", "change", "largest"};
    for (const ShiftedScore& moved : s_.shifts) {
      std::vector<story::Cell> row = {fmt::format("{}", moved.shift)};
      if (parts)
        row.insert(row.end(), {moved.content, moved.mixed, moved.place});
      else
        row.push_back(fmt::format("{}, {}", s_.query + moved.shift, s_.key + moved.shift));
      row.insert(row.end(),
                 {moved.score, fmt::format("{:.1e}", moved.score - s_.shifts.front().score), fmt::format("{:.1e}", moved.largest_change)});
      t.rows.push_back(std::move(row));
    }
    put(std::move(t));
    double most = 0;
    for (const ShiftedScore& moved : s_.shifts) most = std::max(most, moved.largest_change);
    put(story::Number{.key = "largest_change", .label = "largest change of a score", .value = most, .decimals = 6});
    conclusion();
    out_.closing.push_back(fmt::format(
        "Every number comes from the engine's own code. Worked out again here, they differ from it by {:.1e} at most.", s_.deviation));
  }
  void conclusion() {
    switch (s_.kind) {
      case Position::none:
        return say("Nothing changes: places do not enter.");
      case Position::rope:
        return say("Equal but for rounding: m·θ − n·θ does not know where the text begins.");
      case Position::alibi:
        return say("Equal: only the distance enters.");
      case Position::sinusoidal:
        return say(a_.is_example ? "p·p depends on the distance alone; what changes are the mixed terms, token against place."
                                 : "Not equal: a place is mixed with its token before q and k are made.");
      case Position::learned:
        if (s_.shifts.size() < 2) return say("The text fills the context: there is no later place that has a row.");
        return say("Not equal: each place has a row of its own, and nothing ties the rows together.");
    }
  }

  void data() {
    add("model", a_.model), add("example", a_.is_example), add("kind", std::string(choice_name(s_.kind))), add("tokens", a_.tokens),
        add("ids", a_.ids);
    add("layer", a_.layer), add("head", a_.head), add("heads", a_.heads), add("head_dim", D()), add("width", a_.width),
        add("context", s_.context);
    add("query", s_.query), add("key", s_.key), add("q", a_.q), add("k", a_.k), add("scores", a_.scores), add("x", a_.x);
    if (a_.rotated) add("rot_q", a_.rot_q), add("rot_k", a_.rot_k), add("cosine", s_.cosine), add("sine", s_.sine), add("base", s_.base);
    if (s_.frequencies.size() != 0) add("frequencies", s_.frequencies);
    if (is_stretched()) {
      add("unscaled_frequencies", s_.unscaled), add("rope_scaling", std::string(choice_name(s_.stretch.scaling))),
          add("rope_factor", s_.stretch.factor);
      add("rope_original_context", s_.stretch.trained_context), add("length", s_.length);
    }
    if (s_.slopes.size() != 0) add("slopes", s_.slopes), add("scaled", a_.scaled), add("biased", a_.biased);
    Matrix<double> shifts(static_cast<Index>(s_.shifts.size()), 6);
    for (Index i = 0; i < shifts.rows(); ++i) {
      const ShiftedScore& m = s_.shifts[static_cast<std::size_t>(i)];
      shifts.row(i) << static_cast<double>(m.shift), m.score, m.largest_change, m.content, m.mixed, m.place;
    }
    add("shifts", shifts), add("shift_columns", std::vector<std::string>{"shift", "score", "largest_change", "content", "mixed", "place"});
    add("deviation", s_.deviation);
  }

  const PositionSteps& s_;
  const AttentionSteps& a_;
};

}  // namespace

Story position_story(const PositionSteps& s) { return PositionTeller(s).tell(); }

}  // namespace glassformer

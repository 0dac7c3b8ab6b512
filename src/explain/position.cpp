// Legend: T tokens, P places shown, C channels, H heads, D head width.
#include "glassformer/explain/position.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "glassformer/core/random.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/model/reading.hpp"
#include "glassformer/sample/prompt.hpp"

namespace glassformer {
namespace {

constexpr Index kPlaces = 64;         // P at most
constexpr Index kExampleContext = 16;  // rows of the example's learned table

bool is_added(Position kind) { return kind == Position::sinusoidal || kind == Position::learned; }

// Scores [T, T] of one head, by the engine's attention, for x [T, C] whose first row stands at place `first`.
template <class S>
Matrix<double> scores_at(const AttentionParams<S>& p, const Matrix<S>& x, Index first, Index head, const Exec& exec) {
  const Index T = x.rows(), N = first + T;
  Matrix<S> later = Matrix<S>::Zero(N, x.cols());  // rows before it fill the places; no score of x reads them
  later.bottomRows(T) = x;
  Workspace workspace;
  const Index starts[2] = {0, N};
  std::vector<Index> places(static_cast<std::size_t>(N));
  std::iota(places.begin(), places.end(), Index{0});
  Recorder<S> seen({"attn.attn_scores"});
  Pass<S> pass;
  pass.exec = exec, pass.starts = starts, pass.places = places, pass.trace = &seen, pass.workspace = &workspace;
  Matrix<S> y(N, x.cols());
  attention_forward<S>(p, pass, later, y, nullptr);
  return seen.at("attn.attn_scores", 0, head).bottomRightCorner(T, T).template cast<double>();
}

// A pass of the whole decoder in which the added encoding is that of `shift` places later; keeps one head's scores.
class MovedText : public Trace<float> {
 public:
  MovedText(const Decoder<float>& m, Index shift, std::string site, Index head) : m_(m), shift_(shift), site_(std::move(site)), head_(head) {}
  bool wants(std::string_view site) const override { return site == "pos_embed" || site == site_; }
  void visit(const Site& site, MatrixRef<float> value) override {
    if (site.name == site_) {
      if (site.head == head_) scores = value.cast<double>();
      return;
    }
    for (Index t = 0; t < value.rows(); ++t) {
      if (m_.config.position == Position::learned)
        value.row(t) = (*m_.pos_embed).row(shift_ + t);
      else
        sinusoidal_encoding<float>(shift_ + t, value.row(t));
    }
  }
  Matrix<double> scores;

 private:
  const Decoder<float>& m_;
  Index shift_;
  std::string site_;
  Index head_;
};

Vector<double> vector_of(const std::vector<double>& v) { return Vector<double>::Map(v.data(), static_cast<Index>(v.size())); }

// What the kind is made of, from the engine's own functions. `encoding` is there already.
void tell_kind(Index heads, Index head_dim, Index width, PositionSteps& s) {
  const Index P = std::min(s.context, kPlaces);
  if (s.kind == Position::sinusoidal) s.frequencies = vector_of(rope_frequencies(width, 10000));  // the same formula, over C
  if (s.kind == Position::rope) {
    const RopeTable<double> table = rope_table<double>(P, head_dim, s.base, s.stretch);
    if (s.stretch.scaling != RopeScaling::none) s.unscaled = vector_of(rope_frequencies(head_dim, s.base));
    s.length = table.length;
    s.frequencies = vector_of(table.frequencies), s.cosine = table.cosine, s.sine = table.sine;
  }
  if (s.kind == Position::alibi) {
    s.slopes = vector_of(alibi_slopes(heads));
    s.penalty = s.attention.biased - s.attention.scaled;
    for (Index i = 0; i < s.penalty.size(); ++i) {
      if (std::isinf(s.attention.scores.data()[i])) s.penalty.data()[i] = std::numeric_limits<double>::quiet_NaN();
    }
  }
  if (s.encoding.size() != 0) {
    const Vector<double> length = s.encoding.rowwise().norm().transpose().cwiseMax(std::numeric_limits<double>::min());
    s.similarity = (s.encoding * s.encoding.transpose()).array() / (length.transpose() * length).array();
  }
}

// The key with the largest score among those before the query that it sees.
void choose_key(PositionSteps& s) {
  s.query = s.attention.query.place;
  s.key = s.query;
  for (Index j = 0; j < s.query; ++j) {
    const double score = s.attention.scores(s.query, j);
    if (!std::isinf(score) && (s.key == s.query || score > s.attention.scores(s.query, s.key))) s.key = j;
  }
}

void differs(double by_hand, double engine, double size, PositionSteps& s) {
  s.deviation = std::max(s.deviation, std::abs(by_hand - engine) / std::max(size, std::numeric_limits<double>::min()));
}

// The rotation of each pair of the query and the key, worked out, against the engine's.
void check_rotation(PositionSteps& s) {
  const AttentionSteps& a = s.attention;
  const Index half = a.head_dim / 2;
  const auto check = [&](const Matrix<double>& before, const Matrix<double>& after, Index place) {
    for (Index i = 0; i < half; ++i) {
      const double angle = static_cast<double>(place) * s.frequencies(i), x = s.length * before(place, i),
                   y = s.length * before(place, i + half);
      differs(x * std::cos(angle) - y * std::sin(angle), after(place, i), std::hypot(x, y), s);
      differs(x * std::sin(angle) + y * std::cos(angle), after(place, i + half), std::hypot(x, y), s);
    }
  };
  check(a.q, a.rot_q, s.query), check(a.k, a.rot_k, s.key);
}

// The followed score, q·k/√D − m·distance, worked out, against the engine's.
void check_score(PositionSteps& s) {
  const AttentionSteps& a = s.attention;
  const Matrix<double>&q = a.rotated ? a.rot_q : a.q, &k = a.rotated ? a.rot_k : a.k;
  const Vector<double> terms = q.row(s.query).array() * k.row(s.key).array();
  const double by_hand = terms.sum() * a.scale - a.slope * static_cast<double>(s.query - s.key);
  differs(by_hand, a.scores(s.query, s.key), std::max(1.0, terms.cwiseAbs().sum() * a.scale), s);
}
void check_encoding(PositionSteps& s) {
  for (Index p = 0; p < s.encoding.rows(); ++p) {
    for (Index c = 0; c < s.encoding.cols(); ++c) {
      const double angle = static_cast<double>(p) * s.frequencies(c / 2);
      differs(c % 2 == 0 ? std::sin(angle) : std::cos(angle), s.encoding(p, c), 1, s);
    }
  }
}
void check(PositionSteps& s) {
  check_score(s);
  if (s.kind == Position::rope) check_rotation(s);
  if (s.kind == Position::sinusoidal) check_encoding(s);
}

// One entry for each shift. scores_of(shift) → [T, T].
template <class F> void tell_shifts(const std::vector<Index>& shifts, const F& scores_of, PositionSteps& s) {
  Matrix<double> unmoved;
  for (const Index shift : shifts) {
    const Matrix<double> scores = scores_of(shift);
    if (shift == 0) unmoved = scores;
    ShiftedScore moved{.shift = shift, .score = scores(s.query, s.key)};
    for (Index i = 0; i < scores.size(); ++i) {
      if (!std::isinf(unmoved.data()[i])) moved.largest_change = std::max(moved.largest_change, std::abs(scores.data()[i] - unmoved.data()[i]));
    }
    s.shifts.push_back(moved);
  }
}

struct Example {
  Matrix<double> x{{1.0, 0.0, 0.0, 0.5, 0.0, 0.5, 0.0, 0.0},   // the
                   {0.0, 1.0, 0.5, 0.0, 1.0, 0.0, 0.0, 0.5},   // cat
                   {0.5, 0.5, 1.0, 0.0, 0.0, 1.0, 0.5, 0.0},   // sat
                   {0.5, 0.0, 0.5, 1.0, 0.5, 0.0, 1.0, 0.0}};  // down
  Matrix<double> qkv{24, 8}, out{8, 8};
  RopeTable<double> rope;
  AttentionParams<double> params;

  Example(Position kind, const RopeStretch& stretch) : rope(rope_table<double>(kExampleContext, 4, 10000, stretch)) {
    const Matrix<double> identity = Matrix<double>::Identity(8, 8);
    qkv << identity, identity, identity;  // q = k = v = x
    out = identity;
    params.qkv.weight = MatrixView<double>{qkv.data(), 24, 8};
    params.out.weight = MatrixView<double>{out.data(), 8, 8};
    params.config.core.heads = params.config.core.kv_heads = 2;
    params.config.core.head_dim = 4;
    params.config.core.scale = 0.5;
    if (kind == Position::alibi) params.config.core.slopes = alibi_slopes(2);
    if (kind == Position::rope) params.rope = &rope;
  }
  Example(const Example&) = delete;  // params point into it
};

Matrix<double> example_encoding(Position kind) {
  if (!is_added(kind)) return {};
  Matrix<double> rows(kExampleContext, 8);
  const RandomStream stream = RandomStream{1}.at("learned positions");
  for (Index p = 0; p < rows.rows(); ++p) {
    if (kind == Position::sinusoidal) sinusoidal_encoding<double>(p, rows.row(p));
    for (Index c = 0; kind == Position::learned && c < 8; ++c) rows(p, c) = 0.5 * random_normal(stream, static_cast<std::uint64_t>(8 * p + c));
  }
  return rows;
}

// −1: left to the story.
void require_token(Index place, Index T) {
  require(place >= -1 && place < T, "token: expected a place, 0 … {}, found {}", T - 1, place);
}

// (x_m + p_m)·(x_n + p_n)/√D in parts, over the head's channels.
void tell_parts(const Matrix<double>& x, const Matrix<double>& encoding, Index first, double scale, ShiftedScore& moved, PositionSteps& s) {
  const auto part = [&](const Matrix<double>& m, Index row) -> Vector<double> { return m.row(row).segment(first, s.attention.head_dim); };
  const Vector<double> xm = part(x, s.query), xn = part(x, s.key), pm = part(encoding, s.query + moved.shift), pn = part(encoding, s.key + moved.shift);
  moved.content = scale * xm.dot(xn), moved.place = scale * pm.dot(pn), moved.mixed = scale * (xm.dot(pn) + pm.dot(xn));
  differs(moved.content + moved.mixed + moved.place, moved.score, 1, s);
}

}  // namespace

PositionSteps explain_position_example(Position kind, const PositionQuestion& question) {
  require(kind == Position::rope || question.stretch == RopeStretch{}, "rope-scaling: expected the example with rope, found {}",
          choice_name(kind));
  const Example example(kind, question.stretch);
  PositionSteps s;
  s.kind = kind, s.context = kExampleContext, s.stretch = question.stretch;
  s.encoding = example_encoding(kind);
  const auto x_at = [&](Index shift) -> Matrix<double> {
    return is_added(kind) ? Matrix<double>(example.x + s.encoding.middleRows(shift, 4)) : example.x;
  };
  require(question.layer == 0, "layer: expected 0, found {}: the example has only one", question.layer);
  require_token(question.query, 4);
  const AttentionQuestion ask{question.layer, question.head, question.query == -1 ? 2 : question.query, question.exec};
  s.attention = explain_attention<double>(example.params, x_at(0), {"the", "cat", "sat", "down"}, ask);
  s.attention.model = "tiny example", s.attention.is_example = true;
  choose_key(s);
  tell_kind(2, 4, 8, s);
  check(s);
  tell_shifts({0, 1, 4, 8}, [&](Index shift) { return scores_at<double>(example.params, x_at(shift), shift, question.head, question.exec); }, s);
  if (is_added(kind)) {
    for (ShiftedScore& moved : s.shifts) tell_parts(example.x, s.encoding, 4 * question.head, example.params.config.core.scale, moved, s);
  }
  return s;
}

PositionSteps explain_position(const Decoder<float>& m, const Tokenizer& tokenizer, std::string_view prompt, const PositionQuestion& question) {
  PositionSteps s;
  s.kind = m.config.position, s.context = m.config.context, s.base = m.config.rope_base, s.stretch = m.config.rope_stretch;
  require_token(question.query, static_cast<Index>(read_prompt(m.config, tokenizer, prompt).ids.size()));
  s.attention = explain_attention(m, tokenizer, prompt, {question.layer, question.head, question.query, question.exec});
  choose_key(s);
  if (is_added(s.kind)) {
    const Index P = std::min(s.context, kPlaces);
    Matrix<float> rows(P, m.config.width);
    for (Index p = 0; p < P; ++p) {
      if (s.kind == Position::learned)
        rows.row(p) = (*m.pos_embed).row(p);
      else
        sinusoidal_encoding<float>(p, rows.row(p));
    }
    s.encoding = rows.cast<double>();
  }
  tell_kind(m.config.heads, m.config.head_dim, m.config.width, s);
  check(s);

  const Index T = static_cast<Index>(s.attention.ids.size());
  std::vector<Index> shifts = {0, 1, 8, 64};
  if (s.kind == Position::learned) std::erase_if(shifts, [&](Index shift) { return T + shift > s.context; });  // there is no such row
  const AttentionParams<float>& params = m.blocks[static_cast<std::size_t>(question.layer)].attention;
  const Matrix<float> x = s.attention.x.cast<float>();
  const auto scores_of = [&](Index shift) -> Matrix<double> {
    if (!is_added(s.kind)) return scores_at<float>(params, x, shift, question.head, question.exec);
    MovedText moved(m, shift, fmt::format("blocks.{}.attn.attn_scores", question.layer), question.head);
    decoder_read<float>(m, s.attention.ids, {.exec = question.exec, .trace = &moved});
    return moved.scores;
  };
  tell_shifts(shifts, scores_of, s);
  return s;
}

}  // namespace glassformer

// What the tellers of stories share: checks of what was asked, labels, the story under construction, and how far a sum that is written
// out for the reader lies from the engine's own value.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "glassformer/core/require.hpp"
#include "glassformer/explain/text.hpp"
#include "glassformer/plot/text.hpp"
#include "glassformer/story/story.hpp"

namespace glassformer {

// Throws std::invalid_argument, naming the valid ones.
void require_layer(Index layer, Index layers);
// Of a text that a model of this context reads in one pass.
void require_text(const ExplainedText&, Index context);
// −1 is the last.
Index checked_place(Index place, const ExplainedText&);

std::vector<std::string> token_labels(std::span<const std::string> tokens, Index width = 10);  // "2 sat"
inline std::vector<std::string> token_labels(const ExplainedText& text, Index width = 10) { return token_labels(text.tokens, width); }
// The `count` with the largest values of `row`, the largest first, equal ones by their id.
std::vector<Token> most_probable(const Vector<double>& row, Index count);
std::string quoted_token(const ExplainedText&, Index place);       // "\"sat\" (token 2)"
std::string quoted_bytes(std::string_view bytes);                  // "\"sat\"", every byte visible
std::vector<std::string> numbered(const char* name, Index count);  // "x0", "x1", …

// A parameter of an example, row by row. Throws std::invalid_argument when it has another shape.
void set_parameter(const Decoder<double>&, const char* name, std::initializer_list<std::initializer_list<double>> rows);

// A class that tells derives from it and fills `out_`.
class Teller {
 protected:
  void step(std::string title, std::string formula = "") { out_.section(std::move(title), std::move(formula)); }
  void put(story::Item item) { out_.sections.back().items.push_back(std::move(item)); }
  void say(std::string sentences) { put(story::Paragraph{std::move(sentences)}); }
  void lines(std::vector<std::string> of) { put(story::Lines{std::move(of)}); }
  void add(const char* key, story::Data value) { out_.data.emplace_back(key, std::move(value)); }

  // The reader's sum against the engine's value; `size` is that of the largest term. NaN stays.
  void hold(double by_hand, double engine, double size) {
    const double difference = std::abs(by_hand - engine) / std::max(size, std::numeric_limits<double>::min());
    deviation_ =
        std::isnan(difference) || std::isnan(deviation_) ? std::numeric_limits<double>::quiet_NaN() : std::max(deviation_, difference);
  }
  void hold(const Matrix<double>& by_hand, const Matrix<double>& engine, double size) {
    for (Index i = 0; i < engine.size(); ++i) hold(by_hand.data()[i], engine.data()[i], size);
  }
  std::string deviation_sentence() const {
    if (!(deviation_ < 1e-3))
      return fmt::format(
          "Every number comes from the engine's own pass, but added up again here the sums differ from it by {:.1e} (relative): "
          "somebody edits a value between the steps (a what-if), and what stands behind it is the edited one.",
          deviation_);
    return fmt::format(
        "Every number comes from the engine's own pass. Added up again here, the sums differ from it by {:.1e} at most "
        "(relative).",
        deviation_);
  }

  Story out_;
  double deviation_ = 0;
};

// The token of the largest logit of a row; the first of equals.
template <class S>
Token first_choice(const Matrix<S>& logits, Index row) {
  Index best = 0;
  logits.row(row).maxCoeff(&best);
  return static_cast<Token>(best);
}

inline double largest(const Matrix<double>& m) { return m.size() == 0 ? 0 : m.cwiseAbs().maxCoeff(); }
template <class S>
Matrix<double> in_double(const MatrixView<S>& m) {
  return m ? Matrix<double>((*m).template cast<double>()) : Matrix<double>();
}

}  // namespace glassformer

#include "explain/teller.hpp"

#include <numeric>
#include <set>

#include "glassformer/sample/prompt.hpp"

namespace glassformer {

ExplainedText explained_text(const Decoder<float>& m, const Tokenizer& tokenizer, std::string_view prompt, std::string model) {
  require(!prompt.empty(), "prompt: expected some text, found none");
  Prompt read = read_prompt(m.config, tokenizer, prompt);
  ExplainedText text;
  text.tokens = token_texts(tokenizer, read.ids);
  text.ids = std::move(read.ids);
  text.model = std::move(model);
  text.notes = std::move(read.notes);
  if (read.has_start) text.notes.push_back("Token 0 is the start token, which the model was trained to see first.");
  std::vector<Token> all(static_cast<std::size_t>(m.config.vocab));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<Token>(i);
  text.vocabulary = token_texts(tokenizer, all);
  return text;
}

Token token_named(const ExplainedText& text, const char* what, std::string_view bytes) {
  std::string near;
  std::set<std::string> told;  // several tokens may look alike: one that the tokenizer lacks is "?"
  for (std::size_t i = 0; i < text.vocabulary.size(); ++i) {
    const std::string& token = text.vocabulary[i];
    if (token == bytes) return static_cast<Token>(i);
    const bool close = text.vocabulary.size() <= 16 ||
                       (!bytes.empty() && (token.starts_with(bytes) || token.ends_with(bytes) || bytes.starts_with(token)));
    if (close && !token.empty() && told.insert(token).second && told.size() <= 16) near += (near.empty() ? "" : ", ") + quoted_bytes(token);
  }
  require(false, "{}: expected the bytes of one token{}, found {}", what,
          near.empty() ? "" : fmt::format(" ({}{})", near, told.size() > 16 ? ", …" : ""), quoted_bytes(bytes));
  return 0;
}

void require_layer(Index layer, Index layers) {
  require(layer >= 0 && layer < layers, "layer: expected 0 … {}, found {}", layers - 1, layer);
}

void require_text(const ExplainedText& text, Index context) {
  const Index T = static_cast<Index>(text.ids.size());
  require(text.tokens.size() == text.ids.size(), "text: {} ids, but {} tokens", text.ids.size(), text.tokens.size());
  require(T > 0, "prompt: expected at least one token, found none");
  require(T <= context, "prompt: expected at most {} tokens (the model's context), found {}", context, T);
}

Index checked_place(Index place, const ExplainedText& text) {
  const Index T = static_cast<Index>(text.ids.size());
  require(place >= -1 && place < T, "token: expected a place, 0 … {}, found {}", T - 1, place);
  return place == -1 ? T - 1 : place;
}

std::vector<std::string> token_labels(std::span<const std::string> tokens, Index width) {
  std::vector<std::string> labels;
  for (std::size_t t = 0; t < tokens.size(); ++t) labels.push_back(fmt::format("{} {}", t, plot::fit(plot::visible(tokens[t]), width)));
  return labels;
}

std::vector<Token> most_probable(const Vector<double>& row, Index count) {
  std::vector<Token> order(static_cast<std::size_t>(row.size()));
  std::iota(order.begin(), order.end(), Token{0});
  count = std::min(count, row.size());
  std::partial_sort(order.begin(), order.begin() + count, order.end(),
                    [&row](Token a, Token b) { return row(a) > row(b) || (row(a) == row(b) && a < b); });
  order.resize(static_cast<std::size_t>(count));
  return order;
}

std::string quoted_bytes(std::string_view bytes) { return fmt::format("\"{}\"", plot::visible(bytes)); }

std::string quoted_token(const ExplainedText& text, Index place) {
  return fmt::format("{} (token {})", quoted_bytes(text.tokens[static_cast<std::size_t>(place)]), place);
}

void set_parameter(const Decoder<double>& m, const char* name, std::initializer_list<std::initializer_list<double>> rows) {
  const Matrix<double> value(rows);
  const MatrixView<double> view = m.arena.view(name);
  require_shape(name, value.rows(), value.cols(), view.rows, view.cols);
  *view = value;
}

std::vector<std::string> numbered(const char* name, Index count) {
  std::vector<std::string> names;
  for (Index i = 0; i < count; ++i) names.push_back(fmt::format("{}{}", name, i));
  return names;
}

}  // namespace glassformer

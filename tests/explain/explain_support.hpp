// What the tests of stories share.
#pragma once
#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "glassformer/explain/text.hpp"
#include "glassformer/plot/text.hpp"
#include "glassformer/story/story.hpp"
#include "support/check.hpp"

namespace glassformer::test {

// Two layers of four heads of width two over two key-value heads.
inline ModelConfig small_config() {
  ModelConfig c;
  c.vocab = 16, c.context = 24, c.layers = 2, c.heads = 4, c.kv_heads = 2, c.width = 8;
  c.embedding_std = 1, c.init_std = 0.35;
  return c;
}
inline Decoder<float> random_decoder(const ModelConfig& c) {
  Decoder<float> m = make_decoder<float>(c);
  initialize(m, 3);
  for (const TensorInfo& t : m.arena.layout().tensors()) {  // biases are not zero, gains not one
    if (t.kind != ParameterKind::vector) continue;
    for (Index i = 0; i < t.size(); ++i)
      m.arena.view(t).data[i] +=
          0.2f * static_cast<float>(random_normal({9, static_cast<std::uint64_t>(t.offset)}, static_cast<std::uint64_t>(i)));
  }
  return m;
}

inline ExplainedText text_of(std::vector<Token> ids) {
  ExplainedText text;
  for (const Token id : ids) text.tokens.push_back(id == 0 ? std::string("\xff\n") : std::string(1, static_cast<char>('a' + id)));
  for (Token id = 0; id < 16; ++id) text.vocabulary.push_back(std::string(1, static_cast<char>('a' + id)));
  text.ids = std::move(ids);
  text.model = "a random model";
  return text;
}

inline void check_story_widths(const Story& story) {
  for (const Index width : {60, 80}) {
    for (const plot::Colour colour : {plot::Colour::none, plot::Colour::rgb}) {
      std::istringstream text(story_text(story, colour, width));
      for (std::string line; std::getline(text, line);) {
        CHECK_MESSAGE(plot::display_width(line) <= width, line);
        CHECK((colour != plot::Colour::none || line.find('\x1b') == std::string::npos));
        CHECK(line.find("nan") == std::string::npos);
      }
    }
  }
}

// One line, and each key of the data and the items once.
inline nlohmann::json check_story_json(const Story& story) {
  const std::string text = story_json(story);
  CHECK(text.find('\n') == std::string::npos);
  std::set<std::string> keys = {"component", "title", "opening", "sections", "closing"};
  const auto once = [&](const std::string& key) { CHECK_MESSAGE((key.empty() || keys.insert(key).second), key); };
  for (const story::Section& section : story.sections) {
    for (const story::Item& item : section.items)
      std::visit(
          [&](const auto& i) {
            if constexpr (requires { i.key; }) once(i.key);
          },
          item);
  }
  for (const auto& [key, value] : story.data) once(key);
  const auto j = nlohmann::json::parse(text);
  for (const std::string& key : keys) CHECK_MESSAGE(j.contains(key), key);
  return j;
}

// A value of the data that is no number and no matrix.
template <class T>
T data_of(const Story& story, std::string_view key) {
  for (const auto& [name, value] : story.data) {
    if (name == key) return std::get<T>(value);
  }
  FAIL("no data called " << key);
  return {};
}

}  // namespace glassformer::test

#include "glassformer/notebook/notebook.hpp"

#include "glassformer/core/require.hpp"

namespace glassformer {

void Notebook::show(story::Item item, Comparison how, int line) {
  const std::string key = story::item_key(item);
  for (const Output& o : outputs_) {
    const auto* before = std::get_if<story::Item>(&o.what);
    require(key.empty() || !before || story::item_key(*before) != key, "notebook: expected a key of its own in line {}, found {} of line {} again", line,
            key, o.line);
  }
  outputs_.push_back({line, std::move(item), how});
}

bool Notebook::claim(std::string sentence, bool held, std::string measured, int line) {
  for (const Claim& c : claims()) require(c.sentence != sentence, "notebook: line {} claims again what was claimed before: {}", line, sentence);
  outputs_.push_back({line, Claim{std::move(sentence), std::move(measured), held}, exactly});
  return held;
}

std::vector<Claim> Notebook::claims() const {
  std::vector<Claim> all;
  for (const Output& o : outputs_) {
    if (const auto* claim = std::get_if<Claim>(&o.what)) all.push_back(*claim);
  }
  return all;
}

}  // namespace glassformer

#include "glassformer/story/story.hpp"

#include "glassformer/core/require.hpp"

namespace glassformer {

std::string story::item_key(const Item& item) {
  return std::visit(
      [](const auto& i) -> std::string {
        if constexpr (requires { i.key; }) return i.key;
        return {};
      },
      item);
}

namespace {

// What `read` finds in the item or the data of that key.
template <class T, class OfItem>
const T& find(const Story& s, std::string_view key, const char* kind, OfItem&& of_item) {
  std::string keys;
  for (const story::Section& section : s.sections) {
    for (const story::Item& item : section.items) {
      const std::string found = story::item_key(item);
      if (found.empty()) continue;
      if (found == key) {
        if (const T* value = of_item(item)) return *value;
      }
      keys += fmt::format("{}{}", keys.empty() ? "" : ", ", found);
    }
  }
  for (const auto& [name, data] : s.data) {
    if (name == key) {
      if (const T* value = std::get_if<T>(&data)) return *value;
    }
    keys += fmt::format("{}{}", keys.empty() ? "" : ", ", name);
  }
  require(false, "story: no {} called {}; there are {}", kind, key, keys.empty() ? "none" : keys);
  static const T never{};
  return never;
}

}  // namespace

story::Section& Story::section(std::string title_of, std::string formula) {
  sections.push_back({std::move(title_of), std::move(formula)});
  return sections.back();
}

double Story::number(std::string_view key) const {
  return find<double>(*this, key, "number", [](const story::Item& item) -> const double* {
    const auto* n = std::get_if<story::Number>(&item);
    return n ? &n->value : nullptr;
  });
}

const Matrix<double>& Story::matrix(std::string_view key) const {
  return find<Matrix<double>>(*this, key, "matrix", [](const story::Item& item) -> const Matrix<double>* {
    if (const auto* grid = std::get_if<story::Grid>(&item)) return &grid->values;
    if (const auto* picture = std::get_if<story::Picture>(&item)) return &picture->values;
    return nullptr;
  });
}

}  // namespace glassformer

#include "cli/json_line.hpp"

#include <nlohmann/json.hpp>

#include "cli/terminal.hpp"

namespace glassformer::cli {

struct JsonLine::Impl {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
};

JsonLine::JsonLine() : impl_(std::make_shared<Impl>()) {}
JsonLine::~JsonLine() = default;

JsonLine& JsonLine::add(const char* key, double value) { return impl_->json[key] = value, *this; }
JsonLine& JsonLine::add(const char* key, Index value) { return impl_->json[key] = value, *this; }
JsonLine& JsonLine::add(const char* key, bool value) { return impl_->json[key] = value, *this; }
JsonLine& JsonLine::add(const char* key, std::string_view value) { return impl_->json[key] = value, *this; }
JsonLine& JsonLine::add(const char* key, std::span<const Token> ids) {
  impl_->json[key] = std::vector<Token>(ids.begin(), ids.end());
  return *this;
}
JsonLine& JsonLine::add(const char* key, const Vector<double>& values) {
  impl_->json[key] = std::vector<double>(values.begin(), values.end());
  return *this;
}
JsonLine& JsonLine::add(const char* key, JsonLine object) { return impl_->json[key] = object.impl_->json, *this; }
void JsonLine::push(const char* key, JsonLine object) { impl_->json[key].push_back(object.impl_->json); }

std::string JsonLine::text() const { return impl_->json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace); }
void JsonLine::print() const { print_output(text() + "\n"); }

}  // namespace glassformer::cli

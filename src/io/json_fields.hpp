// Fields of a JSON object, checked: the first mistake is kept and names its field.
#pragma once
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "glassformer/core/require.hpp"
#include "io/file.hpp"

namespace glassformer::io {

class JsonFields {
 public:
  using Json = nlohmann::ordered_json;
  JsonFields(std::string name, const Json& json) : name_(std::move(name)), json_(json) {}

  const std::string& name() const { return name_; }
  const std::string& error() const { return error_; }  // empty while all is well
  // Null and absent are the same, as Hugging Face has it.
  const Json* find(const char* field) const {
    const auto it = json_.find(field);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }
  void fail(const char* field, const std::string& expected) {
    const Json* found = find(field);
    if (error_.empty())
      error_ = fmt::format("{}: {}: expected {}, found {}", name_, field, expected, found ? printable(found->dump()) : "none");
  }

  // The field must be there and have this value.
  void exactly(const char* field, const Json& value) {
    const Json* found = find(field);
    if (!found || *found != value) fail(field, value.dump());
  }

  // The mistake of an object inside this one.
  void adopt(const JsonFields& inner) {
    if (error_.empty()) error_ = inner.error_;
  }

  // Each of these: the field's value; without a default (see has) the field must be there.
  Index whole(const char* field, Index least, Index most, const Index* otherwise = nullptr) {
    const Json* found = find(field);
    if (!found && otherwise) return *otherwise;
    if (found && found->is_number_integer() && !(found->is_number_unsigned() && found->get<std::uint64_t>() > (std::uint64_t(1) << 62))) {
      const auto value = found->get<Index>();
      if (value >= least && value <= most) return value;
    }
    fail(field, fmt::format("a whole number from {} to {}", least, most));
    return least;
  }
  Index whole_or(const char* field, Index least, Index most, Index otherwise) { return whole(field, least, most, &otherwise); }
  double number(const char* field, double least, double most, const double* otherwise = nullptr) {
    const Json* found = find(field);
    if (!found && otherwise) return *otherwise;
    if (found && found->is_number()) {
      const auto value = found->get<double>();
      if (value >= least && value <= most) return value;
    }
    fail(field, fmt::format("a number from {} to {}", least, most));
    return least;
  }
  double number_or(const char* field, double least, double most, double otherwise) { return number(field, least, most, &otherwise); }
  bool truth(const char* field, const bool* otherwise = nullptr) {
    const Json* found = find(field);
    if (!found && otherwise) return *otherwise;
    if (found && found->is_boolean()) return found->get<bool>();
    fail(field, "true or false");
    return false;
  }
  bool truth_or(const char* field, bool otherwise) { return truth(field, &otherwise); }
  std::string word(const char* field, const char* otherwise = nullptr) {
    const Json* found = find(field);
    if (!found && otherwise) return otherwise;
    if (found && found->is_string()) return found->get<std::string>();
    fail(field, "a string");
    return "";
  }

 private:
  std::string name_;
  const Json& json_;
  std::string error_;
};

}  // namespace glassformer::io

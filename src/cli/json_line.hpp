// The object that --json prints: keys in the order in which they are added. nlohmann's JSON is slow to compile, so it stays in the .cpp.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "glassformer/core/matrix.hpp"

namespace glassformer::cli {

// Numbers that are not finite become null; text that is no UTF-8 gets replacement characters.
class JsonLine {
 public:
  JsonLine();
  ~JsonLine();
  JsonLine& add(const char* key, double value);
  JsonLine& add(const char* key, Index value);
  JsonLine& add(const char* key, bool value);
  JsonLine& add(const char* key, std::string_view value);
  JsonLine& add(const char* key, const char* value) { return add(key, std::string_view(value)); }
  JsonLine& add(const char* key, std::span<const Token> ids);
  JsonLine& add(const char* key, const Vector<double>& values);
  JsonLine& add(const char* key, JsonLine object);
  void push(const char* key, JsonLine object);  // appends to the list of that name
  std::string text() const;
  void print() const;  // on standard output, a line of its own

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace glassformer::cli

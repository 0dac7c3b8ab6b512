// Two outputs, held against each other.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "glassformer/notebook/notebook.hpp"

namespace glassformer::notebook {

// Appends a sentence for each difference that `how` does not allow, at most three: "PLACE: value[3]: expected 1.25, found 1.5". Both are
// items as story_json writes them, or claims.
void compare_values(const nlohmann::ordered_json& found, const nlohmann::ordered_json& expected, Comparison how, const std::string& place,
                    std::vector<std::string>& differences);

}  // namespace glassformer::notebook

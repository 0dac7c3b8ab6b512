// What tables and heat maps share: labels, and the note of what is left out.
#pragma once
#include <string>
#include <vector>

#include "glassformer/core/matrix.hpp"

namespace glassformer::plot {

// The labels as they are shown, or numbers from 0. Throws std::invalid_argument when they do not count `count`.
std::vector<std::string> labels_of(const char* what, const std::vector<std::string>& labels, Index count, Index label_width);
// A name or a token on one line, its spaces marked where they lead or trail: "top-p 0.9" stays, " cat" becomes "␣cat". Cut to `columns`.
std::string name_of(const std::string& text, Index columns);
Index widest(const std::vector<std::string>& labels);

// "(left out: rows 4 to 11 of 16; columns 3 to 9 of 20)" in lines, or nothing. Rows and columns count from 0, as their labels do.
std::string left_out_note(const std::vector<Index>& rows, Index row_count, const std::vector<Index>& columns, Index column_count,
                          Index width, const std::string& indent);

}  // namespace glassformer::plot

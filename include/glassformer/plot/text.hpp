// Text for a terminal: how wide it stands there, and how to fit it. All functions return strings; none prints.
// A column is the width of one Latin letter; ideographs and most emoji take two, combining marks none.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/core/matrix.hpp"

namespace glassformer::plot {

// Columns of the text, by the C library's wcwidth. Escape sequences (ESC [ … letter) take none. A byte that is no valid UTF-8 and a
// control character count one.
Index display_width(std::string_view text);

// Any bytes as one visible line, for labels: newline ↵, tab ⇥, space ␣, other controls as their pictures (␀ … ␡); bytes that are no valid
// UTF-8 as \xNN; characters that a terminal would obey or hide (U+0085, bidirectional overrides, unassigned) as \u{NNNN}.
// Example: "a b\n" becomes "a␣b↵".
std::string visible(std::string_view bytes, bool mark_spaces = true);

// The text with escape sequences left out.
std::string without_escapes(std::string_view text);

// Cut to at most `columns`, the last of them "…" where something was left out. Never cuts a character. For text without escapes.
std::string fit(std::string_view text, Index columns);
// Spaces on the right (left) until it takes `columns`; never cuts.
std::string pad_right(std::string_view text, Index columns);
std::string pad_left(std::string_view text, Index columns);

// Breaks at spaces into lines of at most `columns`, each behind `indent`; a longer word is broken anywhere.
std::vector<std::string> wrap(std::string_view text, Index columns, std::string_view indent = "");

// Fixed decimals, so that columns align: "0.500", "-1.250", "−∞" and "∞" for infinities, "NaN". Minus zero and what rounds to it is
// "0.000".
std::string number(double value, int decimals = 3);

}  // namespace glassformer::plot

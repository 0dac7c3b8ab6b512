// What an explanation shows, as data: sections of sentences, formulas, numbers and pictures. A terminal, a JSON object, a notebook and a
// page only draw it, so each number is computed once, by the engine, and is the same everywhere.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "glassformer/core/matrix.hpp"
#include "glassformer/plot/chart.hpp"
#include "glassformer/plot/heat_map.hpp"

namespace glassformer {
namespace story {

// Items. Those with a `key` are found by it: Story::matrix(key), and "key" at the top of the JSON object. Labels are any bytes (tokens).

struct Paragraph {  // sentences, broken into lines to fit
  std::string text;
};
struct Lines {  // aligned by who wrote them, at most 75 columns each: "0 the   2.50·0.00 + 0.50·1.50 = 0.750"
  std::vector<std::string> lines;
};
struct Number {
  std::string key, label;  // "cache_bytes", "bytes by the formula"
  double value = 0;
  int decimals = 3;
  std::string unit = {};  // "bytes", "nats", "ms"; empty: a plain number
};
struct Grid {  // a matrix as numbers
  std::string key;
  Matrix<double> values;
  std::vector<std::string> rows = {}, columns = {};  // labels; empty: numbers from 0
  int decimals = 3;
  Index max_rows = 8, label_width = 16;  // for a terminal: what does not fit is left out of the middle
};
struct Picture {  // a matrix as cells of colour; NaN is a cell that does not exist (a masked key)
  std::string key;
  Matrix<double> values;
  std::vector<std::string> rows = {}, columns = {};
  double low = 0, high = 1;  // ends of the scale
  Index max_rows = 40;       // for a terminal
  Index marked_row = -1;
};
using Cell = std::variant<std::string, double>;
struct Table {  // text and numbers side by side; numbers stand on the right of their column, text on the left
  std::string key;
  std::vector<std::string> columns;
  std::vector<std::vector<Cell>> rows;
  int decimals = 3;
};
struct Chart {  // lines over x, or bars
  std::string key;
  plot::Chart chart;
};
using Item = std::variant<Paragraph, Lines, Number, Grid, Picture, Table, Chart>;
std::string item_key(const Item&);  // empty where it has none

struct Section {
  std::string title, formula;  // "Scaling", "sⱼ = q·kⱼ/√D"; the formula may be empty
  std::vector<Item> items = {};
};

// What a program reads and nobody looks at: the weights behind a step, shapes, ids.
using Data = std::variant<bool, Index, double, std::string, std::vector<std::string>, std::vector<Token>, Vector<double>, Matrix<double>>;

}  // namespace story

struct Story {
  std::string component, title;      // "attention", "Attention, step by step: layer 0 of 1, head 0 of 2"
  std::vector<std::string> opening;  // paragraphs before the first section
  std::vector<story::Section> sections;
  std::vector<std::string> closing;  // and after the last
  std::vector<std::pair<std::string, story::Data>> data = {};

  story::Section& section(std::string title_of, std::string formula = "");  // appends one; valid until the next is appended
  // Of an item or of `data`. Throw std::invalid_argument, naming the keys that there are, for a key that is not there or is something else.
  double number(std::string_view key) const;
  const Matrix<double>& matrix(std::string_view key) const;
};

// Drawn for a terminal. No line takes more than `width` columns (60 or more). Sections are numbered.
std::string story_text(const Story&, plot::Colour = plot::Colour::none, Index width = 80);
// One item alone, each line behind `indent`.
std::string story_text(const story::Item&, plot::Colour = plot::Colour::none, Index width = 80, std::string_view indent = "");

// One object on one line: "component", "title", "opening", "sections" [{"title", "formula", "items": [{"kind", …}]}], "closing", then each
// key with its value. Matrices are lists of rows; what is not finite (a masked score) is null. Bytes that are no UTF-8 become U+FFFD.
std::string story_json(const Story&);
// One item alone: {"kind", …, "key", "value"}, as in "sections" with its value beside it.
std::string story_json(const story::Item&);

// One item as a fragment of HTML without scripts: charts and pictures as SVG, the rest as paragraphs and tables. Readable on white and on
// black. Bytes that are no UTF-8 and control characters are made visible, as plot::visible does.
std::string story_html(const story::Item&);

}  // namespace glassformer

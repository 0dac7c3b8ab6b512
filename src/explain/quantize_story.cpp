// Quantization as a story. 64 numbers of one row, in blocks of 32 or 64.
#include <cmath>

#include "explain/quantize_values.hpp"
#include "explain/teller.hpp"
#include "glassformer/quantize/block.hpp"

namespace glassformer {
namespace {

constexpr Index kColumns = 49;  // of the line from −1 to 1
constexpr Index kShownScales = 6;

// What a format does, in its own words.
struct Words {
  const char *title, *formula, *about;
};
Words words(QuantizedType type) {
  switch (type) {
    case QuantizedType::q8_0:
      return {"q8_0: 8 bits, blocks of 32", "d = max|x|/127   q = round(x/d)   x ≈ d·q",
              "255 codes, −127 … 127. The scale d is kept in fp16."};
    case QuantizedType::q4_0:
      return {"q4_0: 4 bits, blocks of 32", "d = m/−8   q = min(15, ⌊x/d + 8.5⌋)   x ≈ d·(q − 8)",
              "m is the number of largest magnitude, with its sign: it gets code 0, and comes back exactly (but for the rounding of d to "
              "fp16). On the "
              "other side there are only 7 steps."};
    case QuantizedType::int4:
      return {"int4: 4 bits, symmetric, blocks of 64", "d = max|x|/7   q = round(x/d)   x ≈ d·q", "15 codes, −7 … 7, in equal steps."};
    case QuantizedType::nf4:
      break;
  }
  return {"nf4: 4 bits, levels where the weights are, blocks of 64", "q = nearest level to x/absmax   x ≈ absmax·level[q]",
          "16 levels, closer together near zero, where most trained weights lie. Instead of a step the block has its largest magnitude, "
          "absmax."};
}

class QuantizeTeller : Teller {
 public:
  explicit QuantizeTeller(const QuantizeValues& v) : v_(v) {}

  Story tell() {
    opening();
    numbers();
    for (const FormatValues& f : v_.formats) format(f);
    beside_each_other();
    where_levels_are();
    scales();
    data();
    return std::move(out_);
  }

 private:
  bool example() const { return v_.model.empty(); }
  Index shown() const { return example() ? 4 : 8; }
  std::string key(const FormatValues& f, const char* what) const { return fmt::format("{}_{}", quantized_name(f.type), what); }

  void opening() {
    out_.component = "quantize";
    out_.title = example() ? "Quantization, step by step: one block of weights"
                           : fmt::format("Quantization, step by step: {}, row {}, block {}", v_.tensor, v_.row, v_.block);
    out_.opening.push_back(example() ? "A tiny example, small enough to redo by hand." : fmt::format("Model: {}", v_.model));
    out_.opening.push_back(
        "A block of weights shares one scale d; each weight becomes a small code q. A code stands for a step, and d·step is what a product "
        "computes with.");
  }

  void numbers() {
    step("The numbers", fmt::format("x: 64 neighbours of W [{}, {}]", v_.rows, v_.cols));
    if (example()) {
      say("The first four numbers of a row, and 60 zeros behind them:");
      put(story::Grid{.key = "", .values = v_.x.leftCols(4), .rows = {"x"}, .columns = numbered("", 4), .decimals = 2});
      add("x", v_.x);
    } else {
      say(fmt::format("Numbers {} to {} of row {} of {}.", v_.block * 64, v_.block * 64 + 63, v_.row, v_.tensor));
      const Matrix<double> square = v_.x.reshaped<Eigen::RowMajor>(8, 8);
      std::vector<std::string> rows;
      for (Index i = 0; i < 8; ++i) rows.push_back(fmt::format("{}", v_.block * 64 + 8 * i));
      put(story::Grid{.key = "x", .values = square, .rows = rows, .columns = numbered("+", 8), .decimals = 4});
    }
    put(story::Number{"largest", "largest magnitude", largest(v_.x), 5});
    if (!example()) put(story::Number{"rms", "root mean square", v_.x.norm() / 8, 5});
  }

  void format(const FormatValues& f) {
    const Words w = words(f.type);
    step(w.title, w.formula);
    say(w.about);
    std::vector<std::string> scales;
    for (Index b = 0; b < f.scales.size(); ++b) scales.push_back(scale_line(f, b));
    lines(scales);
    story::Table table{.key = "", .columns = {"", "x", "x/d", "q", "step", "d·step", "error"}, .rows = {}, .decimals = 5};
    for (Index i = 0; i < shown(); ++i) {
      const double d = scale_of(f, i / f.length).exact();  // codes are made by it; numbers come back by the stored one
      table.rows.push_back({fmt::format("{}", v_.block * 64 + i), v_.x(0, i), plot::number(d == 0 ? 0 : v_.x(0, i) / d),
                            fmt::format("{:.0f}", f.codes(0, i)), plot::number(f.steps(0, i), f.type == QuantizedType::nf4 ? 4 : 0),
                            f.back(0, i), f.back(0, i) - v_.x(0, i)});
    }
    put(std::move(table));
    if (!example()) say(fmt::format("(The first {} of 64; the other 56 go the same way.)", shown()));
    for (Index i = 0; i < 64; ++i) hold(f.scales(i / f.length) * f.steps(0, i), f.back(0, i), largest(f.back));
    put(story::Number{key(f, "bits"), "bits a number, with scales", f.bits, 3});
    put(story::Number{key(f, "error"), "error of the 64, ‖x − x̂‖/‖x‖", f.error, 5});
    add_format(f);
  }

  // What the scale is made of, and by what it is divided: d = of/divisor, before any rounding.
  struct Scale {
    double of = 0, divisor = 1;
    double exact() const { return of == 0 ? 0 : of / divisor; }
  };
  Scale scale_of(const FormatValues& f, Index b) const {
    const Matrix<double> numbers = v_.x.middleCols(b * f.length, f.length);
    Index at = 0;
    const double most = numbers.cwiseAbs().row(0).maxCoeff(&at);
    switch (f.type) {
      case QuantizedType::q8_0:
        return {most, 127};
      case QuantizedType::q4_0:
        return {numbers(0, at), -8};
      case QuantizedType::int4:
        return {most, 7};
      case QuantizedType::nf4:
        break;
    }
    return {most, 1};
  }
  std::string scale_line(const FormatValues& f, Index b) const {
    const Scale s = scale_of(f, b);
    const Index begin = v_.block * 64 + b * f.length;
    const std::string where = f.scales.size() == 1 ? "" : fmt::format("numbers {} … {}: ", begin, begin + f.length - 1);
    const bool same = f.scales(b) == s.exact();
    if (f.type == QuantizedType::nf4)
      return fmt::format("absmax = {:.5g}{}", s.of, same ? "" : fmt::format(", after its own quantization {:.5g} (below)", f.scales(b)));
    return fmt::format("{}d = {:.5g}/{:g} = {:.5g}{}", where, s.of, s.divisor, s.exact(),
                       same ? "" : fmt::format(", in fp16 {:.5g}", f.scales(b)));
  }

  void add_format(const FormatValues& f) {
    add(key(f, "scales").c_str(), f.scales), add(key(f, "codes").c_str(), f.codes), add(key(f, "steps").c_str(), f.steps),
        add(key(f, "back").c_str(), f.back);
    add(key(f, "matrix_bytes").c_str(), f.matrix_bytes), add(key(f, "matrix_error").c_str(), f.matrix_error);
  }

  void beside_each_other() {
    step("Beside each other", "error = ‖x − x̂‖/‖x‖");
    story::Table table{.key = "formats", .columns = {"", "bits", "error", "largest error"}, .rows = {}, .decimals = 5};
    if (!example()) table.columns.insert(table.columns.end(), {"whole matrix", "bytes"});
    for (const FormatValues& f : v_.formats) {
      std::vector<story::Cell> row = {std::string(quantized_name(f.type)), plot::number(f.bits), f.error, largest(f.back - v_.x)};
      if (!example()) row.insert(row.end(), {f.matrix_error, fmt::format("{}", f.matrix_bytes)});
      table.rows.push_back(std::move(row));
    }
    put(std::move(table));
    if (example()) {
      say("Four numbers and many zeros are no typical block, and the order of the last three is luck. On normally distributed weights the "
          "errors are 0.0053, "
          "0.0858, 0.1075 and 0.0920, in this order.");
    } else {
      say(
          fmt::format("In floating point the matrix takes {} bytes. On normally distributed weights the errors would be 0.0053, 0.0858, "
                      "0.1075 and 0.0920, in "
                      "this order.",
                      4 * v_.rows * v_.cols));
    }
  }

  static std::size_t column(double v) { return static_cast<std::size_t>(std::lround((v + 1) / 2 * static_cast<double>(kColumns - 1))); }
  // A line from −1 to 1 with a mark at each value.
  template <class Values>
  static std::string marks(const Values& values) {
    std::vector<std::string> cells(static_cast<std::size_t>(kColumns), "·");
    for (const double v : values) cells[column(v)] = "|";
    std::string line;
    for (const std::string& c : cells) line += c;
    return line;
  }
  // How many of the numbers lie in each column, as bars.
  std::string counts() const {
    static constexpr const char* kBars[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    std::vector<Index> count(static_cast<std::size_t>(kColumns), 0);
    const double most = largest(v_.x);
    for (Index i = 0; i < 64; ++i) ++count[column(most == 0 ? 0 : v_.x(0, i) / most)];
    std::string line;
    for (const Index c : count) line += kBars[std::min<Index>(c, 8)];
    return line;
  }

  void where_levels_are() {
    step("Where the levels are", "int4: q/7   nf4: quantiles of a normal distribution");
    std::vector<double> int4;
    for (int q = -7; q <= 7; ++q) int4.push_back(q / 7.0);
    const std::vector<double> nf4(nf4_levels().begin(), nf4_levels().end());
    say("The line from −1 to 1, which is x over the block's largest magnitude, and what each of the two can say. Above them, how many of "
        "the 64 numbers lie "
        "where (█: 8 and more).");
    lines({fmt::format("x     {}", counts()), fmt::format("int4  {}", marks(int4)), fmt::format("nf4   {}", marks(nf4)),
           fmt::format("      −1{:>23}{:>24}", 0, 1)});
    Vector<double> levels(16), uniform(15);
    for (Index i = 0; i < 16; ++i) levels(i) = nf4[static_cast<std::size_t>(i)];
    for (Index i = 0; i < 15; ++i) uniform(i) = int4[static_cast<std::size_t>(i)];
    add("nf4_levels", levels), add("int4_levels", uniform);
    say(fmt::format(
        "Around zero NF4's levels are {:.3f} and {:.3f} apart, int4's {:.3f} everywhere; at the ends NF4's are {:.3f} and {:.3f} apart.",
        -nf4[6], nf4[8], 1 / 7.0, nf4[1] - nf4[0], nf4[15] - nf4[14]));
  }

  void scales() {
    const Index n = v_.absmax.size();
    step("NF4's scales are quantized too", "absmax ≈ level[code]·maximum + offset   (8 bits a block)");
    say(
        fmt::format("A float for 64 numbers would be 32/64 = 0.5 bits a number. Instead: take away the mean of all absmax of the matrix, "
                    "divide what is left by "
                    "the largest of up to 256 blocks, and keep the nearest of 256 levels in 8 bits: 8/64 + 32/(64·256) = 0.127 bits."));
    put(story::Number{"offset", "offset, the mean", v_.offset, 5});
    put(story::Number{"group_maximum", "maximum of the group", v_.group_maximum, 5});
    const Index first = std::clamp<Index>(v_.group_place - kShownScales / 2, 0, std::max<Index>(n - kShownScales, 0)),
                last = std::min(n, first + kShownScales);
    story::Table table{.key = "", .columns = {"block", "absmax", "− offset", "/maximum", "level", "comes back"}, .rows = {}, .decimals = 5};
    for (Index i = first; i < last; ++i) {
      const double rest = v_.absmax(i) - v_.offset;
      table.rows.push_back({fmt::format("{}{}", v_.group_begin + i, i == v_.group_place ? " *" : ""), v_.absmax(i), rest,
                            v_.group_maximum > 0 ? rest / v_.group_maximum : 0.0, v_.levels(i), v_.absmax_back(i)});
    }
    put(std::move(table));
    say(fmt::format("(* is the block above{}.)",
                    last - first < n ? fmt::format("; {} of the {} blocks of its group are shown", last - first, n) : ""));
    for (Index i = 0; i < n; ++i) hold(v_.levels(i) * v_.group_maximum + v_.offset, v_.absmax_back(i), largest(v_.absmax_back));
    const double size = v_.absmax.norm();
    put(story::Number{"absmax_error", "error of the group's absmax", size > 0 ? (v_.absmax - v_.absmax_back).norm() / size : 0, 5});
    put(story::Number{"exact_scale_error", "block's error, absmax exact", v_.exact_scale_error, 5});
    put(story::Number{"", "and with it quantized", v_.formats.back().error, 5});
    add("absmax", v_.absmax), add("absmax_levels", v_.levels), add("absmax_back", v_.absmax_back);
  }

  void data() {
    out_.closing.push_back(
        fmt::format("Every number comes from the engine's own quantize and dequantize. Multiplied again here, scales and steps differ from "
                    "it by {:.1e} at most "
                    "(relative).",
                    deviation_));
    add("model", example() ? "tiny example" : v_.model), add("example", example()), add("tensor", v_.tensor), add("row", v_.row),
        add("block", v_.block);
    add("rows", v_.rows), add("columns", v_.cols), add("deviation", deviation_);
  }

  const QuantizeValues& v_;
};

}  // namespace

Story quantize_story(const QuantizeValues& v) { return QuantizeTeller(v).tell(); }

}  // namespace glassformer

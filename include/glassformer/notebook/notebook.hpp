// What a notebook's program shows and claims. A notebook is an ordinary C++ program whose cells are comments in jupytext's percent form;
// each output remembers the line of the call that made it, and so finds its cell (notebook/document.hpp). See docs/notebooks.md.
//   nb.show(story::Number{"cache_bytes", "bytes of the cache", bytes, 0, "bytes"}, exactly);
//   nb.claim("the cache takes 2·L·T·G·D·4 bytes", bytes == formula, fmt::format("{} bytes, by the formula {}", bytes, formula));
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "glassformer/core/parallel.hpp"
#include "glassformer/story/story.hpp"

namespace glassformer {

// How an output is compared with the committed one. Another processor rounds otherwise, so each output says what must stay.
struct Comparison {
  enum class Kind {
    exactly,   // plain arithmetic: numbers as they are printed (Number, Grid and Table their decimals, others six digits), texts as they are
    within,    // each number within ± tolerance; not-finite ones alike; texts as they are
    kind_only  // what was trained: the kind of output, its key, title, labels and columns, how many rows, each row's first cell where it is text,
               // names of series and bars
  } kind = Kind::exactly;
  double tolerance = 0;
};
inline constexpr Comparison exactly{Comparison::Kind::exactly, 0}, kind_only{Comparison::Kind::kind_only, 0};
constexpr Comparison within(double tolerance) { return {Comparison::Kind::within, tolerance}; }

// A sentence that this run found true or false. Compared: the sentence, and that it held; not what was measured.
struct Claim {
  std::string sentence, measured;
  bool held = false;
};

struct NotebookOptions {
  std::uint64_t seed = 1;
  Exec exec = {};
  std::function<void(std::string_view)> progress = {};  // sentences for who waits; may be empty
};

// Not thread-safe: show and claim from one thread.
class Notebook {
 public:
  struct Output {
    int line = 0;  // of the call, from 1
    std::variant<story::Item, Claim> what;
    Comparison how;
  };

  explicit Notebook(NotebookOptions options) : options_(std::move(options)) {}

  // An output of the cell that this call stands in. Throws std::invalid_argument when its key was shown before.
  void show(story::Item item, Comparison how, int line = __builtin_LINE());
  // A false one fails the program, once all outputs are written. Returns `held`.
  bool claim(std::string sentence, bool held, std::string measured, int line = __builtin_LINE());

  std::uint64_t seed() const { return options_.seed; }
  const Exec& exec() const { return options_.exec; }
  void progress(std::string_view sentence) const {
    if (options_.progress) options_.progress(sentence);
  }

  const std::vector<Output>& outputs() const { return outputs_; }
  std::vector<Claim> claims() const;

 private:
  NotebookOptions options_;
  std::vector<Output> outputs_;
};

}  // namespace glassformer

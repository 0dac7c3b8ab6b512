// What against_clients.sh asks of the library:
//   tokenizer_tool hard OUT                         1 MB of text made to find differences
//   tokenizer_tool hard-js OUT                      the same without U+0085 and U+FEFF, where JavaScript's \s is not tiktoken's
//   tokenizer_tool train TEXT VOCAB OUT             byte-level BPE of the text, as tokenizer.json; time on standard error
//   tokenizer_tool byte OUT | character TEXT OUT    the other kinds' tokenizer.json
//   tokenizer_tool gpt2 ENCODER VOCAB_BPE OUT       GPT-2's as tokenizer.json
//   tokenizer_tool encode TOKENIZER TEXT            ids as one JSON array; special tokens in the text are text; time on standard error
//   tokenizer_tool encode-special TOKENIZER TEXT    the same, but a special token in the text becomes its id
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <chrono>
#include <fstream>
#include <iterator>

#include "glassformer/tokenizer/tokenizer.hpp"
#include "hard_text.hpp"

namespace {

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + ": cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::string& path, std::string_view text) {
  if (!std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size())))
    throw std::runtime_error(path + ": cannot be written");
}

template <class T>
T value(tl::expected<T, std::string> e) {
  if (!e) throw std::runtime_error(e.error());
  return std::move(*e);
}

std::string without(std::string text, std::string_view part) {
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos;) text.erase(at, part.size());
  return text;
}

struct Clock {
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); }
};

int run(const std::vector<std::string>& a) {
  using namespace glassformer;
  if (a.size() == 2 && a[0] == "hard") return write(a[1], tests::hard_text(1'000'000)), 0;
  if (a.size() == 2 && a[0] == "hard-js") return write(a[1], without(without(tests::hard_text(1'000'000), "\xC2\x85"), "\xEF\xBB\xBF")), 0;
  if (a.size() == 2 && a[0] == "byte") return write(a[1], tokenizer_json(byte_tokenizer())), 0;
  if (a.size() == 3 && a[0] == "character") return write(a[2], tokenizer_json(character_tokenizer(read(a[1])))), 0;
  if (a.size() == 4 && a[0] == "gpt2") return write(a[3], tokenizer_json(value(load_gpt2_tokenizer(a[1], a[2])))), 0;
  if (a.size() == 4 && a[0] == "train") {
    const std::string text = read(a[1]);
    BpeOptions options;
    options.vocab_size = std::stol(a[2]);
    const Clock clock;
    const Tokenizer t = train_bpe(text, options);
    fmt::print(stderr, "{} merges in {:.3f} s\n", t.merges().size(), clock.seconds());
    return write(a[3], tokenizer_json(t)), 0;
  }
  if (a.size() == 3 && (a[0] == "encode" || a[0] == "encode-special")) {
    const Tokenizer t = value(load_tokenizer(a[1]));
    const std::string text = read(a[2]);
    const Clock clock;
    const std::vector<Token> ids = a[0] == "encode" ? t.encode(text) : t.encode_with_special(text);
    const double seconds = clock.seconds();
    fmt::print(stderr, "{} bytes, {} ids, {:.1f} MB/s cold\n", text.size(), ids.size(), static_cast<double>(text.size()) / seconds / 1e6);
    if (t.decode(ids) != text) throw std::runtime_error("decode(encode(text)) is another text");
    fmt::print("[{}]\n", fmt::join(ids, ","));
    return 0;
  }
  fmt::print(stderr, "usage: see the top of tokenizer_tool.cpp\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) try { return run(std::vector<std::string>(argv + 1, argv + argc)); } catch (const std::exception& e) {
  fmt::print(stderr, "tokenizer_tool: {}\n", e.what());
  return 1;
}

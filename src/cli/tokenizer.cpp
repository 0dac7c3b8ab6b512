// tokenizer train | encode | decode
#include <charconv>
#include <chrono>
#include <iostream>
#include <iterator>

#include "cli/json_line.hpp"
#include "cli/terminal.hpp"
#include "cli/text_source.hpp"
#include "glassformer/data/dataset.hpp"
#include "glassformer/io/save.hpp"
#include "glassformer/tokenizer/encoder.hpp"

namespace glassformer::cli {
namespace {

namespace fs = std::filesystem;

std::string standard_input() { return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()}; }

// A piece of a token as it may stand on a line.
std::string shown(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '\n')
      out += "\\n";
    else if (u < 32 || u >= 127)
      out += fmt::format("\\x{:02x}", u);
    else
      out += c;
  }
  return out;
}

int train(Arguments arguments) {
  Options o("tokenizer train", "Trains a byte-level BPE tokenizer: merges the most frequent pair of neighbours, again and again.");
  declare_text_source(o);
  o.group("Tokenizer");
  o.integer("vocab-size", 512, 256, "tokens: 256 bytes, the merged ones and the special ones");
  o.list("special", "TOKEN", "a token of its own, which only its own spelling in the text becomes; <|endoftext|> unless given");
  o.flag("no-special", "no special token");
  o.path("out", "DIR|FILE.json", "where to save", required);
  o.common(kSeed | kThreads | kJson);
  o.example("glassformer tokenizer train --data stories.txt --vocab-size 512 --out tokenizer.json");
  if (!o.parse(arguments)) return 0;

  const TextSource source = read_text_source(o, o.seed());
  BpeOptions options;
  options.vocab_size = o.integer("vocab-size");
  if (o.given("special")) options.special = o.texts("special");
  if (o.is_set("no-special")) options.special.clear();
  const Index wanted = options.vocab_size - 256 - static_cast<Index>(options.special.size());
  require_usage(wanted >= 0, "--vocab-size: expected at least 256 bytes and {} special tokens, found {}", options.special.size(),
                options.vocab_size);
  const auto start = std::chrono::steady_clock::now();
  ProgressLine progress;
  options.on_merge = [&](const Merge& m) {
    if (progress.due()) {
      progress.update(fmt::format("merge {} of {}: \"{}\" + \"{}\", {} times", m.rank + 1, wanted, shown(m.left_bytes),
                                  shown(m.right_bytes), grouped(m.count)));
    }
  };
  const Tokenizer tokenizer = train_bpe_parallel(source.text, options, source.threads);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  fs::path out = o.text("out");
  const FileToSave file{"tokenizer.json", [&](const fs::path& path) { return write_bytes(path, tokenizer_json(tokenizer)); }};
  if (out.extension() == ".json") {
    checked(save_file(out, file.write));
  } else {  // one file of a directory that may hold a model: the others stay
    std::error_code error;
    fs::create_directories(out, error);
    if (error) throw Failure(fmt::format("{}: could not be saved: {}", out.string(), error.message()));
    checked(save_file(out /= file.name, file.write));
  }
  const auto merges = static_cast<Index>(tokenizer.merges().size());
  const double per_byte = static_cast<double>(encode_parallel(tokenizer, source.text, source.threads).size()) / static_cast<double>(source.text.size());
  progress.keep(fmt::format("{}: {} tokens, {} merges in {:.2f} s; {:.3f} tokens per byte of {}", out.string(), tokenizer.vocab_size(),
                            merges, seconds, per_byte, source.name));
  if (merges < wanted) progress.keep(fmt::format("fewer merges than asked: after {} no pair occurs twice", merges));
  if (o.json()) {
    JsonLine()
        .add("vocab_size", tokenizer.vocab_size())
        .add("merges", merges)
        .add("seconds", seconds)
        .add("tokens_per_byte", per_byte)
        .add("out", out.string())
        .print();
  }
  return 0;
}

void declare_tokenizer(Options& o) {
  o.path("tokenizer", "NAME", "char, byte, a model directory, a tokenizer.json or a llama2.c tokenizer.bin", required);
}

Tokenizer read_tokenizer(const Options& o) {
  const std::string choice = o.text("tokenizer");
  require_usage(choice != "bpe", "--tokenizer: expected a tokenizer that exists, found bpe; make one with glassformer tokenizer train");
  TextSource source;
  if (choice == "char") {
    require_usage(o.given("data"), "--tokenizer char is built from a text: expected --data FILE beside it");
    source = {o.text("data"), checked(read_text(o.text("data"))), {}};
  }
  return choose_tokenizer(choice, source, 0);
}

int encode(Arguments arguments) {
  Options o("tokenizer encode", "Prints the ids of a text, from --text, from --data or else from standard input.");
  declare_tokenizer(o);
  o.text("text", "TEXT", "text to encode");
  o.path("data", "FILE", "text to encode; with --tokenizer char the text that it is built from");
  o.flag("pieces", "print each id with its bytes, one a line");
  o.flag("special", "the spelling of a special token in the text becomes its id");
  o.common(kThreads | kJson);
  o.example("glassformer tokenizer encode --tokenizer tokenizer.json --text \"Once upon a time\"");
  if (!o.parse(arguments)) return 0;

  const Tokenizer tokenizer = read_tokenizer(o);
  const std::string text = o.given("text") ? o.text("text") : o.given("data") ? checked(read_text(o.text("data"))) : standard_input();
  const int threads = o.exec().threads;
  const std::vector<Token> ids = o.is_set("special") ? encode_with_special_parallel(tokenizer, text, threads) : encode_parallel(tokenizer, text, threads);
  if (o.json()) {
    JsonLine().add("ids", std::span<const Token>(ids)).print();
    return 0;
  }
  std::string out;
  for (const Token id : ids) {
    if (o.is_set("pieces"))
      out += fmt::format("{}\t{}\n", id, shown(tokenizer.token_bytes(id)));
    else
      out += fmt::format("{}{}", out.empty() ? "" : " ", id);
  }
  print_output(o.is_set("pieces") ? out : out + "\n");
  return 0;
}

std::vector<Token> parse_ids(std::string_view text) {
  std::vector<Token> ids;
  for (std::size_t at = 0; (at = text.find_first_not_of(" ,\t\r\n[]", at)) != text.npos;) {
    const std::size_t end = std::min(text.find_first_of(" ,\t\r\n[]", at), text.size());
    Token id = 0;
    const auto [rest, error] = std::from_chars(text.data() + at, text.data() + end, id);
    require_usage(error == std::errc() && rest == text.data() + end, "ids: expected whole numbers, found {}", text.substr(at, end - at));
    ids.push_back(id);
    at = end;
  }
  return ids;
}

int decode(Arguments arguments) {
  Options o("tokenizer decode", "Prints the bytes that ids stand for. Ids come from --ids or else from standard input.");
  declare_tokenizer(o);
  o.text("ids", "IDS", "ids, separated by spaces or commas");
  o.path("data", "FILE", "with --tokenizer char: the text that it is built from");
  o.common(kJson);
  o.example("glassformer tokenizer decode --tokenizer tokenizer.json --ids \"43 298 300\"");
  if (!o.parse(arguments)) return 0;
  const Tokenizer tokenizer = read_tokenizer(o);
  const std::string text = tokenizer.decode(parse_ids(o.given("ids") ? o.text("ids") : standard_input()));
  if (o.json())
    JsonLine().add("text", std::string_view(text)).print();
  else
    print_output(text);
  return 0;
}

}  // namespace

int tokenizer_command(Arguments arguments) {
  static constexpr Command kCommands[] = {
      {"train", "learns a byte-level BPE from a text", train}, {"encode", "text to ids", encode}, {"decode", "ids to text", decode}};
  return dispatch("glassformer tokenizer", "Text to token ids and back.", kCommands, arguments);
}

}  // namespace glassformer::cli

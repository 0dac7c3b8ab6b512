#include <doctest/doctest.h>

#include <cstring>
#include <fstream>

#include "glassformer/core/random.hpp"
#include "glassformer/tokenizer/tokenizer.hpp"

using namespace glassformer;
namespace fs = std::filesystem;

namespace {

class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / fmt::format("glassformer-tokenizer-{}", static_cast<const void*>(this))) {
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  fs::path write(const std::string& name, std::string_view text) const {
    std::ofstream(path_ / name, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
    return path_ / name;
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void check_same(const Tokenizer& a, const Tokenizer& b) {
  REQUIRE(a.vocab_size() == b.vocab_size());
  CHECK(a.kind() == b.kind());
  CHECK(a.merges() == b.merges());
  CHECK(a.bos() == b.bos());
  CHECK(a.eos() == b.eos());
  for (Token id = 0; id < a.vocab_size(); ++id) {
    CHECK(a.token_bytes(id) == b.token_bytes(id));
    CHECK(a.is_special(id) == b.is_special(id));
  }
}

std::string replaced(std::string text, std::string_view what, std::string_view with) {
  const std::size_t at = text.find(what);
  REQUIRE(at != std::string::npos);
  return text.replace(at, what.size(), with);
}

// The error names the file, is one line, and says `words`.
void check_refused(const Folder& folder, const std::string& text, const std::string& words, const std::string& name = "tokenizer.json") {
  const fs::path path = folder.write(name, text);
  const auto t = load_tokenizer(path);
  CAPTURE(words);
  REQUIRE_FALSE(t.has_value());
  CAPTURE(t.error());
  CHECK(t.error().starts_with(path.string() + ": expected "));
  CHECK(t.error().find(words) != std::string::npos);
  CHECK(t.error().find('\n') == std::string::npos);
  CHECK(t.error().size() < path.string().size() + 250);
}

const fs::path shared = GLASSFORMER_SHARED_DIR;
bool have(const fs::path& path) {
  if (!fs::exists(path)) MESSAGE("skipped: no " << path.string());
  return fs::exists(path);
}

Tokenizer small() {
  BpeOptions options;
  options.vocab_size = 262;
  options.special = {"<|endoftext|>", "<|\xC3\xA9 \"x|>"};
  return train_bpe("low lower lowest \xC3\xA9\xC3\xA9 \n\n\n\n", options);
}

}  // namespace

TEST_CASE("tokenizer.json written and read is the same tokenizer, to the ids and the bytes of the file") {
  const Folder folder;
  const std::string every_ascii =
      "\x01\t\"\\\x7F"
      "az\xC3\xA9\xF0\x9F\x98\x80\xEF\xBB\xBF" +
      std::string(1, '\0');
  for (const Tokenizer& t : {byte_tokenizer(), small(), character_tokenizer(every_ascii)}) {
    const std::string json = tokenizer_json(t);
    const auto back = load_tokenizer(folder.write("tokenizer.json", json));
    REQUIRE_MESSAGE(back.has_value(), back.error());
    check_same(t, *back);
    CHECK(tokenizer_json(*back) == json);
  }
  CHECK(load_tokenizer(folder.path()).has_value());
}

TEST_CASE("tokenizer.json of others: merges as lists, an unknown token, no type") {
  const Folder folder;
  std::string json = tokenizer_json(small());
  const auto merged = load_tokenizer(folder.write("tokenizer.json", replaced(json, "\"l o\"", "[\"l\", \"o\"]")));
  REQUIRE_MESSAGE(merged.has_value(), merged.error());
  check_same(small(), *merged);
  CHECK(load_tokenizer(folder.write("tokenizer.json", replaced(json, "\"type\": \"BPE\",", ""))).has_value());

  json =
      R"({"pre_tokenizer": null, "decoder": {"type": "Fuse"}, "model": {"type": "BPE", "unk_token": "<unk>", "vocab": {"a": 1, "<unk>": 0}, "merges": []}})";
  const auto t = load_tokenizer(folder.write("tokenizer.json", json));
  REQUIRE_MESSAGE(t.has_value(), t.error());
  CHECK(t->encode("aba") == std::vector<Token>{1, 0, 1});
}

TEST_CASE("hostile tokenizer.json: one clear line") {
  const Folder folder;
  const std::string json = tokenizer_json(small());
  CHECK_FALSE(load_tokenizer(folder.path() / "nothing").has_value());
  CHECK_FALSE(load_tokenizer(folder.path()).has_value());  // an empty directory
  CHECK_FALSE(load_tokenizer("/dev/null").has_value());
  check_refused(folder, "", "empty");
  check_refused(folder, "{", "JSON");
  check_refused(folder, json.substr(0, json.size() / 2), "JSON");
  check_refused(folder, "\xFF\xFE{}", "JSON");
  check_refused(folder, "[1, 2]", "object");
  check_refused(folder, "{}", "model");
  check_refused(folder, std::string(200000, '[') + std::string(200000, ']'), "a list of 1");
  check_refused(folder, R"({"model": {"vocab": {"a": )" + std::string(200000, '[') + std::string(200000, ']') + "}}}", "whole number");
  check_refused(folder, replaced(json, "\"BPE\"", "\"Unigram\""), "Unigram");
  check_refused(folder, replaced(json, "\"normalizer\": null", "\"normalizer\": {\"type\": \"NFC\"}"), "NFC");
  check_refused(folder, replaced(json, "\"add_prefix_space\": false", "\"add_prefix_space\": true"), "add_prefix_space");
  check_refused(folder, replaced(json, "\"use_regex\": true", "\"use_regex\": false"), "use_regex");
  check_refused(folder, replaced(json, "\"pre_tokenizer\": {\"type\": \"ByteLevel\"", "\"pre_tokenizer\": {\"type\": \"Split\""), "Split");
  check_refused(folder, replaced(json, "\"byte_fallback\": false", "\"byte_fallback\": true"), "byte_fallback");
  check_refused(folder, replaced(json, "\"!\": 0,", "\"!\": 1,"), "one token an id");
  check_refused(folder, replaced(json, "\"!\": 0,", "\"!\": -1,"), "ids 0 to");
  check_refused(folder, replaced(json, "\"!\": 0,", "\"!\": 999999999999,"), "ids 0 to");
  check_refused(folder, replaced(json, "\"!\": 0,", "\"!\": 1e300,"), "whole number");
  check_refused(folder, replaced(json, "\"!\": 0,", "\"!\": \"0\","), "whole number");
  check_refused(folder, replaced(json, "\"!\": 0,", "\"\\u0144\": 0,"), "byte-level");
  check_refused(folder, replaced(json, "\"!\": 0,", "\"!!\": 0,"), "0x21");
  check_refused(folder, replaced(json, "\"!\": 0,", ""), "ids 0 to");
  check_refused(folder, replaced(json, "\"l o\"", "\"l zz\""), "zz");
  check_refused(folder, replaced(json, "\"l o\"", "\"l z\""), "lz");
  check_refused(folder, replaced(json, "\"l o\"", "\"l o w\""), "two tokens");
  check_refused(folder, replaced(json, "\"l o\"", "\"lo\""), "two tokens");
  check_refused(folder, replaced(json, "\"l o\"", "7"), "two tokens");
  check_refused(folder, replaced(json, "\"l o\"", "\"l o\", \"l o\""), "once");
  check_refused(folder, replaced(json, "\"special\": true", "\"special\": false"), "special");
  check_refused(folder, replaced(json, "\"lstrip\": false", "\"lstrip\": true"), "lstrip");
  check_refused(folder, replaced(json, "\"added_tokens\": [", "\"added_tokens\": [5, "), "objects");
  check_refused(folder, replaced(json, "{\"id\": 260", "{\"id\": 3"), "one id");
}

TEST_CASE("flipped bytes never crash the readers") {
  const Folder folder;
  const std::string json = tokenizer_json(small());
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    std::string broken = json;
    for (std::uint64_t i = 0; i < 3; ++i)
      broken[random_below({seed, 0}, i, broken.size())] = static_cast<char>(random_below({seed, 1}, i, 256));
    const auto t = load_tokenizer(folder.write("tokenizer.json", broken));
    if (t) CHECK(t->decode(t->encode("low!\n")) == "low!\n");
  }
}

TEST_CASE("GPT-2 as published") {
  const fs::path encoder = shared / "data/gpt2/encoder.json", merges = shared / "data/gpt2/vocab.bpe";
  if (!have(encoder) || !have(merges)) return;
  const auto t = load_gpt2_tokenizer(encoder, merges);
  REQUIRE_MESSAGE(t.has_value(), t.error());
  CHECK(t->vocab_size() == 50257);
  CHECK(t->merges().size() == 50000);
  CHECK(t->bos() == 50256);
  CHECK(t->encode("Hello world") == std::vector<Token>{15496, 995});
  CHECK(t->encode_with_special("<|endoftext|>") == std::vector<Token>{50256});
  const Folder folder;
  const auto back = load_tokenizer(folder.write("tokenizer.json", tokenizer_json(*t)));
  REQUIRE_MESSAGE(back.has_value(), back.error());
  check_same(*t, *back);
  const auto directory = load_tokenizer(shared / "data/gpt2");
  REQUIRE_MESSAGE(directory.has_value(), directory.error());
  check_same(*t, *directory);
  const auto swapped = load_gpt2_tokenizer(merges, encoder);
  REQUIRE_FALSE(swapped.has_value());
  CHECK(swapped.error().starts_with(merges.string() + ": expected JSON"));
  CHECK_FALSE(load_gpt2_tokenizer(encoder, folder.write("vocab.bpe", "#version: 0.2\nq zzzz\n")).has_value());
}

TEST_CASE("llama2.c's tokenizer of stories260K") {
  const fs::path path = shared / "data/stories260K/tokenizer.bin";
  if (!have(path)) return;
  const auto t = load_tokenizer(path);
  REQUIRE_MESSAGE(t.has_value(), t.error());
  CHECK(t->kind() == TokenizerKind::score);
  CHECK(t->vocab_size() == 512);
  CHECK(t->bos() == 1);
  CHECK(t->eos() == 2);
  CHECK(tokenizer_bin(*t) == read(path));
  CHECK(load_tokenizer(path.parent_path()).has_value());

  const std::string text = "Once upon a time, there was \xC3\xA9 <0x0A>\n!";
  std::vector<Token> ids = t->encode(text);
  CHECK(t->decode(ids) == " " + text);
  ids.insert(ids.begin(), 1);
  CHECK(t->decode(ids) == text);  // after the start token the leading space is dropped
  CHECK(t->token_bytes(3 + '\n') == "\n");
  CHECK(t->encode("").empty());
  CHECK_THROWS_AS(tokenizer_json(*t), std::invalid_argument);
  CHECK_THROWS_AS(tokenizer_bin(byte_tokenizer()), std::invalid_argument);
  // By the definition of run.c: of all adjacent pairs that make a token, the best score merges, the leftmost of equal ones.
  std::vector<std::string> spelled{" "};
  const std::string story = "Lily and Tom like to play in the park with their big red ball, every day";
  for (const char c : story) spelled.emplace_back(1, c);
  while (true) {
    float best = -1e10f;
    std::size_t at = spelled.size();
    for (std::size_t i = 0; i + 1 < spelled.size(); ++i) {
      const auto id = t->find(spelled[i] + spelled[i + 1]);
      if (id && t->scores()[static_cast<std::size_t>(*id)] > best) best = t->scores()[static_cast<std::size_t>(*id)], at = i;
    }
    if (at == spelled.size()) break;
    spelled[at] += spelled[at + 1];
    spelled.erase(spelled.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  std::vector<std::string> ours;
  for (const Token id : t->encode(story)) ours.emplace_back(t->token_bytes(id));
  CHECK(ours == spelled);
}

TEST_CASE("a small tokenizer.bin by hand, and hostile ones") {
  std::string bin;
  const auto number = [&](auto value) { bin.append(reinterpret_cast<const char*>(&value), sizeof value); };
  const auto token = [&](float score, const std::string& text) {
    number(score), number(static_cast<std::int32_t>(text.size())), bin += text;
  };
  number(std::uint32_t{7});
  token(0, "<unk>"), token(0, "\n<s>\n"), token(0, "\n</s>\n");
  for (int b = 0; b < 256; ++b) token(0, fmt::format("<0x{:02X}>", b));
  const std::size_t bytes_end = bin.size();
  token(-1, " "), token(-2, "a"), token(-3, "b"), token(-5, "ab"), token(-4, "ba"), token(-9, " a");  // ids 259 to 264
  const Folder folder;
  const auto t = load_tokenizer(folder.write("some.bin", bin));
  REQUIRE_MESSAGE(t.has_value(), t.error());
  CHECK(t->encode("aba") == std::vector<Token>{264, 263});  // " ", a, b, a: "ba" (−4) before "ab" (−5), then " a"
  CHECK(t->encode("\xC3\xA9") == std::vector<Token>{259, 3 + 0xC3, 3 + 0xA9});
  CHECK(t->decode(t->encode("\xFF\x80")) == " \xFF\x80");
  CHECK(t->encode_with_special("a\n</s>\n") == std::vector<Token>{264, 2});

  check_refused(folder, bin.substr(0, bin.size() - 1), "end", "tokenizer.bin");
  check_refused(folder, bin.substr(0, 7), "end", "tokenizer.bin");
  check_refused(folder, bin.substr(0, 2), "4 bytes", "tokenizer.bin");
  check_refused(folder, bin.substr(0, bytes_end - 14), "at least 259", "tokenizer.bin");
  std::string lying = bin;
  const std::int32_t huge = 0x7fffffff, negative = -1;
  std::memcpy(lying.data() + 8, &huge, 4);
  check_refused(folder, lying, "length", "tokenizer.bin");
  std::memcpy(lying.data() + 8, &negative, 4);
  check_refused(folder, lying, "length", "tokenizer.bin");
  lying = bin;
  std::memset(lying.data() + 4, 0xFF, 4);  // NaN
  check_refused(folder, lying, "finite", "tokenizer.bin");
  check_refused(folder, replaced(bin, "<0x41>", "<0x42>"), "0x41", "tokenizer.bin");
}

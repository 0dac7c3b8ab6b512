// Writes a Hugging Face tokenizer.json.
#include <nlohmann/json.hpp>

#include "tokenizer/impl.hpp"
#include "tokenizer/unicode.hpp"

namespace glassformer {
namespace {

std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

}  // namespace

// By hand, so that the vocabulary comes in the order of ids; the library quotes the strings.
std::string tokenizer_json(const Tokenizer& tokenizer) {
  const Tokenizer::Impl& t = tokenizer.impl();
  require(t.kind != TokenizerKind::score, "tokenizer.json cannot hold llama2.c's score tokenizer: use tokenizer_bin");
  const bool byte_level = t.kind != TokenizerKind::character;
  const auto spelling = [&](Token id) {
    const std::string& bytes = t.tokens[static_cast<std::size_t>(id)];
    return byte_level && !t.special[static_cast<std::size_t>(id)] ? tokenizer::bytes_to_visible(bytes) : bytes;
  };
  std::string added, vocab, merges;
  for (Token id = 0; id < static_cast<Token>(t.tokens.size()); ++id) {
    vocab += fmt::format("{}\n      {}: {}", id > 0 ? "," : "", quoted(spelling(id)), id);
    if (!t.special[static_cast<std::size_t>(id)]) continue;
    added += fmt::format(
        R"({}{{"id": {}, "content": {}, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}})",
        added.empty() ? "\n    " : ",\n    ", id, quoted(spelling(id)));
  }
  for (const auto& [left, right] : t.merges)
    merges += fmt::format("{}\n      {}", merges.empty() ? "" : ",", quoted(spelling(left) + " " + spelling(right)));
  const char* level = R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})";
  const std::string unknown = t.unknown ? quoted(spelling(*t.unknown)) : "null";
  return fmt::format(R"({{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [{}],
  "normalizer": null,
  "pre_tokenizer": {},
  "post_processor": null,
  "decoder": {},
  "model": {{
    "type": "BPE",
    "dropout": null,
    "unk_token": {},
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "vocab": {{{}}},
    "merges": [{}]
  }}
}}
)",
                     added, byte_level ? level : "null", byte_level ? level : R"({"type": "Fuse"})", unknown, vocab, merges);
}

}  // namespace glassformer

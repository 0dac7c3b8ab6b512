// Reads a Hugging Face tokenizer.json, and GPT-2's encoder.json with vocab.bpe. What the engine would encode differently from
// Hugging Face's tokenizers (another model, a normalizer, another pre-tokenizer, …) is refused, never passed over.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tokenizer/impl.hpp"
#include "tokenizer/unicode.hpp"

namespace glassformer::tokenizer {
namespace {

using json = nlohmann::json;

// A value or text as a message may show it: on one line, not long, and never by recursion into what a hostile file nests.
// Only refers to it, so that an expectation that holds costs nothing.
struct Shown {
  const json* value;
  const std::string* text;
};
Shown shown(const json& value) { return {&value, nullptr}; }
Shown shown(const std::string& text) { return {nullptr, &text}; }

std::string spelled(Shown s) {
  if (s.value && s.value->is_array()) return fmt::format("a list of {}", s.value->size());
  if (s.value && s.value->is_object()) {
    const auto type = s.value->find("type");
    if (type != s.value->end() && type->is_string()) return "an object of type " + spelled(shown(*type));
    return fmt::format("an object of {} members", s.value->size());
  }
  std::string line = (s.value ? *s.value : json(*s.text)).dump(-1, ' ', true, json::error_handler_t::replace);
  if (line.size() > 60) line.replace(57, std::string::npos, "...");
  return line;
}

}  // namespace
}  // namespace glassformer::tokenizer

template <>
struct fmt::formatter<glassformer::tokenizer::Shown> : fmt::formatter<std::string_view> {
  auto format(glassformer::tokenizer::Shown s, fmt::format_context& context) const {
    return fmt::formatter<std::string_view>::format(glassformer::tokenizer::spelled(s), context);
  }
};

namespace glassformer {
namespace tokenizer {
namespace {

// Thrown and caught in this file: the part of the sentence after "FILE: ".
struct Refused {
  std::string message;
};
template <class... A>
void expect(bool ok, fmt::format_string<const A&...> message, const A&... arguments) {
  if (!ok) throw Refused{fmt::format(message, arguments...)};
}

const json& member(const json& object, const char* key) {
  static const json null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

// Absent, null, false and "" all mean that a feature is off.
void expect_off(const json& object, const char* where, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    const json& v = member(object, key);
    expect(v.is_null() || v == false || v == "", "expected {}.{} to be off (the engine lacks it), found {}", where, key, shown(v));
  }
}

Token id_of(const json& id, const std::string& spelling, std::size_t count) {
  expect(id.is_number_integer(), "expected a whole number as the id of token {}, found {}", shown(spelling), shown(id));
  const bool inside = id.is_number_unsigned() && id.get<std::uint64_t>() < count;
  expect(inside, "expected ids 0 to {} ({} tokens without holes), found {} for {}", count - 1, count, shown(id), shown(spelling));
  return id.get<Token>();
}

// vocab and added_tokens: Impl::tokens gets the spelling of each id as the file has it, Impl::special its flag.
void read_tokens(const json& vocab, const json& added, Tokenizer::Impl& t) {
  expect(vocab.is_object() && !vocab.empty(), "expected model.vocab to map tokens to ids, found {}", shown(vocab));
  expect(added.is_null() || added.is_array(), "expected added_tokens to be a list, found {}", shown(added));
  std::size_t count = vocab.size();
  for (const json& token : added) {
    expect(token.is_object(), "expected objects in added_tokens, found {}", shown(token));
    const json& content = member(token, "content");
    expect(content.is_string() && !content.get_ref<const std::string&>().empty(), "expected added_tokens to have content, found {}",
           shown(token));
    expect(member(token, "special") == true, "expected only special tokens in added_tokens, found {} which is not", shown(content));
    expect_off(token, "added_tokens[]", {"single_word", "lstrip", "rstrip"});
    count += !vocab.contains(content.get_ref<const std::string&>());
  }
  t.tokens.assign(count, "");
  t.special.assign(count, false);
  std::vector<bool> used(count, false);
  const auto place = [&](const std::string& spelling, const json& number) {
    const auto id = static_cast<std::size_t>(id_of(number, spelling, count));
    expect(!used[id] || t.tokens[id] == spelling, "expected one token an id, found {} for {} and {}", id, shown(t.tokens[id]),
           shown(spelling));
    used[id] = true;
    t.tokens[id] = spelling;
    return id;
  };
  for (const auto& [spelling, id] : vocab.items()) {
    expect(!spelling.empty(), "expected no empty token in model.vocab, found one");
    place(spelling, id);
  }
  for (const json& token : added) {
    const auto& spelling = member(token, "content").get_ref<const std::string&>();
    const auto same = vocab.find(spelling);
    if (same != vocab.end())
      expect(*same == member(token, "id"), "expected one id for {}, found {} and {}", shown(spelling), shown(*same),
             shown(member(token, "id")));
    t.special[place(spelling, member(token, "id"))] = true;
  }
  const auto hole = static_cast<std::size_t>(std::find(used.begin(), used.end(), false) - used.begin());
  expect(hole == count, "expected ids without holes, found none for {}", hole);
}

// A merge as a pair of spellings: "a b" or ["a", "b"].
std::pair<std::string, std::string> merge_pair(const json& merge) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) return {merge[0], merge[1]};
  const std::string text = merge.is_string() ? merge.get<std::string>() : "";
  const std::size_t space = text.find(' ');
  expect(space != 0 && space != std::string::npos && space + 1 < text.size() && space == text.rfind(' '),
         "expected a merge to be two tokens, found {}", shown(merge));
  return {text.substr(0, space), text.substr(space + 1)};
}

// Spellings become bytes; merges are looked up by spelling.
void finish_byte_level(const json& merges, Tokenizer::Impl& t) {
  std::unordered_map<std::string, Token> by_spelling;
  for (std::size_t id = 0; id < t.tokens.size(); ++id)
    if (!t.special[id]) by_spelling.emplace(t.tokens[id], static_cast<Token>(id));
  const auto named = [&](const std::string& spelling, const json& merge) {
    const auto found = by_spelling.find(spelling);
    expect(found != by_spelling.end(), "expected merges of tokens in the vocabulary, found {} (no token {})", shown(merge),
           shown(spelling));
    return found->second;
  };
  expect(merges.is_null() || merges.is_array(), "expected model.merges to be a list, found {}", shown(merges));
  PairMap seen(merges.size());
  for (const json& merge : merges) {
    const auto [left, right] = merge_pair(merge);
    t.merges.emplace_back(named(left, merge), named(right, merge));
    t.merged.push_back(named(left + right, merge));
    const auto rank = static_cast<std::uint32_t>(t.merges.size() - 1);
    expect(seen.insert(pair_key(t.merges.back().first, t.merges.back().second), rank) == rank, "expected each merge once, found {} again",
           shown(merge));
  }
  std::array<bool, 256> has_byte{};
  for (std::size_t id = 0; id < t.tokens.size(); ++id) {
    if (t.special[id]) continue;
    const auto bytes = visible_to_bytes(t.tokens[id]);
    expect(bytes.has_value(), "expected tokens of byte-level characters, found {}", shown(t.tokens[id]));
    t.tokens[id] = *bytes;
    if (bytes->size() == 1) has_byte[static_cast<unsigned char>((*bytes)[0])] = true;
  }
  const auto missing = std::find(has_byte.begin(), has_byte.end(), false) - has_byte.begin();
  expect(missing == 256, "expected a token for each of the 256 bytes, found none for 0x{:02X}", missing);
  t.kind = t.tokens.size() == 256 && t.merges.empty() ? TokenizerKind::byte : TokenizerKind::bpe;
}

void finish_character(const json& model, Tokenizer::Impl& t) {
  t.kind = TokenizerKind::character;
  const json& unknown = member(model, "unk_token");
  expect(unknown.is_null() || unknown.is_string(), "expected model.unk_token to be a token or null, found {}", shown(unknown));
  for (std::size_t id = 0; id < t.tokens.size(); ++id) {
    if (unknown == t.tokens[id]) t.unknown = static_cast<Token>(id);
    const bool one = static_cast<std::size_t>(code_point_at(t.tokens[id]).bytes) == t.tokens[id].size();
    expect(one || t.special[id] || unknown == t.tokens[id], "expected single characters in a vocabulary without merges, found {}",
           shown(t.tokens[id]));
  }
  expect(unknown.is_null() || t.unknown, "expected model.unk_token in the vocabulary, found {}", shown(unknown));
}

bool has_type(const json& value, const char* type) { return value.is_object() && member(value, "type") == type; }

std::shared_ptr<Tokenizer::Impl> read_document(const json& document) {
  expect(document.is_object(), "expected a tokenizer.json (an object), found {}", shown(document));
  const json& model = member(document, "model");
  expect(model.is_object(), "expected an object `model`, found {}", shown(model));
  const json& type = member(model, "type");
  expect(type.is_null() || type == "BPE", "expected model.type \"BPE\", found {}", shown(type));
  expect_off(model, "model", {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges"});
  expect(member(document, "normalizer").is_null(), "expected no normalizer, found {}", shown(member(document, "normalizer")));
  const json& post = member(document, "post_processor");
  expect(post.is_null() || has_type(post, "ByteLevel"), "expected post_processor null or ByteLevel, found {}", shown(post));

  auto t = std::make_shared<Tokenizer::Impl>();
  read_tokens(member(model, "vocab"), member(document, "added_tokens"), *t);
  const json& pre = member(document, "pre_tokenizer");
  const json& decoder = member(document, "decoder");
  if (pre.is_null()) {
    expect(has_type(decoder, "Fuse"), "expected decoder Fuse where there is no pre_tokenizer, found {}", shown(decoder));
    const json& merges = member(model, "merges");
    expect(merges.is_null() || (merges.is_array() && merges.empty()), "expected no merges where there is no pre_tokenizer, found {}",
           shown(merges));
    finish_character(model, *t);
  } else {
    expect(has_type(pre, "ByteLevel"), "expected pre_tokenizer ByteLevel or null, found {}", shown(pre));
    expect_off(pre, "pre_tokenizer", {"add_prefix_space"});
    const json& regex = member(pre, "use_regex");
    expect(regex.is_null() || regex == true, "expected pre_tokenizer.use_regex true, found {}", shown(regex));
    expect(has_type(decoder, "ByteLevel"), "expected decoder ByteLevel, found {}", shown(decoder));
    finish_byte_level(member(model, "merges"), *t);
  }
  return t;
}

json parse(std::string_view text) {
  try {
    return json::parse(text);
  } catch (const json::exception& e) {
    const std::string why = e.what();  // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    throw Refused{"expected JSON, found " + spelled(shown(why.substr(std::min(why.size(), why.find("] ") + 2))))};
  }
}

}  // namespace

Expected<Tokenizer> parse_tokenizer_json(const std::string& name, std::string_view text) {
  try {
    return Tokenizer::Impl::build(read_document(parse(text)));
  } catch (const Refused& refused) {
    return unexpected("{}: {}", name, refused.message);
  }
}

}  // namespace tokenizer

Expected<Tokenizer> load_gpt2_tokenizer(const std::filesystem::path& encoder_json, const std::filesystem::path& vocab_bpe) {
  using namespace tokenizer;
  const auto vocab_text = read_tokenizer_file(encoder_json);
  if (!vocab_text) return tl::unexpected(vocab_text.error());
  const auto merges_text = read_tokenizer_file(vocab_bpe);
  if (!merges_text) return tl::unexpected(merges_text.error());
  const std::string* name = nullptr;  // of the file that is being read
  const std::string vocab_name = encoder_json.string(), merges_name = vocab_bpe.string();
  try {
    name = &vocab_name;
    auto t = std::make_shared<Tokenizer::Impl>();
    const json vocab = parse(*vocab_text);
    json added = json::array();
    if (vocab.is_object() && vocab.contains(end_of_text) && vocab.at(std::string(end_of_text)).is_number())
      added.push_back({{"id", vocab.at(std::string(end_of_text))}, {"content", end_of_text}, {"special", true}});
    read_tokens(vocab, added, *t);
    name = &merges_name;
    json merges = json::array();
    std::string_view rest = *merges_text;
    for (bool first = true; !rest.empty(); first = false) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
      if ((first && line.starts_with("#version")) || line.empty()) continue;
      expect(!invalid_utf8_offset(line), "expected UTF-8, found other bytes in merge {}", merges.size());
      merges.push_back(std::string(line));
    }
    finish_byte_level(merges, *t);
    return Tokenizer::Impl::build(std::move(t));
  } catch (const tokenizer::Refused& refused) {
    return unexpected("{}: {}", *name, refused.message);
  }
}

}  // namespace glassformer

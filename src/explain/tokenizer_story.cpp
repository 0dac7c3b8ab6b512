// The steps of a tokenizer as a story.
#include <algorithm>

#include "explain/teller.hpp"
#include "glassformer/explain/tokenizer.hpp"
#include "glassformer/plot/text.hpp"

namespace glassformer {
namespace {

constexpr std::size_t kCharacters = 10, kPieces = 16, kSteps = TokenizerSteps::kShownSteps,
                      kTokens = 60;  // rows that are drawn; the data hold all
constexpr Index kShownText = 400, kShownPiece = 24, kShownTokens = 240;  // columns of what is quoted, likewise

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char b : bytes) out += fmt::format("{}{:02X}", out.empty() ? "" : " ", static_cast<unsigned char>(b));
  return out;
}
std::string joined(const std::vector<std::string>& tokens, std::string_view between) {
  std::string out;
  for (std::size_t i = 0; i < tokens.size(); ++i) out += fmt::format("{}{}", i == 0 ? "" : between, plot::visible(tokens[i]));
  return out;
}
std::string joined(const std::vector<Token>& ids) {
  std::string out;
  for (const Token id : ids) out += fmt::format("{}{}", out.empty() ? "" : " ", id);
  return out;
}
std::string more(std::size_t shown, std::size_t count, const char* what) {
  return count > shown ? fmt::format("… and {} more {}; --json has all.", count - shown, what) : "";
}

// The pieces of a state with the one just made in brackets, as many around it as fit.
std::string state_text(const TokenizerSteps::State& state, Index columns) {
  const auto cell = [&state](Index i) {
    const std::string text = plot::visible(state.tokens[static_cast<std::size_t>(i)]);
    return i == state.at ? fmt::format("[{}]", text) : text;
  };
  const auto n = static_cast<Index>(state.tokens.size());
  Index first = std::max<Index>(state.at, 0), last = first + 1;
  Index used = plot::display_width(cell(first));
  const auto take = [&](Index i) {
    const Index width = plot::display_width(cell(i)) + 1;
    if (used + width > columns - 4) return false;  // room for "… " at both ends
    used += width;
    return true;
  };
  for (bool grows = true; grows;) {
    grows = false;
    if (last < n && take(last)) ++last, grows = true;
    if (first > 0 && take(first - 1)) --first, grows = true;
  }
  std::string out = first > 0 ? "… " : "";
  for (Index i = first; i < last; ++i) out += fmt::format("{}{}", i == first ? "" : " ", cell(i));
  return plot::fit(out + (last < n ? " …" : ""), columns);
}

class TokenizerTeller : Teller {
 public:
  explicit TokenizerTeller(const TokenizerSteps& s) : s_(s) {}

  Story tell() {
    opening();
    bytes();
    pre_tokens();
    merges();
    ids();
    training();
    digits();
    data();
    return std::move(out_);
  }

 private:
  bool bpe() const { return s_.kind == TokenizerKind::bpe; }
  bool score() const { return s_.kind == TokenizerKind::score; }
  const EncodedPiece& followed() const { return s_.pieces[static_cast<std::size_t>(s_.piece)]; }
  void say(std::string sentences) {
    if (!sentences.empty()) put(story::Paragraph{std::move(sentences)});
  }

  void opening() {
    out_.component = "tokenizer";
    out_.title = "From text to ids, step by step";
    out_.opening.push_back(s_.is_example ? fmt::format("A tiny example: {}, trained on \"{}\".", s_.name, tokenizer_example_training())
                                         : fmt::format("Tokenizer: {}.", s_.name));
    out_.opening.push_back(fmt::format("Text: \"{}\"", plot::fit(plot::visible(s_.text, false), kShownText)));
  }

  void bytes() {
    out_.section("Bytes", "UTF-8: 1 to 4 bytes a character");
    story::Table t{.key = "", .columns = {"character", "code point", "bytes", "times"}, .rows = {}};
    Index characters = 0, plain = 0;
    std::size_t odd = 0;
    for (const TextCharacter& c : s_.characters) {
      characters += c.count;
      if (c.bytes.size() == 1 && c.code_point >= 32 && c.code_point < 127) {
        plain += c.count;
      } else if (++odd <= kCharacters) {
        t.rows.push_back({plot::visible(c.bytes), c.code_point < 0 ? "not UTF-8" : fmt::format("U+{:04X}", c.code_point), hex(c.bytes),
                          fmt::format("{}", c.count)});
      }
    }
    say(fmt::format("{} characters, {} bytes. Plain ASCII, one byte each: {} of them.{}", characters, s_.text.size(), plain,
                    odd > 0 ? " The others:" : ""));
    if (odd > 0) put(std::move(t));
    say(more(kCharacters, odd, "characters"));
    const TokenizerSteps::Probe& p = s_.invalid;
    say(p.error.empty()
            ? fmt::format("A byte that is never UTF-8, FF, is read as well: id{} {}.", p.ids.size() == 1 ? "" : "s", joined(p.ids))
            : fmt::format("A byte that is never UTF-8, FF, is refused: {}.", p.error));
  }

  void pre_tokens() {
    out_.section("Pre-tokens", bpe() ? "'s|'t|'re|'ve|'m|'ll|'d|␣?\\p{L}+|␣?\\p{N}+|␣?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+" : "");
    switch (s_.kind) {
      case TokenizerKind::character:
        return say("None: each character is looked up alone, and one that the training text lacked has no id.");
      case TokenizerKind::byte:
        return say("None: each byte is its own token.");
      case TokenizerKind::score:
        return say(
            "None: the whole text is one piece, so a token may reach over a space. llama2.c puts a space before it. It starts as "
            "characters; one that the vocabulary lacks falls back to its bytes.");
      case TokenizerKind::bpe:
        break;
    }
    say("GPT-2's pattern cuts the text before anything merges, so no token reaches over these borders. \\p{L} is any letter, \\p{N} any "
        "digit, "
        "\\s any space; ␣? takes one space along.");
    story::Table t{.key = "", .columns = {"no.", "pre-token", "alternative that matched", "bytes", "tokens"}, .rows = {}};
    for (std::size_t i = 0; i < std::min(kPieces, s_.pieces.size()); ++i) {
      const EncodedPiece& p = s_.pieces[i];
      t.rows.push_back({fmt::format("{}", i), plot::fit(plot::visible(p.bytes), kShownPiece), plot::visible(p.rule), fmt::format("{}", p.bytes.size()),
                        fmt::format("{}", p.ids.size())});
    }
    put(std::move(t));
    say(more(kPieces, s_.pieces.size(), "pre-tokens"));
  }

  void merges() {
    if (!bpe() && !score()) return;
    const EncodedPiece& p = followed();
    out_.section("Merges", bpe() ? "the pair of the lowest rank merges" : "the pair of the highest score merges");
    say(bpe() ? fmt::format(
                    "Pre-token {}, \"{}\": its bytes, then again and again the two neighbours that training merged first, until no pair "
                    "has a rank. The new piece stands in brackets.",
                    s_.piece, plot::fit(plot::visible(p.bytes), 40))
              : "Again and again the two neighbours whose joint text is the token of the highest score, until no pair is a token. The new "
                "piece "
                "stands in brackets.");
    std::vector<std::string> heads = {"start"};
    const std::size_t shown = std::min(kSteps, p.steps.size());
    for (std::size_t i = 0; i < shown; ++i) {
      const MergeStep& m = p.steps[i];
      const std::string& made = s_.states[i + 1].tokens[static_cast<std::size_t>(s_.states[i + 1].at)];
      const auto left = static_cast<std::size_t>(s_.states[i].tokens[static_cast<std::size_t>(s_.states[i + 1].at)].size());
      heads.push_back(fmt::format("{} {} + {}", bpe() ? fmt::format("rank {:<5}", m.rank) : fmt::format("score {:>7.2f} ", m.score),
                                  plot::fit(plot::visible(made.substr(0, left)), 9), plot::fit(plot::visible(made.substr(left)), 9)));
    }
    Index width = 0;
    for (const std::string& h : heads) width = std::max(width, plot::display_width(h));
    std::vector<std::string> lines;
    for (std::size_t i = 0; i < heads.size(); ++i)
      lines.push_back(fmt::format("{}   {}", plot::pad_right(heads[i], width), state_text(s_.states[i], 54 - width)));
    put(story::Lines{std::move(lines)});
    say(more(kSteps, p.steps.size(), "merges"));
    say(fmt::format("{} pieces became {} token{} by {} merge{}: id{} {}.", p.symbols.size(), p.ids.size(), p.ids.size() == 1 ? "" : "s",
                    p.steps.size(), p.steps.size() == 1 ? "" : "s", p.ids.size() == 1 ? "" : "s",
                    p.ids.size() <= kTokens ? joined(p.ids) : fmt::format("{} …", joined({p.ids.begin(), p.ids.begin() + kTokens}))));
  }

  void ids() {
    out_.section("Ids", "text = decode(ids)");
    if (bpe()) {
      story::Table t{.key = "", .columns = {"no.", "tokens", "ids"}, .rows = {}};
      for (std::size_t i = 0; i < std::min(kPieces, s_.pieces.size()); ++i)
        t.rows.push_back({fmt::format("{}", i), plot::fit(joined(s_.piece_tokens[i], "|"), kShownTokens),
                          plot::fit(joined(s_.pieces[i].ids), kShownTokens)});
      put(std::move(t));
      say(more(kPieces, s_.pieces.size(), "pre-tokens"));
    } else {
      const std::size_t n = std::min(kTokens, s_.ids.size());
      const auto end = static_cast<std::ptrdiff_t>(n);
      say(joined({s_.piece_tokens[0].begin(), s_.piece_tokens[0].begin() + end}, "|"));
      say(joined({s_.ids.begin(), s_.ids.begin() + end}));
      say(more(kTokens, s_.ids.size(), "tokens"));
    }
    put(story::Number{.key = "text_bytes", .label = "bytes", .value = static_cast<double>(s_.text.size()), .decimals = 0});
    put(story::Number{.key = "text_tokens", .label = "tokens", .value = static_cast<double>(s_.ids.size()), .decimals = 0});
    put(story::Number{.key = "tokens_per_byte",
                      .label = "tokens per byte",
                      .value = static_cast<double>(s_.ids.size()) / static_cast<double>(s_.text.size())});
    say(s_.decoded == s_.text         ? "Decoded, the ids are the text again, byte for byte."
        : s_.decoded == ' ' + s_.text ? "Decoded, the ids are the text again, behind the space that was put before it."
                                      : fmt::format("Decoded, the ids are \"{}\": not the text.",
                                                    plot::fit(plot::visible(s_.decoded, false), kShownText)));
  }

  void training() {
    if (s_.kind == TokenizerKind::byte) return;
    if (s_.kind == TokenizerKind::character) {
      out_.section("What training did", "");
      return say(
          fmt::format("It listed the {} different characters of its text in the order of their code points: the ids. Texts take as many "
                      "tokens as they have characters.",
                      s_.vocab_size));
    }
    const bool counted = !s_.learned.empty() && s_.learned.front().count >= 0;
    out_.section("What training did", bpe() ? "the most frequent pair merges, again and again" : "");
    say(bpe() ? fmt::format(
                    "{} merges were learned, the first with rank 0.{}", s_.merges,
                    counted ? " Count: how often the pair stood in the training text when it was merged; of equal counts the pair with the "
                              "smaller ids."
                            : "")
              : fmt::format(
                    "{} tokens of several characters, each with a score: the best of them. (SentencePiece's BPE exports minus the rank.)",
                    s_.merges));
    story::Table t{.key = "", .columns = {}, .rows = {}, .decimals = bpe() ? 0 : 2};
    t.columns = bpe() ? std::vector<std::string>{"rank", "left", "right", "token"} : std::vector<std::string>{"token", "score"};
    if (counted) t.columns.push_back("count");
    for (std::size_t i = 0; i < s_.learned.size(); ++i) {
      const TokenizerSteps::Learned& l = s_.learned[i];
      std::vector<story::Cell> row = {plot::visible(l.bytes)};
      if (bpe())
        row = {static_cast<double>(i), plot::visible(l.left), plot::visible(l.right), plot::visible(l.bytes)};
      else
        row.push_back(l.score);
      if (counted) row.push_back(static_cast<double>(l.count));
      t.rows.push_back(std::move(row));
    }
    put(std::move(t));
  }

  void digits() {
    out_.section("Digits", "");
    const TokenizerSteps::Probe& p = s_.card;
    if (!p.error.empty()) return say(fmt::format("\"{}\", {}, has no ids: {}.", p.bytes, p.what, p.error));
    say(fmt::format("How {}, \"{}\", splits: {} tokens for {} bytes.{}", p.what, p.bytes, p.ids.size(), p.bytes.size(),
                    bpe() || score()
                        ? " Digits that training did not see together stay single; whoever copies or masks the number has to get every "
                          "token of it right."
                        : ""));
    say(joined(p.tokens, "|"));
    say(joined(p.ids));
  }

  void data() {
    static constexpr const char* kKinds[] = {"character", "byte", "bpe", "score"};
    add("example", s_.is_example), add("kind", kKinds[static_cast<std::size_t>(s_.kind)]), add("tokenizer", s_.name),
        add("vocab_size", s_.vocab_size);
    add("text", s_.text), add("ids", s_.ids);
    std::vector<std::string> tokens, pieces, rules, character_bytes;
    Index steps = 0;
    for (const auto& p : s_.piece_tokens) tokens.insert(tokens.end(), p.begin(), p.end());
    for (const EncodedPiece& p : s_.pieces)
      pieces.push_back(p.bytes), rules.emplace_back(p.rule), steps += static_cast<Index>(p.steps.size());
    add("tokens", tokens), add("pre_tokens", pieces), add("pre_token_rules", rules), add("pre_token", s_.piece),
        add("symbols", followed().symbols);
    Matrix<double> characters(static_cast<Index>(s_.characters.size()), 2), all(steps, 7), counts(static_cast<Index>(s_.pieces.size()), 2);
    for (Index i = 0; i < characters.rows(); ++i) {
      const TextCharacter& c = s_.characters[static_cast<std::size_t>(i)];
      character_bytes.push_back(hex(c.bytes));
      characters.row(i) << static_cast<double>(c.code_point), static_cast<double>(c.count);
    }
    Index row = 0;
    for (std::size_t i = 0; i < s_.pieces.size(); ++i) {
      counts.row(static_cast<Index>(i)) << static_cast<double>(s_.pieces[i].bytes.size()), static_cast<double>(s_.pieces[i].ids.size());
      for (const MergeStep& m : s_.pieces[i].steps)
        all.row(row++) << static_cast<double>(i), static_cast<double>(m.begin), m.left, m.right, m.token, static_cast<double>(m.rank),
            m.score;
    }
    add("characters", characters), add("character_columns", std::vector<std::string>{"code_point", "count"}),
        add("character_bytes", character_bytes);
    add("pre_token_counts", counts), add("pre_token_count_columns", std::vector<std::string>{"bytes", "tokens"});
    add("steps", all), add("step_columns", std::vector<std::string>{"pre_token", "begin", "left", "right", "token", "rank", "score"});
    std::vector<std::string> learned;
    Matrix<double> numbers(static_cast<Index>(s_.learned.size()), 2);
    for (Index i = 0; i < numbers.rows(); ++i) {
      const TokenizerSteps::Learned& l = s_.learned[static_cast<std::size_t>(i)];
      learned.push_back(l.bytes);
      numbers.row(i) << static_cast<double>(l.count), l.score;
    }
    add("learned", learned), add("learned_numbers", numbers), add("learned_columns", std::vector<std::string>{"count", "score"});
    add("merges", s_.merges), add("card_ids", s_.card.ids), add("card_tokens", s_.card.tokens), add("invalid_ids", s_.invalid.ids);
  }

  const TokenizerSteps& s_;
};

}  // namespace

Story tokenizer_story(const TokenizerSteps& s) { return TokenizerTeller(s).tell(); }

}  // namespace glassformer

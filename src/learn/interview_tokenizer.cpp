// Questions about tokenizers.
#include <cmath>
#include <map>

#include "glassformer/data/corpus.hpp"
#include "glassformer/tokenizer/tokenizer.hpp"
#include "learn/formulas.hpp"
#include "learn/interview.hpp"

namespace glassformer::learn {
namespace {

// A tokenizer of tales, whose text has no digits.
Tokenizer tales_tokenizer(Index vocab, Index bytes = 30000) {
  BpeOptions options;
  options.vocab_size = vocab;
  return train_bpe(make_corpus(CorpusKind::stories, bytes, 1).text, options);
}

InterviewQuestion card_digits(std::uint64_t seed) {
  Draws d(seed, "tokenizer-card");
  const Index which = d.between(0, 3);
  // Numbers that payment processors publish for tests.
  const std::string numbers[] = {"4111111111111111", "5555555555554444", "378282246310005", "4111 1111 1111 1111"};
  const std::string text = numbers[which];
  const double bytes = static_cast<double>(text.size());
  return {.id = "tokenizer-card",
          .text = fmt::format(
              "A byte-level BPE tokenizer with 400 tokens was trained on tales that hold no digit. A customer types the test card "
              "number \"{}\". How many tokens does the model read?",
              text),
          .unit = "tokens",
          .tolerance = kExact,
          .compute = [text] { return static_cast<double>(tales_tokenizer(400).encode(text).size()); },
          .formula = bytes,
          .derivation = fmt::format(
              "A merge is learned only for a pair that the training text holds. No pair with a digit was there, so every byte of the "
              "number stays a token of its own: {} bytes{}, {} tokens.",
              bytes, which == 3 ? " (the spaces count)" : "", bytes),
          .carry_over = fmt::format(
              "Llama 2 splits every number into single digits: 16 tokens for 16 digits. Llama 3 cuts numbers into groups of up to "
              "three digits: ⌈16/3⌉ = {}. GPT-2 merges digits as often as its text did, so two card numbers may differ in length.",
              std::ceil(16 / 3.0)),
          .carry_over_number = std::ceil(16 / 3.0),
          .follow_up = "Does a card number that is cut into single digits leak less?",
          .follow_up_answer =
              "No. The model sees all digits in order and can learn and repeat them. How a number is cut changes the length and how well "
              "arithmetic works, not privacy: mask it before it reaches the model, and check what leaves.",
          .read = {"docs/tokenizer.md", "glassformer explain tokenizer", "notebook 01"}};
}

InterviewQuestion utf8_bytes(std::uint64_t seed) {
  Draws d(seed, "tokenizer-utf8");
  const std::string texts[] = {"Zürich", "café €5", "naïve", "東京", "über 5 €"};
  const std::string text = texts[d.between(0, 4)];
  // A byte that begins a character says how many follow: 0xxxxxxx 0, 110xxxxx 1, 1110xxxx 2, 11110xxx 3.
  double bytes = 0;
  std::string parts;
  for (const char c : text) {
    const auto b = static_cast<unsigned char>(c);
    const int length = b < 0x80 ? 1 : b < 0xC0 ? 0 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
    if (length > 0) parts += (parts.empty() ? "" : " + ") + std::to_string(length);
    bytes += length;
  }
  return {
      .id = "tokenizer-utf8",
      .text = fmt::format("How many tokens is \"{}\" for a tokenizer of bytes?", text),
      .unit = "tokens",
      .tolerance = kExact,
      .compute = [text] { return static_cast<double>(byte_tokenizer().encode(text).size()); },
      .formula = bytes,
      .derivation =
          fmt::format("One token a byte of UTF-8: ASCII takes 1, other Latin letters 2, € and ideographs 3. Here {} = {}.", parts, bytes),
      .carry_over =
          "GPT-2 and Llama 3 begin from the same 256 bytes, so there is no text that they cannot read and they need no \"unknown\" token: "
          "whatever was not learned falls back to its bytes, 256 tokens that are always there.",
      .carry_over_number = static_cast<double>(byte_tokenizer().vocab_size()),
      .follow_up = "Why not work on bytes alone, then?",
      .follow_up_answer =
          "Sequences become three to four times as long as with GPT-2's tokens. Attention's cost grows with the square of the length, and "
          "the same context window holds that much less text.",
      .read = {"docs/tokenizer.md", "glassformer explain tokenizer"}};
}

InterviewQuestion vocabulary(std::uint64_t seed) {
  Draws d(seed, "tokenizer-merges");
  const Index vocab = d.one_of({300, 320, 350, 384, 400, 420});
  const double merges = static_cast<double>(vocab - 256 - 1);
  return {
      .id = "tokenizer-merges",
      .text = fmt::format("You train byte-level BPE to a vocabulary of {} tokens, one of them the special token <|endoftext|>. How many "
                          "merges does it learn?",
                          vocab),
      .unit = "merges",
      .tolerance = kExact,
      .compute = [vocab] { return static_cast<double>(tales_tokenizer(vocab).merges().size()); },
      .formula = merges,
      .derivation = fmt::format("vocabulary = 256 bytes + merges + special tokens, so merges = {} − 256 − 1 = {}.", vocab, merges),
      .carry_over = fmt::format("GPT-2: 256 bytes + 50,000 merges + 1 special token = {} tokens.", grouped(256 + 50000 + 1)),
      .carry_over_number = 256 + 50000 + 1,
      .follow_up = "In which order are the merges applied to a new text?",
      .follow_up_answer =
          "In the order in which they were learned: of all adjacent pairs the one with the lowest rank is merged first, again and again, "
          "inside each pre-token. Taking the longest token that fits instead gives other tokens.",
      .read = {"docs/tokenizer.md", "glassformer explain tokenizer"}};
}

InterviewQuestion repeated_pair(std::uint64_t seed) {
  Draws d(seed, "tokenizer-repeats");
  const Index doublings = d.between(3, 5);
  const Index merges = d.between(1, doublings - 1);
  std::string text;
  for (Index i = 0; i < Index(1) << doublings; ++i) text += "ab";
  const double tokens = std::pow(2.0, static_cast<double>(doublings - merges + 1));
  return {
      .id = "tokenizer-repeats",
      .text = fmt::format(
          "BPE is trained on \"ab\" written {} times without a space, and learns {} merge{}. Into how many tokens does it cut that text?",
          Index(1) << doublings, merges, merges == 1 ? "" : "s"),
      .unit = "tokens",
      .tolerance = kExact,
      .compute =
          [text, merges] {
            BpeOptions options;
            options.vocab_size = 256 + merges, options.special = {};
            return static_cast<double>(train_bpe(text, options).encode(text).size());
          },
      .formula = tokens,
      .derivation = fmt::format(
          "The first merge makes ab of a and b: {} tokens. Each later one joins two neighbours, which are all alike, and halves the "
          "number: {}/2^{} = {}.",
          Index(1) << doublings, Index(1) << doublings, merges - 1, tokens),
      .carry_over = fmt::format(
          "Real text repeats itself far less. GPT-2 cuts the 1,115,394 bytes of Shakespeare's plays (tinyshakespeare) into 338,025 "
          "tokens: {} bytes a token.",
          digits(1115394 / 338025.0)),
      .carry_over_number = 1115394 / 338025.0,
      .follow_up = "Why does GPT-2 cut the text into words before it merges?",
      .follow_up_answer =
          "So that no token spans words or glues punctuation to them (\"dog.\", \"dog!\"): such tokens would waste the vocabulary on "
          "combinations. It also lets training count each distinct word once.",
      .read = {"docs/tokenizer.md", "glassformer explain tokenizer", "notebook 01"}};
}

InterviewQuestion vocabulary_parameters(std::uint64_t seed) {
  Draws d(seed, "tokenizer-cost");
  const Index width = d.one_of({64, 96, 128, 256}), vocab = d.one_of({512, 1000, 2000}), factor = d.one_of({2, 4});
  const bool tied = d.between(0, 1) == 0;
  const double more = static_cast<double>((factor - 1) * vocab * width * (tied ? 1 : 2));
  return {
      .id = "tokenizer-cost",
      .text = fmt::format("Width {}. The vocabulary grows from {} to {} tokens; the output head is {}. How many parameters are added?",
                          width, grouped(static_cast<double>(vocab)), grouped(static_cast<double>(factor * vocab)),
                          tied ? "tied to the embedding" : "a matrix of its own"),
      .unit = "parameters",
      .tolerance = {0.02, 0},
      .compute =
          [=] {
            ModelConfig small = gpt2_like(1, 1, width, 16, vocab);
            small.tied = tied;
            ModelConfig large = small;
            large.vocab = factor * vocab;
            return static_cast<double>(make_decoder<float>(large).arena.layout().parameters() -
                                       make_decoder<float>(small).arena.layout().parameters());
          },
      .formula = more,
      .derivation = fmt::format("One row of width C for each new token{}: {}·{}{} = {}.", tied ? "" : ", in the embedding and in the head",
                                grouped(static_cast<double>((factor - 1) * vocab)), width, tied ? "" : "·2", grouped(more)),
      .carry_over = fmt::format(
          "From Llama 2 (32,000 tokens) to Llama 3 (128,256), width 4,096, a head of its own: 2·96,256·4,096 = {} parameters more, "
          "more than half of the way from 7B to 8B.",
          grouped(2.0 * (128256 - 32000) * 4096)),
      .carry_over_number = 2.0 * (128256 - 32000) * 4096,
      .follow_up = "What does a larger vocabulary buy, and when is it not worth it?",
      .follow_up_answer =
          "Fewer tokens for the same text: shorter sequences, a smaller cache, more text in the window. But rows of rare tokens are "
          "trained "
          "seldom, and in a small model the tables take most of the parameters and of the head's time.",
      .read = {"docs/tokenizer.md", "notebook 01"}};
}

}  // namespace

void add_tokenizer_questions(Questions& all, std::uint64_t seed) {
  for (const auto make : {card_digits, utf8_bytes, vocabulary, repeated_pair, vocabulary_parameters}) {
    all.push_back(make(seed)), all.back().topic = "tokenizer";
  }
}

}  // namespace glassformer::learn

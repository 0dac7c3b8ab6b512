// From text to what a training step reads. Batches are packed: sequences of any length lie one after another, and a list of starts
// bounds them.
//   T  tokens of one sequence
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "glassformer/core/matrix.hpp"
#include "glassformer/core/random.hpp"
#include "glassformer/core/require.hpp"

namespace glassformer {

// The bytes of a file, whatever they are. Missing, a directory, unreadable or empty: one sentence that says so.
Expected<std::string> read_text(const std::filesystem::path& path);

struct TokenSplit {
  std::vector<Token> train, val;
};
// The first ⌊(1 − val_fraction)·n⌋ ids train, the rest validate (nanoGPT's split). Throws unless 0 <= val_fraction < 1.
TokenSplit split_tokens(std::vector<Token> ids, double val_fraction = 0.1);

struct Batch {
  std::vector<Token> inputs;   // [ΣT]
  std::vector<Token> targets;  // [ΣT]  the token that follows each input; −1 is not scored
  std::vector<Index> starts;   // where each sequence starts, and ΣT at the end
  Index sequences() const { return starts.empty() ? 0 : static_cast<Index>(starts.size()) - 1; }
  Index scored() const;  // targets that are not −1
};

// `batch` windows of `context` tokens at random offsets. Row b of step s starts at random_below(stream.at(s), b, n − context): a pure
// function of its arguments, so a resumed run reads what the first would have read.
// With a document separator (the token that begins each document, such as <|endoftext|>), a row is the whole document at that place from its
// start, or, of a document longer than `context`, the piece at that place. No token then attends to another document, and every
// reference that a text makes is to something that the model can see. The last token of a document predicts the separator.
// Throws std::invalid_argument when there are fewer than context + 1 tokens, naming both.
Batch random_batch(std::span<const Token> ids, Index batch, Index context, const RandomStream& stream, std::uint64_t step,
                   std::optional<Token> document_separator = std::nullopt);

// The whole text once: non-overlapping windows of `context` tokens, the last one shorter, or with a separator the documents in pieces of at
// most `context` tokens; at most `max_sequences` sequences a batch.
// Every token but the first is the target exactly once. Throws when there are fewer than 2 tokens.
std::vector<Batch> whole_split(std::span<const Token> ids, Index context, Index max_sequences,
                               std::optional<Token> document_separator = std::nullopt);

// A question and its answer: only the answer is scored.
struct Example {
  std::vector<Token> prompt, answer;
};
// One sequence an example: inputs are prompt and answer without the last token, targets inside the prompt are −1.
// An example of more than `context` inputs loses the oldest tokens of its prompt. Throws when a prompt or an answer is empty, or when
// an answer alone does not fit (it needs one token of prompt before it).
Batch pack_examples(std::span<const Example> examples, Index context);

// The batch with `prefix` before each sequence, not scored: the virtual tokens of a soft prompt, or examples to learn from in context.
Batch prepend(const Batch&, std::span<const Token> prefix);

// Splits dialogues ("Customer: …\nAgent: …\n" with a blank line between dialogues) at each answer: the dialogue up to and including
// "Agent:", and the rest of that line with its newline. Prompt and answer together are the dialogue's own bytes.
std::vector<std::pair<std::string, std::string>> prompts_and_answers(std::string_view support_text);

}  // namespace glassformer

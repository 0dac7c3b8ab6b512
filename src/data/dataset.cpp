#include "glassformer/data/dataset.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

namespace glassformer {
namespace {

// Appends the window ids[begin, end], whose last token is only a target, as one sequence.
void append_window(Batch& batch, std::span<const Token> ids, Index begin, Index end) {
  const auto first = ids.begin() + begin, last = ids.begin() + end;
  batch.starts.push_back(static_cast<Index>(batch.inputs.size()));
  batch.inputs.insert(batch.inputs.end(), first, last);
  batch.targets.insert(batch.targets.end(), first + 1, last + 1);
}

// Where the sequence that begins at `begin` ends: after `context` tokens, before the next document, before the text's last token.
Index sequence_end(std::span<const Token> ids, Index begin, Index context, std::optional<Token> separator) {
  const Index limit = std::min(begin + context, static_cast<Index>(ids.size()) - 1);
  if (!separator) return limit;
  return std::find(ids.begin() + begin + 1, ids.begin() + limit, *separator) - ids.begin();
}

// Where the sequence that holds place `at` begins, when every document is cut into pieces of `context` tokens from its start.
Index sequence_begin(std::span<const Token> ids, Index at, Index context, Token separator) {
  Index document = at;
  while (document > 0 && ids[static_cast<std::size_t>(document)] != separator) --document;
  return document + (at - document) / context * context;
}

void close(Batch& batch) { batch.starts.push_back(static_cast<Index>(batch.inputs.size())); }

}  // namespace

Expected<std::string> read_text(const std::filesystem::path& path) {
  const std::string name = path.string();
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) return unexpected("{}: expected a text file, found nothing there", name);
  if (std::filesystem::is_directory(status)) return unexpected("{}: expected a text file, found a directory", name);
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return unexpected("{}: expected a readable text file, found that it cannot be opened ({})", name, std::strerror(errno));
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) return unexpected("{}: expected a readable text file, found an error while reading", name);
  if (text.empty()) return unexpected("{}: expected some text, found an empty file", name);
  return text;
}

TokenSplit split_tokens(std::vector<Token> ids, double val_fraction) {
  require(val_fraction >= 0 && val_fraction < 1, "split_tokens: expected a fraction in [0, 1), found {}", val_fraction);
  const auto boundary = ids.begin() + static_cast<Index>((1 - val_fraction) * static_cast<double>(ids.size()));
  TokenSplit split;
  split.val.assign(boundary, ids.end());
  ids.erase(boundary, ids.end());
  split.train = std::move(ids);
  return split;
}

Index Batch::scored() const {
  return static_cast<Index>(std::count_if(targets.begin(), targets.end(), [](Token t) { return t >= 0; }));
}

Batch random_batch(std::span<const Token> ids, Index batch, Index context, const RandomStream& stream, std::uint64_t step,
                   std::optional<Token> document_separator) {
  require(batch > 0 && context > 0, "random_batch: expected a batch and a context of at least 1, found {} and {}", batch, context);
  const auto n = static_cast<Index>(ids.size());
  require(n > context, "random_batch: a context of {} needs at least {} tokens of text, found {}", context, context + 1, n);
  Batch result;
  result.inputs.reserve(static_cast<std::size_t>(batch * context));
  result.targets.reserve(static_cast<std::size_t>(batch * context));
  const RandomStream offsets = stream.at(step);
  for (Index row = 0; row < batch; ++row) {
    const Index places = document_separator ? n - 1 : n - context;
    auto begin = static_cast<Index>(random_below(offsets, static_cast<std::uint64_t>(row), static_cast<std::uint64_t>(places)));
    if (document_separator) begin = sequence_begin(ids, begin, context, *document_separator);
    append_window(result, ids, begin, sequence_end(ids, begin, context, document_separator));
  }
  close(result);
  return result;
}

std::vector<Batch> whole_split(std::span<const Token> ids, Index context, Index max_sequences, std::optional<Token> document_separator) {
  require(context > 0 && max_sequences > 0, "whole_split: expected a context and a number of sequences of at least 1, found {} and {}", context,
          max_sequences);
  const auto n = static_cast<Index>(ids.size());
  require(n >= 2, "whole_split: expected at least 2 tokens, found {}", n);
  std::vector<Batch> batches;
  Index sequences = 0;
  for (Index begin = 0; begin < n - 1; ++sequences) {
    if (sequences % max_sequences == 0) {
      if (!batches.empty()) close(batches.back());
      batches.emplace_back();
    }
    const Index end = sequence_end(ids, begin, context, document_separator);
    append_window(batches.back(), ids, begin, end);
    begin = end;
  }
  close(batches.back());
  return batches;
}

Batch pack_examples(std::span<const Example> examples, Index context) {
  require(!examples.empty(), "pack_examples: expected at least one example, found none");
  require(context > 0, "pack_examples: expected a context of at least 1, found {}", context);
  Batch batch;
  for (std::size_t e = 0; e < examples.size(); ++e) {
    const auto& [prompt, answer] = examples[e];
    const auto asked = static_cast<Index>(prompt.size()), answered = static_cast<Index>(answer.size());
    require(asked > 0 && answered > 0, "pack_examples: example {} has a prompt of {} tokens and an answer of {}, expected at least 1 of each", e,
            asked, answered);
    require(answered <= context, "pack_examples: the answer of example {} has {} tokens, more than the context of {}", e, answered, context);
    const Index kept = std::min(asked, context + 1 - answered);  // tokens of the prompt, its newest
    batch.starts.push_back(static_cast<Index>(batch.inputs.size()));
    batch.inputs.insert(batch.inputs.end(), prompt.end() - kept, prompt.end());
    batch.inputs.insert(batch.inputs.end(), answer.begin(), answer.end() - 1);
    batch.targets.insert(batch.targets.end(), static_cast<std::size_t>(kept - 1), Token{-1});
    batch.targets.insert(batch.targets.end(), answer.begin(), answer.end());
  }
  close(batch);
  return batch;
}

Batch prepend(const Batch& batch, std::span<const Token> prefix) {
  Batch longer;
  longer.starts.push_back(0);
  for (Index s = 0; s < batch.sequences(); ++s) {
    const Index begin = batch.starts[static_cast<std::size_t>(s)], end = batch.starts[static_cast<std::size_t>(s) + 1];
    longer.inputs.insert(longer.inputs.end(), prefix.begin(), prefix.end());
    longer.inputs.insert(longer.inputs.end(), batch.inputs.begin() + begin, batch.inputs.begin() + end);
    longer.targets.insert(longer.targets.end(), prefix.size(), -1);
    longer.targets.insert(longer.targets.end(), batch.targets.begin() + begin, batch.targets.begin() + end);
    longer.starts.push_back(static_cast<Index>(longer.inputs.size()));
  }
  return longer;
}

std::vector<std::pair<std::string, std::string>> prompts_and_answers(std::string_view text) {
  constexpr std::string_view agent = "Agent:";
  std::vector<std::pair<std::string, std::string>> pairs;
  std::size_t dialogue = 0;
  for (std::size_t line = 0; line < text.size();) {
    const auto newline = text.find('\n', line);
    const auto end = newline == std::string_view::npos ? text.size() : newline + 1;
    if (text[line] == '\n') dialogue = end;  // a blank line: the next dialogue starts behind it
    if (text.substr(line, agent.size()) == agent) {
      const auto answer = line + agent.size();
      if (answer < end) pairs.emplace_back(text.substr(dialogue, answer - dialogue), text.substr(answer, end - answer));
    }
    line = end;
  }
  return pairs;
}

}  // namespace glassformer

#include "glassformer/sample/prompt.hpp"

#include "glassformer/core/require.hpp"

namespace glassformer {

std::optional<Token> start_token(const ModelConfig& config, const Tokenizer& tokenizer) {
  return config.bos >= 0 ? std::optional(config.bos) : tokenizer.bos();
}

Prompt read_prompt(const ModelConfig& config, const Tokenizer& tokenizer, std::string_view text) {
  require(tokenizer.vocab_size() <= config.vocab, "the tokenizer has {} tokens and the model {}: they do not belong together",
          tokenizer.vocab_size(), config.vocab);
  Prompt prompt;
  const std::optional<Token> bos = start_token(config, tokenizer);
  prompt.has_start = bos && (config.prepend_bos || text.empty());
  if (prompt.has_start) prompt.ids.push_back(*bos);
  if (text.empty() && !prompt.has_start) {
    const std::optional<Token> newline = tokenizer.find("\n");
    require(newline.has_value(), "prompt: expected some text, found none, and this model has no start token or newline to begin from");
    prompt.ids.push_back(*newline);
    prompt.notes.push_back("The prompt is empty and the model has no start token: it starts from a newline.");
  }
  if (!text.empty()) {
    const std::vector<Token> ids = tokenizer.encode(text);
    prompt.ids.insert(prompt.ids.end(), ids.begin(), ids.end());
  }
  return prompt;
}

std::vector<std::string> token_texts(const Tokenizer& tokenizer, std::span<const Token> ids) {
  std::vector<std::string> texts;
  for (const Token id : ids) texts.emplace_back(id < tokenizer.vocab_size() ? tokenizer.token_bytes(id) : std::string_view("?"));
  return texts;
}

}  // namespace glassformer

// Legend: V vocabulary, z logits, p probabilities.
#include "glassformer/explain/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "glassformer/core/random.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/model/reading.hpp"
#include "glassformer/sample/prompt.hpp"

namespace glassformer {
namespace {

Vector<double> softmax(const Vector<double>& z) {
  const Vector<double> e = (z.array() - z.maxCoeff()).exp();
  return e / e.sum();
}

// What a reader would work out: the penalty, z/τ, exp, the sum.
void work_out(SamplingSteps& s) {
  s.penalised = s.logits;
  for (const Token t : std::set<Token>(s.text.begin(), s.text.end())) {
    double& z = s.penalised(t);
    z = z > 0 ? z / s.options.repetition_penalty : z * s.options.repetition_penalty;
  }
  s.deviation = (softmax(s.penalised) - s.probability.row(1)).cwiseAbs().maxCoeff();
  if (s.options.temperature == 0) return;
  s.scaled = s.penalised / s.options.temperature;
  s.maximum = s.scaled.maxCoeff();
  s.exponentials = (s.scaled.array() - s.maximum).exp();
  s.sum = s.exponentials.sum();
  s.deviation = std::max(s.deviation, (s.exponentials / s.sum - s.probability.row(2)).cwiseAbs().maxCoeff());
}

void tell_stages(const std::vector<SamplingStage>& stages, SamplingSteps& s) {
  const auto V = static_cast<Index>(s.tokens.size());
  s.probability = Matrix<double>::Zero(static_cast<Index>(stages.size()), V);
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const auto row = static_cast<Index>(i);
    const Distribution& d = stages[i].after;
    StageFigures f{.name = stages[i].name, .tokens = static_cast<Index>(d.ids.size()), .out = {}};
    std::vector<bool> stays(s.tokens.size(), false);
    for (std::size_t j = 0; j < d.ids.size(); ++j) {
      const double p = d.probability[j];
      s.probability(row, d.ids[j]) = p;
      stays[static_cast<std::size_t>(d.ids[j])] = true;
      if (p > 0) f.entropy_nats -= p * std::log(p);
    }
    if (i > 0) {
      f.kept_mass = 0;
      for (const Token id : d.ids) f.kept_mass += s.probability(row - 1, id);
      for (const Token id : stages[i - 1].after.ids) {
        if (!stays[static_cast<std::size_t>(id)]) f.out.push_back(id);
      }
      std::stable_sort(f.out.begin(), f.out.end(), [&](Token a, Token b) { return s.probability(row - 1, a) > s.probability(row - 1, b); });
    }
    s.stages.push_back(std::move(f));
  }
}

}  // namespace

SamplingSteps explain_sampling(std::span<const float> logits, std::vector<Token> text, std::vector<std::string> tokens,
                               const SamplingQuestion& question) {
  require(tokens.size() == logits.size(), "sampling: {} logits, but {} tokens", logits.size(), tokens.size());
  SamplingSteps s;
  std::vector<SamplingStage> stages;
  const Distribution last = sampling_distribution(logits, text, question.options, &stages);
  s.tokens = std::move(tokens), s.text = std::move(text);
  s.options = question.options, s.seed = question.seed;
  s.logits = Vector<float>::Map(logits.data(), static_cast<Index>(logits.size())).cast<double>();
  tell_stages(stages, s);
  work_out(s);

  s.kept = last.ids;
  s.cumulated.resize(static_cast<Index>(last.ids.size()));
  std::partial_sum(last.probability.begin(), last.probability.end(), s.cumulated.data());
  s.uniform = random_uniform(RandomStream{question.seed}.at("sample").at(0), 0);
  s.drawn = draw(last, s.uniform);
  return s;
}

SamplingOptions sampling_example_options() {
  return {.temperature = 0.8, .top_k = 5, .top_p = 0.9, .min_p = 0.15, .repetition_penalty = 1.2};
}

SamplingSteps explain_sampling_example(const SamplingQuestion& question) {
  const std::vector<std::string> words = {"cat", "floor", "mat", "moon", "on", "roof", "sofa", "the"};
  const std::vector<float> logits = {1.2f, 2.0f, 3.0f, 0.0f, -1.0f, 1.4f, 2.2f, -0.5f};
  require(question.token == -1 || question.token == 3, "token: expected 3, found {}: the example draws after its last word", question.token);
  SamplingSteps s = explain_sampling(logits, {7, 0, 4, 7}, words, question);  // the cat on the
  s.model = "tiny example";
  s.is_example = true;
  return s;
}

SamplingSteps explain_sampling(const Decoder<float>& m, const Tokenizer& tokenizer, std::string_view prompt, const SamplingQuestion& question) {
  require(!prompt.empty(), "prompt: expected some text, found none");
  require(m.config.causal, "sampling: expected a causal model: one that sees later tokens cannot write them");
  Prompt read = read_prompt(m.config, tokenizer, prompt);
  const Index T = static_cast<Index>(read.ids.size());
  require(T <= m.config.context, "prompt: expected at most {} tokens (the model's context), found {}", m.config.context, T);
  require(question.token >= -1 && question.token < T, "token: expected a token's place, 0 … {}, found {}", T - 1, question.token);
  if (question.token >= 0) read.ids.resize(static_cast<std::size_t>(question.token) + 1);

  const Matrix<float> logits = decoder_read<float>(m, read.ids, {.exec = question.exec});
  std::vector<Token> known(static_cast<std::size_t>(std::min(m.config.vocab, tokenizer.vocab_size())));  // others are never drawn
  std::iota(known.begin(), known.end(), Token{0});
  const float* last = logits.data() + (logits.rows() - 1) * logits.cols();
  const bool has_start = read.has_start;
  SamplingSteps s = explain_sampling({last, known.size()}, std::move(read.ids), token_texts(tokenizer, known), question);
  s.model = fmt::format("{} layers, {} channels, {} tokens", m.config.layers, m.config.width, m.config.vocab);
  s.notes = std::move(read.notes);
  if (has_start) s.notes.push_back("Token 0 is the start token, which the model was trained to see first.");
  const std::optional<Token> start = start_token(m.config, tokenizer);
  const std::optional<Token> end = m.config.eos >= 0 ? std::optional(m.config.eos) : tokenizer.eos();
  if (s.drawn == start || s.drawn == end) s.notes.push_back("The token that was drawn ends the text.");
  return s;
}

}  // namespace glassformer

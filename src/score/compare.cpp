#include "glassformer/score/compare.hpp"

#include <algorithm>
#include <cmath>

#include "glassformer/core/require.hpp"

namespace glassformer {
namespace {

constexpr Index kLogitsAtOnce = Index{1} << 21;  // numbers, of each model
constexpr Index kRowsATask = 8;

struct Row {
  double loss = 0, base_loss = 0, kl = 0;
  bool agrees = false;
};

// log softmax of one row of logits: z − max − log Σ exp(z − max)
Eigen::ArrayXd log_probabilities(ConstMatrixRef<float> logits, Index n) {
  const Eigen::ArrayXd z = logits.row(n).cast<double>().transpose().array() - static_cast<double>(logits.row(n).maxCoeff());
  return z - std::log(z.exp().sum());
}

Index first_choice(const Eigen::ArrayXd& log_p) {
  Index at = 0;
  log_p.maxCoeff(&at);
  return at;
}

Row compare_row(ConstMatrixRef<float> base, ConstMatrixRef<float> model, Index n, Token target) {
  const Eigen::ArrayXd log_p = log_probabilities(base, n), log_q = log_probabilities(model, n);
  return {-log_q(target), -log_p(target), (log_p.exp() * (log_p - log_q)).sum(), first_choice(log_p) == first_choice(log_q)};
}

// Both models' final hidden states of one batch, then the head by blocks of rows.
void compare_batch(const Decoder<float>& base, const Decoder<float>& model, const Batch& batch, Pass<float>& pass, std::vector<Row>& rows) {
  const Index N = static_cast<Index>(batch.inputs.size()), V = base.config.vocab;
  const Workspace::Frame frame(*pass.workspace);
  const auto hidden_of = [&](const Decoder<float>& m) {
    const MatrixView<float> hidden = pass.workspace->matrix<float>(N, m.config.width);
    decoder_forward<float>(m, pass, batch.inputs, *hidden);
    return hidden;
  };
  const MatrixView<float> base_hidden = hidden_of(base), model_hidden = hidden_of(model);
  const Index at_once = std::clamp<Index>(kLogitsAtOnce / V, 1, std::max<Index>(N, 1));
  const MatrixView<float> p = pass.workspace->matrix<float>(at_once, V), q = pass.workspace->matrix<float>(at_once, V);
  rows.assign(batch.inputs.size(), {});
  for (Index begin = 0; begin < N; begin += at_once) {
    const Index n = std::min(at_once, N - begin);
    auto base_logits = (*p).topRows(n), model_logits = (*q).topRows(n);
    decoder_logits<float>(base, pass, (*base_hidden).middleRows(begin, n), base_logits);
    decoder_logits<float>(model, pass, (*model_hidden).middleRows(begin, n), model_logits);
    parallel_blocks(pass.exec.threads, n, kRowsATask, [&](Index from, Index to) {
      for (Index i = from; i < to; ++i) {
        const auto row = static_cast<std::size_t>(begin + i);
        if (batch.targets[row] >= 0) rows[row] = compare_row(base_logits, model_logits, i, batch.targets[row]);
      }
    });
  }
}

}  // namespace

ModelComparison compare_models(const Decoder<float>& base, const Decoder<float>& model, std::span<const Batch> batches, const Exec& exec) {
  require(base.config.vocab == model.config.vocab, "compare: expected two models of one vocabulary, found {} and {} tokens", base.config.vocab,
          model.config.vocab);
  ModelComparison c;
  Index agreed = 0;
  Workspace workspace;
  std::vector<Row> rows;
  for (const Batch& batch : batches) {
    for (const Token t : batch.targets) require(t >= -1 && t < base.config.vocab, "compare: expected a target in −1 … {}, found {}", base.config.vocab - 1, t);
    Pass<float> pass;
    pass.exec = exec, pass.starts = batch.starts, pass.workspace = &workspace;
    compare_batch(base, model, batch, pass, rows);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (batch.targets[i] < 0) continue;
      ++c.tokens;
      c.loss_nats += rows[i].loss, c.base_loss_nats += rows[i].base_loss, c.mean_kl_nats += rows[i].kl;
      agreed += rows[i].agrees;
    }
  }
  require(c.tokens > 0, "compare: expected at least one scored token, found none");
  const auto n = static_cast<double>(c.tokens);
  c.loss_nats /= n, c.base_loss_nats /= n, c.mean_kl_nats /= n;
  c.perplexity_ratio = std::exp(c.loss_nats - c.base_loss_nats);
  c.top1_agreement = static_cast<double>(agreed) / n;
  return c;
}

}  // namespace glassformer

#include "glassformer/model/reading.hpp"

#include <array>

#include "glassformer/core/require.hpp"

namespace glassformer {
namespace {

// One sequence of N tokens; what it points to must live as long.
template <class S>
Pass<S> pass_of(const Reading<S>& reading, const std::array<Index, 2>& starts, const std::array<Index, 1>& slots, Workspace& workspace) {
  Pass<S> pass;
  pass.exec = reading.exec;
  pass.trace = reading.trace;
  pass.cache = reading.cache;
  pass.starts = starts;
  if (reading.cache) pass.slots = slots;
  pass.workspace = &workspace;
  return pass;
}

}  // namespace

template <class S>
Matrix<S> decoder_read(const Decoder<S>& m, std::span<const Token> ids, const Reading<S>& reading) {
  const Index N = static_cast<Index>(ids.size());
  const std::array<Index, 2> starts = {0, N};
  const std::array<Index, 1> slots = {0};
  Workspace workspace;
  const Pass<S> pass = pass_of(reading, starts, slots, workspace);
  Matrix<S> hidden(N, m.config.width), logits(N, m.config.vocab);
  decoder_forward<S>(m, pass, ids, hidden);
  decoder_logits<S>(m, pass, hidden, logits);
  return logits;
}

template <class S>
Loss decoder_read_loss(const Decoder<S>& m, std::span<const Token> ids, const Reading<S>& reading) {
  require(ids.size() >= 2, "loss: expected at least two tokens, found {}", ids.size());
  std::vector<Token> targets(ids.begin() + 1, ids.end());
  targets.push_back(-1);
  const std::array<Index, 2> starts = {0, static_cast<Index>(ids.size())};
  const std::array<Index, 1> slots = {0};
  Workspace workspace;
  return decoder_loss<S>(m, pass_of(reading, starts, slots, workspace), ids, targets, nullptr, nullptr, S(1));
}

template Matrix<float> decoder_read<float>(const Decoder<float>&, std::span<const Token>, const Reading<float>&);
template Matrix<double> decoder_read<double>(const Decoder<double>&, std::span<const Token>, const Reading<double>&);
template Loss decoder_read_loss<float>(const Decoder<float>&, std::span<const Token>, const Reading<float>&);
template Loss decoder_read_loss<double>(const Decoder<double>&, std::span<const Token>, const Reading<double>&);

}  // namespace glassformer

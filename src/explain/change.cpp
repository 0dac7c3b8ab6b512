// Legend: O outputs, I inputs, r rank, P tokens of a soft prompt, C channels, V vocabulary.
#include "glassformer/explain/change.hpp"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>

#include "glassformer/explain/lora.hpp"

namespace glassformer {
namespace {

constexpr Index kRows = 256;  // of a matrix at a time, in floating point

// Rows [begin, begin + count) of a tensor in floating point, whatever the model has it in.
Matrix<double> rows_of(const Decoder<float>& m, const std::string& tensor, Index begin, Index count) {
  if (const auto q = m.quantized.find(tensor); q != m.quantized.end()) {
    Matrix<double> x(count, q->second->cols);
    dequantize<double>(*q->second, begin, x);
    return x;
  }
  return (*m.arena.view(tensor)).middleRows(begin, count).cast<double>();
}

// Calls f(begin, count) over [0, rows).
template <class F>
void for_each_tile(Index rows, F&& f) {
  for (Index begin = 0; begin < rows; begin += kRows) f(begin, std::min(kRows, rows - begin));
}

double norm_of(const Decoder<float>& m, const std::string& tensor, Index row_begin, Index rows) {
  double squares = 0;
  for_each_tile(rows, [&](Index begin, Index count) { squares += rows_of(m, tensor, row_begin + begin, count).squaredNorm(); });
  return std::sqrt(squares);
}

Vector<double> roots_of_eigenvalues(const Eigen::MatrixXd& gram) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(gram, Eigen::EigenvaluesOnly);  // ascending
  const double largest = std::max(solver.eigenvalues().maxCoeff(), 0.0);
  Vector<double> values = solver.eigenvalues().reverse().transpose();
  for (double& v : values) v = v > 1e-16 * largest ? std::sqrt(v) : 0;
  return values;
}

// W' − W of one matrix, by rows.
Vector<double> difference_values(const Decoder<float>& base, const Decoder<float>& tuned, const std::string& tensor, Index row_begin,
                                 Index rows, Index inputs) {
  const auto difference = [&](Index begin, Index count) -> Matrix<double> {
    return rows_of(tuned, tensor, row_begin + begin, count) - rows_of(base, tensor, row_begin + begin, count);
  };
  if (rows < inputs) return singular_values(difference(0, rows));
  Eigen::MatrixXd gram = Eigen::MatrixXd::Zero(inputs, inputs);
  for_each_tile(rows, [&](Index begin, Index count) {
    const Matrix<double> d = difference(begin, count);
    gram.noalias() += d.transpose() * d;
  });
  return roots_of_eigenvalues(gram);
}

// The model's matrices as its family adapts them, and the position table.
std::vector<MatrixChange> matrices_of(const ModelConfig& config, std::vector<AdapterTarget>& places) {
  LoraConfig all;
  all.rank = 1, all.targets = default_adapter_targets(config);
  all.targets.emplace_back("embed");
  if (!config.tied) all.targets.emplace_back("unembed");
  places = adapter_targets(config, all);
  const auto layout = decoder_layout(config);
  if (const TensorInfo* table = layout->find("pos_embed.weight")) {
    AdapterTarget t;
    t.name = t.projection = "pos_embed", t.block = -1, t.rows = table->rows, t.inputs = table->cols;
    places.push_back(t);
  }
  std::vector<MatrixChange> matrices;
  for (const AdapterTarget& t : places) matrices.push_back({t.name, t.block, t.rows, t.inputs, 0, 0, {}, 0});
  return matrices;
}

Index rows_in(const Decoder<float>& m, const std::string& tensor) {
  const auto q = m.quantized.find(tensor);
  return q != m.quantized.end() ? q->second->rows : m.arena.view(tensor).rows;
}

void require_same_tensors(const Decoder<float>& base, const Decoder<float>& tuned) {
  const auto a = decoder_layout(base.config), b = decoder_layout(tuned.config);
  for (const TensorInfo& info : a->tensors()) {
    const TensorInfo* other = b->find(info.name);
    require(other != nullptr, "models: expected the same tensors in both, found {} in the base alone", info.name);
    require(other->rows == info.rows && other->cols == info.cols, "models: expected {} [{}, {}] as in the base, found [{}, {}]", info.name,
            info.rows, info.cols, other->rows, other->cols);
  }
  for (const TensorInfo& info : b->tensors()) {
    require(a->find(info.name) != nullptr, "models: expected the same tensors in both, found {} in the tuned one alone", info.name);
  }
}

}  // namespace

Vector<double> singular_values(ConstMatrixRef<double> d) {
  if (d.size() == 0) return Vector<double>(0);
  const Eigen::MatrixXd gram = d.rows() < d.cols() ? Eigen::MatrixXd(d * d.transpose()) : Eigen::MatrixXd(d.transpose() * d);
  return roots_of_eigenvalues(gram);
}

Index energy_rank(const Vector<double>& singular_values, double share) {
  const double all = singular_values.squaredNorm();
  double sum = 0;
  Index count = 0;
  while (all > 0 && count < singular_values.size() && sum < share * all) sum += singular_values[count] * singular_values[count], ++count;
  return count;
}

std::vector<MatrixChange> adapter_changes(const Decoder<float>& base, const Adapter<float>& adapter, const Exec& exec) {
  require(!adapter.targets.empty(), "adapter: expected one of the weights, found a soft prompt");
  std::vector<MatrixChange> changes(adapter.targets.size());
  parallel_for(exec.threads, static_cast<Index>(changes.size()), [&](Index i) {
    const AdapterTarget& t = adapter.targets[static_cast<std::size_t>(i)];
    MatrixChange& c = changes[static_cast<std::size_t>(i)];
    c = {t.name, t.block, t.rows, t.inputs, t.rank, adapter.config.scale(t.rank, t.alpha), {}, 0};
    if (adapter.config.dora) {
      c.singular_values = singular_values(adapter_change(base, adapter, t, {}).cast<double>());
    } else {
      const Matrix<double> a = (*adapter.arena.view(t.name + ".lora_A")).cast<double>(),
                           b = (*adapter.arena.view(t.name + ".lora_B")).cast<double>();
      c.singular_values = lora_singular_values(c.scale, a, b);
    }
    c.weight_norm = norm_of(base, t.tensor(), t.row_begin, t.rows);
  });
  return changes;
}

ModelChange model_change(const Decoder<float>& base, const Decoder<float>& tuned, const Exec& exec) {
  require_same_tensors(base, tuned);
  ModelChange change;
  std::vector<AdapterTarget> places;
  change.matrices = matrices_of(base.config, places);
  parallel_for(exec.threads, static_cast<Index>(places.size()), [&](Index i) {
    const AdapterTarget& t = places[static_cast<std::size_t>(i)];
    MatrixChange& c = change.matrices[static_cast<std::size_t>(i)];
    c.singular_values = difference_values(base, tuned, t.tensor(), t.row_begin, t.rows, t.inputs);
    c.weight_norm = norm_of(base, t.tensor(), t.row_begin, t.rows);
  });
  double vector_change = 0, vector_squares = 0;
  const auto layout = decoder_layout(base.config);
  for (const TensorInfo& info : layout->tensors()) {
    double squares = 0;
    for_each_tile(rows_in(base, info.name), [&](Index begin, Index count) {
      const Matrix<double> before = rows_of(base, info.name, begin, count);
      squares += (rows_of(tuned, info.name, begin, count) - before).squaredNorm();
      if (info.kind == ParameterKind::vector) vector_squares += before.squaredNorm();
    });
    if (squares > 0) change.changed_parameters += info.size();
    if (info.kind == ParameterKind::vector) vector_change += squares;
  }
  if (vector_squares > 0) change.vector_ratio = std::sqrt(vector_change / vector_squares);
  return change;
}

std::vector<LayerChange> layer_changes(std::span<const MatrixChange> matrices) {
  std::vector<LayerChange> layers;
  std::vector<std::pair<double, double>> squares;  // Σ‖ΔW‖², Σ‖W‖²
  for (const MatrixChange& m : matrices) {
    const std::string name = m.block < 0 ? m.name : fmt::format("blocks.{}", m.block);
    const auto at = std::ranges::find(layers, name, &LayerChange::name);
    const auto i = static_cast<std::size_t>(at - layers.begin());
    if (at == layers.end()) layers.push_back({name, 0}), squares.emplace_back(0, 0);
    squares[i].first += m.change_norm() * m.change_norm(), squares[i].second += m.weight_norm * m.weight_norm;
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (squares[i].second > 0) layers[i].ratio = std::sqrt(squares[i].first / squares[i].second);
  }
  return layers;
}

std::vector<PromptRow> prompt_neighbours(const Decoder<float>& m, const Adapter<float>& adapter, Index count) {
  const Index P = adapter.prompt_tokens(), V = m.config.vocab;
  require(P > 0, "prompt: expected a soft prompt, found an adapter of the weights");
  const Matrix<double> prompt = (*adapter.arena.view("prompt.weight")).cast<double>();  // [P, C]
  require(prompt.cols() == m.config.width, "soft prompt: expected {} channels, as the model has, found {}", m.config.width, prompt.cols());
  Matrix<double> cosines(P, V);
  double norms = 0;
  for_each_tile(V, [&](Index begin, Index rows) {
    const Matrix<double> e = rows_of(m, "embed.weight", begin, rows);
    const Vector<double> lengths = e.rowwise().norm().transpose();
    norms += lengths.sum();
    cosines.middleCols(begin, rows) = prompt * e.transpose();
    for (Index v = 0; v < rows; ++v) cosines.col(begin + v) /= std::max(lengths[v], 1e-300);
  });
  std::vector<PromptRow> result;
  for (Index p = 0; p < P; ++p) {
    const double length = prompt.row(p).norm();
    PromptRow row{length / (norms / static_cast<double>(V)), {}, {}};
    std::vector<Token> order(static_cast<std::size_t>(V));
    for (std::size_t v = 0; v < order.size(); ++v) order[v] = static_cast<Token>(v);
    const auto shown = static_cast<std::ptrdiff_t>(std::min(count, V));
    std::ranges::partial_sort(order, order.begin() + shown,
                              [&](Token a, Token b) { return cosines(p, a) != cosines(p, b) ? cosines(p, a) > cosines(p, b) : a < b; });
    for (auto v = order.begin(); v != order.begin() + shown; ++v)
      row.nearest.push_back(*v), row.cosines.push_back(cosines(p, *v) / std::max(length, 1e-300));
    result.push_back(std::move(row));
  }
  return result;
}

}  // namespace glassformer

// Tells a BackwardPass, section by section, on the way back. Legend: N tokens, C channels, F hidden width, D head width.
#pragma once
#include "explain/backward_pass.hpp"
#include "explain/teller.hpp"

namespace glassformer {

class BackwardTeller : Teller {
 public:
  // `example`: small enough that all is shown and compared.
  BackwardTeller(const BackwardPass&, const ExplainedText&, const BackwardQuestion&, bool example);
  Story tell();

 private:
  // One half of the block: x ← x + f(ln(x)), or with post-norm x ← ln(x + f(x)).
  struct Half {
    std::string name;                 // "MLP"
    std::string in, part, out, read;  // sites: resid_mid, mlp_out, resid_post, ln2.normalized
    std::string ln;                   // "ln2"
    const NormParams<double>& norm;
  };

  void choose_token();
  void opening();
  void forward();
  void logits();
  void unembedding();
  void last_norm();
  void blocks_above();
  void half_out(const Half&);                                  // from the stream into what f added
  void half_in(const Half&, const Matrix<double>& read_grad);  // from what f read to the stream
  Matrix<double> mlp();                                        // → the gradient at what it read [N, C]
  Matrix<double> attention();
  void output_projection();
  void values();
  void softmax();
  bool sees_one_key() const;  // the followed token, by the pattern of the head
  void queries_and_keys();
  void rotation();
  Matrix<double> projections();
  void embedding();
  void weights();
  void summary();
  void data();

  const ModelConfig& config() const { return p_.model().config; }
  const BlockParams<double>& block() const { return p_.model().blocks[static_cast<std::size_t>(q_.layer)]; }
  std::string site(const std::string& part) const { return fmt::format("blocks.{}.{}", q_.layer, part); }
  const Matrix<double>& value(const std::string& name) const { return p_.value(name); }
  const Matrix<double>& grad(const std::string& name) const { return p_.gradient(name); }
  Matrix<double> norm_back(const NormParams<double>&, const Matrix<double>& x, const Matrix<double>& dy) const;  // the engine's

  std::vector<Index> columns_of(const Matrix<double>& gradient) const;  // those shown and compared
  std::vector<Entry> entries_of(const Matrix<double>& gradient) const;
  Index largest_column(const Matrix<double>& gradient) const;  // in the followed row
  const SiteCheck& check(const std::string& name);             // a site whose gradient the trace saw
  const SiteCheck& check(const std::string& name, Index head, const Matrix<double>& gradient);
  void show(const SiteCheck&);         // the followed row
  void show_tokens(const SiteCheck&);  // every token's row, in the example
  // One row of several matrices, the followed token's. Small gradients are shown times a power of ten, which their label names.
  struct Row {
    std::string label;
    const Matrix<double>& matrix;
    bool is_gradient = true;
  };
  void show_rows(const std::vector<Row>& rows, const std::vector<Index>& columns);
  void verdict(const SiteCheck&);
  void weight(const char* name, const MatrixView<double>&);  // the example shows its weights
  void norm_rows(const NormParams<double>&, const Matrix<double>& x, const Matrix<double>& dy, const Matrix<double>& result);
  // "a·b + c·d = total", held against the engine's value. Of many terms the largest. `size`: of what cancelled before, if more.
  void write_sum(const std::string& name, const std::vector<std::pair<double, double>>& terms, double engine, double factor = 1,
                 double size = 0);
  // d in_i = Σ_o d out_o·W_oi at the followed row's largest entry
  void write_linear(const std::string& name, const Matrix<double>& dy, const MatrixView<double>& w, const Matrix<double>& dx);

  const BackwardPass& p_;
  const ExplainedText& text_;
  const BackwardQuestion& q_;
  Index row_ = 0;  // of the followed token
  bool example_;
  std::string why_;  // this token
  std::vector<SiteCheck> checks_;
};

std::string digits(double value);       // at least three that say something: "0.496", "-0.0347", "5.49e-05"
std::string in_brackets(double value);  // if it is negative

}  // namespace glassformer

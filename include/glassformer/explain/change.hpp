// What training changed: the change ΔW of each matrix, how large it is, and in how many directions. Of an adapter, or of a model that was
// trained as a whole, beside its base. The base may be quantized: it is turned to floating point a few rows at a time.
// Legend: O outputs, I inputs, r rank, P tokens of a soft prompt, C channels, V vocabulary.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "glassformer/model/adapter.hpp"

namespace glassformer {

struct MatrixChange {
  std::string name;                                              // "blocks.0.attn.q"
  Index block = -1;                                              // −1: the embedding, the head, the position table
  Index rows = 0, inputs = 0;                                    // O, I
  Index rank = 0;                                                // r of the adapter; 0: it was no adapter
  double scale = 0;                                              // s of the adapter
  Vector<double> singular_values;                                // of ΔW, largest first: r of a LoRA, else min(O, I)
  double weight_norm = 0;                                        // ‖W‖, Frobenius
  double change_norm() const { return singular_values.norm(); }  // ‖ΔW‖ = √(Σ σ²)
  double ratio() const { return weight_norm > 0 ? change_norm() / weight_norm : 0; }
};

// Of each target, in order. LoRA's singular values are those of two r×r triangles (lora_singular_values), DoRA's, whose change is not of
// rank r, those of the whole ΔW. Throws std::invalid_argument for a soft prompt or another model's adapter.
std::vector<MatrixChange> adapter_changes(const Decoder<float>& base, const Adapter<float>&, const Exec& = {});

// Of each matrix of the model (q, k, v apart where its family has them so), ΔW = W' − W; and how many parameters are in tensors of which a
// number changed. Throws std::invalid_argument when the models have not the same tensors, naming the first that differs.
struct ModelChange {
  std::vector<MatrixChange> matrices;
  Index changed_parameters = 0;
  double vector_ratio = 0;  // ‖Δ‖/‖w‖ of all gains and biases together
};
ModelChange model_change(const Decoder<float>& base, const Decoder<float>& tuned, const Exec& = {});

// √(Σ‖ΔW‖²)/√(Σ‖W‖²) over a layer's matrices in the list; for each block, and each matrix that is in none.
struct LayerChange {
  std::string name;  // "blocks.0", "embed"
  double ratio = 0;
};
std::vector<LayerChange> layer_changes(std::span<const MatrixChange>);

// How many of the largest singular values hold `share` of the energy Σσ². 0 when all are zero.
Index energy_rank(const Vector<double>& singular_values, double share);
// Singular values of any matrix, largest first, from the eigenvalues of DᵀD or DDᵀ, whichever is smaller; in double. What is below 1e-8
// of the largest is not told from zero.
Vector<double> singular_values(ConstMatrixRef<double> d);

// The tokens whose embeddings point most like a row of a soft prompt: cos = p·e/(‖p‖‖e‖), largest first.
struct PromptRow {
  double norm = 0;  // ‖p‖ over the mean ‖e‖ of the vocabulary
  std::vector<Token> nearest;
  std::vector<double> cosines;
};
// Throws std::invalid_argument for an adapter that is no soft prompt, or one of another width.
std::vector<PromptRow> prompt_neighbours(const Decoder<float>&, const Adapter<float>&, Index count = 3);

}  // namespace glassformer

// Analytic against numeric gradients: is the hand-written backward pass the derivative of the forward pass?
//   numeric    g_i = (8·(L(θ_i + h) − L(θ_i − h)) − (L(θ_i + 2h) − L(θ_i − 2h)))/12h      error of order h⁴ + ε/h
//   error      ‖a − n‖/(‖a‖ + ‖n‖) per tensor: 0 when equal, 1 when one of them is zero or they are at right angles
// In double, because in float the numeric gradient itself is good to about three digits. docs/gradients.md tells why and how.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "glassformer/model/adapter.hpp"

namespace glassformer {

// Largest error of a right backward pass.
inline constexpr double kGradientTolerance = 1e-6;

struct TensorCheck {
  std::string name;
  Index size = 0;                  // parameters of the tensor
  Index checked = 0;               // and how many of them were compared; norms and error are over these
  double analytic_norm = 0, numeric_norm = 0;
  double error = 0;
  // Neither gradient can be told from zero (both norms below the rounding noise of the differences), as where a window of one key
  // leaves nothing for queries to choose. Then `error` is the absolute size ‖a‖ + ‖n‖: the quotient would compare noise with noise.
  bool zero = false;
};

struct GradientCheckOptions {
  ModelConfig config;                       // a vocabulary of 0 means 11
  std::uint64_t seed = 1;                   // of weights, tokens, targets, dropout and the sample of entries
  Kernels kernels = Kernels::fused;
  int threads = 1;
  std::optional<LoraConfig> lora;           // attached with B not zero; its tensors are checked as well as the model's (not under DoRA)
  Index soft_prompt = 0;                    // tokens of a soft prompt before each sequence, checked too
  std::optional<QuantizedType> base;        // the matrices are quantized and frozen: only the adapter and the soft prompt are checked
  bool mask_prompt = false;                 // targets of the first half of each sequence are not scored
  std::vector<Index> lengths = {6, 1, 4};   // of the packed sequences; cut to the model's context
  Index entries = 0;                        // at most so many of each tensor, drawn at random; 0: all
  double step = 2e-4;                       // h as a fraction of the tensor's root mean square
  // Looks on while the analytic gradients are made, and only then: an edit of a ".grad" site plants a mistake that the check must find.
  Trace<double>* trace = nullptr;
};

// Builds a decoder with random weights of natural size (1/√inputs, gains near one, biases not zero), random tokens and targets, some of
// them not scored, and compares the gradients of the mean loss in a training pass (dropout acts, with one stream in all evaluations).
// `progress`, when given, hears of each tensor as it is done. Throws std::invalid_argument for a configuration that cannot be built,
// a length, step or number of entries that makes no sense.
std::vector<TensorCheck> check_gradients(const GradientCheckOptions&, const std::function<void(const TensorCheck&)>& progress = {});

// The check with the largest error. Throws std::invalid_argument when there is none.
const TensorCheck& worst_check(const std::vector<TensorCheck>&);

}  // namespace glassformer

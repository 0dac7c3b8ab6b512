// From logits to a token: the distribution after each filter, and then 10,000 draws from what is left.
//   build/release/examples/sample
#include <fmt/core.h>

#include <array>
#include <cmath>

#include "glassformer/core/random.hpp"
#include "glassformer/sample/filters.hpp"

using namespace glassformer;

int main() {
  const std::array<const char*, 6> words = {"mat", "sofa", "floor", "moon", "tax", "of"};
  const std::array<double, 6> model = {0.40, 0.25, 0.15, 0.10, 0.06, 0.04};  // what the model says after "the cat sat on the"
  std::array<float, 6> logits{};
  for (std::size_t i = 0; i < model.size(); ++i)
    logits[i] = static_cast<float>(std::log(model[i]) + 4);  // 4: logits are known up to a constant
  const std::array<Token, 1> text = {0};                     // "mat" was said already

  const SamplingOptions options{.temperature = 0.8, .top_k = 5, .top_p = 0.9, .min_p = 0.2, .repetition_penalty = 1.3};
  std::vector<SamplingStage> stages;
  const Distribution left = sampling_distribution(logits, text, options, &stages);

  fmt::print("{:20}", "");
  for (const char* word : words) fmt::print("{:>8}", word);
  for (const SamplingStage& stage : stages) {
    fmt::print("\n{:20}", stage.name);
    std::size_t next = 0;  // ids are ascending; those that are not there were filtered out
    for (std::size_t i = 0; i < words.size(); ++i) {
      const bool kept = next < stage.after.ids.size() && stage.after.ids[next] == static_cast<Token>(i);
      fmt::print("{:>8}", kept ? fmt::format("{:.3f}", stage.after.probability[next++]) : "-");
    }
  }

  std::array<int, 6> drawn{};
  for (std::uint64_t i = 0; i < 10000; ++i) ++drawn[static_cast<std::size_t>(draw(left, random_uniform(RandomStream{1}.at("draws"), i)))];
  fmt::print("\n{:20}", "share of 10,000");
  for (const int count : drawn) fmt::print("{:>8}", count == 0 ? "-" : fmt::format("{:.2f}", count / 1e4));
  fmt::print("\n\ngreedy (temperature 0): {}\n",
             words[static_cast<std::size_t>(sampling_distribution(logits, {}, {.temperature = 0}).ids[0])]);
}

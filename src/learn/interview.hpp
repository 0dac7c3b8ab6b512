// What the questions share: where they are collected, how their sizes are drawn, small models to run.
#pragma once
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/core/random.hpp"
#include "glassformer/learn/interview.hpp"
#include "glassformer/model/decoder.hpp"

namespace glassformer::learn {

// The sizes of one question: draws from its own stream, so that a question added elsewhere changes none here.
class Draws {
 public:
  Draws(std::uint64_t seed, std::string_view id) : stream_(RandomStream{seed}.at("interview").at(id)) {}
  Index one_of(std::initializer_list<Index> values) {
    return values.begin()[random_below(stream_, count_++, static_cast<std::uint64_t>(values.size()))];
  }
  double number_of(std::initializer_list<double> values) {
    return values.begin()[random_below(stream_, count_++, static_cast<std::uint64_t>(values.size()))];
  }
  Index between(Index low, Index high) {
    return low + static_cast<Index>(random_below(stream_, count_++, static_cast<std::uint64_t>(high - low + 1)));
  }
  RandomStream stream(std::string_view name) const { return stream_.at(name); }  // for the numbers of a run

 private:
  RandomStream stream_;
  std::uint64_t count_ = 0;
};

using Questions = std::vector<InterviewQuestion>;
// One topic each; training has two.
void add_tokenizer_questions(Questions&, std::uint64_t seed);
void add_position_questions(Questions&, std::uint64_t seed);
void add_attention_questions(Questions&, std::uint64_t seed);
void add_block_questions(Questions&, std::uint64_t seed);
void add_training_questions(Questions&, std::uint64_t seed);
void add_optimizer_questions(Questions&, std::uint64_t seed);
void add_cache_questions(Questions&, std::uint64_t seed);
void add_sampling_questions(Questions&, std::uint64_t seed);
void add_lora_questions(Questions&, std::uint64_t seed);
void add_numerics_questions(Questions&, std::uint64_t seed);
void add_checkpoint_questions(Questions&, std::uint64_t seed);

inline const Tolerance kExact = {0, 1e-9};
inline const Tolerance kBytes = {0.05, 0};  // so that 128 KB may stand for 128 KiB
inline const Tolerance kEstimate = {0.15, 0};

// 1,234,567
std::string grouped(double n);
// Four significant digits, large and small ones too: "0.008333", "1.34e+08" never: grouped from 10,000 on.
std::string digits(double x);
// "16 GiB", "496 MiB", "128 KiB": three significant digits, binary.
std::string binary_bytes(double bytes);

ModelConfig gpt2_like(Index layers, Index heads, Index width, Index context, Index vocab);
ModelConfig llama_like(Index layers, Index heads, Index kv_heads, Index width, Index hidden, Index vocab);

// Random weights from the question's seed.
Decoder<float> random_decoder(const ModelConfig&, std::uint64_t seed);
// n ids drawn uniformly from the vocabulary.
std::vector<Token> random_ids(Index n, Index vocab, const RandomStream&);

}  // namespace glassformer::learn

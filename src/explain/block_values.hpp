// What `explain_block` has read of the engine, and `block_story` tells. Legend: C channels, F hidden width of the MLP.
#pragma once
#include "glassformer/explain/block.hpp"

namespace glassformer {

struct NormValues {
  Matrix<double> read, gain, bias, output;  // [1, C]; bias empty where there is none
  double mean = 0, inverse_deviation = 0;   // the engine's statistics
};

struct BlockPart {
  std::string name;
  Index parameters = 0, multiply_adds = 0;  // the latter for one token
};

// Matrices are one row each: those of the token that is followed.
struct BlockValues {
  const ExplainedText& text;
  const ModelConfig& config;
  Index layer = 0, place = 0;
  Matrix<double> resid_pre = {}, normalized1 = {}, attn_out = {}, resid_mid = {}, normalized2 = {}, mlp_out = {},
                 resid_post = {};      // [1, C]
  Matrix<double> pre = {}, post = {};  // [1, F], pre of SwiGLU [1, 2F]; these and what follows are empty without an MLP
  NormValues ln1 = {}, ln2 = {};
  Index unit = -1;                           // the one that is written out
  Matrix<double> up = {}, up_bias = {};      // its row of Wup [1, C], with SwiGLU gate and up [2, C]; [1, 1] or [1, 2]
  Matrix<double> down = {}, down_bias = {};  // Wdown [C, F] and [1, C], where F is small enough to be written out
  bool has_bias = false, adapted = false;
  Index keys = 0;  // that the token sees
  std::vector<BlockPart> parts = {};
};

Story block_story(const BlockValues&);

}  // namespace glassformer

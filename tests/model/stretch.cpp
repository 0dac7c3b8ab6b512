// A decoder with another context and scaling of RoPE: what it shares, what it changes, what it refuses.
#include "glassformer/model/stretch.hpp"

#include <doctest/doctest.h>

#include "glassformer/model/reading.hpp"
#include "models.hpp"

namespace glassformer {
using namespace test;

TEST_CASE("stretched: the model with the other RoPE, over the same weights") {
  const Decoder<float> m = random_decoder<float>(tiny_config());
  const std::vector<Token> ids = random_ids(40, 23);
  const Matrix<float> before = decoder_read<float>(m, ids);
  for (const RopeScaling scaling : {RopeScaling::linear, RopeScaling::ntk, RopeScaling::yarn, RopeScaling::yarn_pairs}) {
    const Decoder<float> longer = stretched(m, 64, {scaling, 2});
    CHECK(longer.embed.weight.dense.data == m.embed.weight.dense.data);
    CHECK(longer.config.context == 64);
    CHECK(longer.rope->cosine.rows() == 64);
    CHECK(longer.config.rope_stretch.trained_context == (is_yarn(longer.config.rope_stretch) ? 32 : 0));
    // As if it had been made so.
    ModelConfig c = tiny_config();
    c.context = 64, c.rope_stretch = {scaling, 2, 32};
    const Decoder<float> made = random_decoder<float>(c);
    CHECK(same_bits(decoder_read<float>(longer, ids), decoder_read<float>(made, ids)));
    CHECK(relative_error(decoder_read<float>(longer, ids), before) > 1e-3);
    // A factor of 1, or none, is the model itself.
    CHECK(same_bits(decoder_read<float>(stretched(m, 64, {scaling, 1}), ids), before));
    CHECK(same_bits(decoder_read<float>(stretched(longer, 32, {}), ids), before));
  }
  CHECK(same_bits(decoder_read<float>(m, ids), before));
  CHECK(m.config.context == 32);
}

TEST_CASE("stretched: a second stretch takes the first one's trained context; cached reading agrees, sliding too") {
  const Decoder<float> m = random_decoder<float>(tiny_config());
  const Decoder<float> longer = stretched(stretched(m, 64, {RopeScaling::yarn, 2}), 128, {RopeScaling::yarn, 4});
  CHECK(longer.config.rope_stretch == RopeStretch{RopeScaling::yarn, 4, 32});
  const std::vector<Token> ids = random_ids(50, 23);
  const Matrix<float> whole = decoder_read<float>(longer, ids);
  for (const bool sliding : {false, true}) {
    KvCache<float> cache = make_cache(longer, 1, 128, sliding);
    for (std::size_t t = 0; t < ids.size(); ++t) {
      const Matrix<float> one = decoder_read<float>(longer, std::span(ids).subspan(t, 1), {.cache = &cache});
      CHECK(largest_difference<float>(one, whole.row(static_cast<Index>(t))) < 1e-5 * static_cast<double>(whole.cwiseAbs().maxCoeff()));
    }
  }
}

TEST_CASE("stretched: training the stretched model trains the model") {
  const Decoder<double> m = random_decoder<double>(tiny_config());
  const Decoder<double> longer = stretched(m, 64, {RopeScaling::linear, 2});
  const std::vector<Token> ids = random_ids(20, 23);
  const Matrix<double> before = decoder_read<double>(m, ids);
  (*longer.blocks[0].mlp.up.weight)(0, 0) += 1;
  CHECK(relative_error(decoder_read<double>(m, ids), before) > 1e-9);
}

TEST_CASE("stretched: what has no longer context, or no RoPE, says so") {
  const Decoder<float> learned = random_decoder<float>(tiny_config(Position::learned)), alibi = random_decoder<float>(tiny_config(Position::alibi));
  CHECK(message_of([&] { stretched(learned, 64, {}); }) == "context: expected 32, the places that the model has learned, found 64");
  CHECK(message_of([&] { stretched(alibi, 64, {RopeScaling::ntk, 2}); }) == "rope-scaling: expected rope positions beside ntk, found alibi");
  CHECK(message_of([&] { stretched(alibi, 0, {}); }) == "context: expected a number from 1 to 16777216, found 0");
  CHECK(stretched(alibi, 64, {}).config.context == 64);
}

}  // namespace glassformer

// What training changed: against Eigen's decomposition of the whole matrix, and numbers that were put in.
#include "glassformer/explain/change.hpp"

#include <doctest/doctest.h>

#include <Eigen/SVD>
#include <cmath>

#include "glassformer/explain/lora.hpp"
#include "glassformer/model/quantize.hpp"
#include "model/models.hpp"

namespace glassformer {
namespace {
using namespace test;
using doctest::Approx;

Vector<double> by_svd(const Matrix<double>& d) { return Eigen::BDCSVD<Eigen::MatrixXd>(d).singularValues().transpose(); }

void check_values(const Vector<double>& found, const Vector<double>& expected) {
  REQUIRE(found.size() <= expected.size());
  for (Index i = 0; i < expected.size(); ++i)
    CHECK(std::abs((i < found.size() ? found[i] : 0) - expected[i]) < 2e-8 * std::max(expected[0], 1e-3));
}

ModelConfig config_of_64() {
  ModelConfig c = tiny_config();
  c.width = 64, c.mlp = Mlp::swiglu, c.hidden = 96, c.tied = false;
  return resolved(c);
}

}  // namespace

TEST_CASE("singular values: those of the whole matrix, tall, wide and of low rank") {
  const RandomStream stream{3};
  std::uint64_t draw = 0;
  for (const auto& [rows, cols] : {std::pair<Index, Index>{40, 9}, {9, 40}, {12, 12}, {1, 5}}) {
    Matrix<double> d(rows, cols);
    for (double& x : d.reshaped()) x = random_normal(stream, draw++);
    check_values(singular_values(d), by_svd(d));
    const Matrix<double> low = d.col(0) * d.row(0);
    check_values(singular_values(low), by_svd(low));
  }
  CHECK(singular_values(Matrix<double>::Zero(3, 4)) == Vector<double>::Zero(3));
  CHECK(singular_values(Matrix<double>(0, 4)).size() == 0);
}

TEST_CASE("how many singular values hold a share of the energy, by hand") {
  const Vector<double> values{{3, 2, 1}};  // squares 9, 4, 1 of 14
  CHECK(energy_rank(values, 0.6) == 1);
  CHECK(energy_rank(values, 0.9) == 2);
  CHECK(energy_rank(values, 0.95) == 3);
  CHECK(energy_rank(Vector<double>::Zero(3), 0.9) == 0);
}

TEST_CASE("the change of an adapter: that of the whole matrices, of each kind, over a quantized base too") {
  const ModelConfig c = config_of_64();
  const Decoder<float> dense = random_decoder<float>(c), small = quantize_decoder(dense, QuantizeTypes::all(QuantizedType::nf4));
  for (const Decoder<float>* m : {&dense, &small}) {
    for (const bool dora : {false, true}) {
      LoraConfig lora;
      lora.rank = 3, lora.dora = dora, lora.targets = {"attn.q", "attn.out", "mlp.gate_up", "mlp.down"};
      lora.rank_pattern = {{"attn.out", 2}}, lora.alpha_pattern = {{"blocks.1.attn.q", 5}};
      if (!dora) lora.targets.emplace_back("embed");
      Adapter<float> adapter = random_adapter<float>(c, lora);
      if (dora) {
        const Adapter<float> started = make_adapter(*m, lora, 1);
        for (const AdapterTarget& t : adapter.targets)
          *adapter.arena.view(t.name + ".magnitude") = 1.1f * *started.arena.view(t.name + ".magnitude");
      }
      const std::vector<MatrixChange> changes = adapter_changes(*m, adapter, {2});
      REQUIRE(changes.size() == adapter.targets.size());
      const Decoder<float> floats = dequantize_decoder(*m);
      for (std::size_t i = 0; i < changes.size(); ++i) {
        const AdapterTarget& t = adapter.targets[i];
        CAPTURE(t.name);
        const Matrix<double> change = adapter_change(*m, adapter, t, {}).cast<double>();
        CHECK(changes[i].name == t.name);
        CHECK(changes[i].rank == (t.kind() == "attn.out" ? 2 : 3));
        CHECK(changes[i].singular_values.size() == (dora ? std::min(t.rows, t.inputs) : t.rank));
        const Vector<double> expected = by_svd(change);
        for (Index k = 0; k < expected.size(); ++k) {
          CHECK(std::abs((k < changes[i].singular_values.size() ? changes[i].singular_values[k] : 0) - expected[k]) < 1e-6 * expected[0]);
        }
        CHECK(changes[i].change_norm() == Approx(change.norm()).epsilon(1e-6));
        CHECK(changes[i].weight_norm == Approx((*floats.arena.view(t.tensor())).middleRows(t.row_begin, t.rows).cast<double>().norm()));
        if (dora) CHECK(effective_rank(changes[i].singular_values) > 10);  // rows that grew by a tenth: no change of low rank
      }
      const std::vector<LayerChange> layers = layer_changes(changes);
      REQUIRE(layers.size() == (dora ? 2 : 3));
      CHECK(layers[1].name == "blocks.1");
      double change = 0, weight = 0;
      for (std::size_t i = 4; i < 8; ++i) change += std::pow(changes[i].change_norm(), 2), weight += std::pow(changes[i].weight_norm, 2);
      CHECK(layers[1].ratio == Approx(std::sqrt(change / weight)));
    }
  }
  CHECK_THROWS_AS((void)adapter_changes(dense, make_soft_prompt(dense, 2, 1)), std::invalid_argument);
}

TEST_CASE("the change of a whole model: what was put in, and nowhere else") {
  const ModelConfig c = config_of_64();
  const Decoder<float> base = random_decoder<float>(c);
  Decoder<float> tuned = random_decoder<float>(c);
  const auto k = (*tuned.blocks[1].attention.qkv.weight).middleRows(64, 32);  // k of block 1
  Matrix<float> two = Matrix<float>::Zero(32, 64);
  two(3, 5) = 4, two(8, 9) = 3;
  (*tuned.arena.view("blocks.1.attn.qkv.weight")).middleRows(64, 32) = k + two;
  (*tuned.arena.view("ln_final.weight")) *= 2;
  const ModelChange change = model_change(base, tuned, {2});
  std::vector<std::string> names;
  for (const MatrixChange& m : change.matrices) {
    names.push_back(m.name);
    CAPTURE(m.name);
    if (m.name != "blocks.1.attn.k") CHECK(m.change_norm() == 0);
    if (m.name != "blocks.1.attn.k") continue;
    CHECK(m.rows == 32);
    CHECK(m.rank == 0);
    CHECK(m.singular_values[0] == Approx(4).epsilon(1e-6));
    CHECK(m.singular_values[1] == Approx(3).epsilon(1e-6));
    CHECK(m.singular_values.tail(30).maxCoeff() < 1e-5);
    CHECK(m.change_norm() == Approx(5).epsilon(1e-6));
    CHECK(energy_rank(m.singular_values, 0.9) == 2);
  }
  CHECK(names == std::vector<std::string>{"blocks.0.attn.q", "blocks.0.attn.k", "blocks.0.attn.v", "blocks.0.attn.out", "blocks.0.mlp.gate",
                                          "blocks.0.mlp.up", "blocks.0.mlp.down", "blocks.1.attn.q", "blocks.1.attn.k", "blocks.1.attn.v",
                                          "blocks.1.attn.out", "blocks.1.mlp.gate", "blocks.1.mlp.up", "blocks.1.mlp.down", "embed",
                                          "unembed"});
  CHECK(change.changed_parameters == 128 * 64 + 64);
  CHECK(change.vector_ratio > 0);

  const ModelChange rounded = model_change(quantize_decoder(base, QuantizeTypes::all(QuantizedType::q8_0)), base);
  for (const MatrixChange& m : rounded.matrices) {
    CAPTURE(m.name);
    CHECK(m.ratio() > 1e-3);
    CHECK(m.ratio() < 1e-2);
  }
  ModelConfig learned = tiny_config(Position::learned);
  CHECK(model_change(random_decoder<float>(learned), random_decoder<float>(learned, 2)).matrices.back().name == "pos_embed");
  ModelConfig wider = c, deeper = c;
  wider.hidden = 128, deeper.layers = 3;
  CHECK(message_of([&] { (void)model_change(base, random_decoder<float>(resolved(wider))); }) ==
        "models: expected blocks.0.mlp.up.weight [192, 64] as in the base, found [256, 64]");
  CHECK(message_of([&] { (void)model_change(base, random_decoder<float>(deeper)); }) ==
        "models: expected the same tensors in both, found blocks.2.ln1.weight in the tuned one alone");
}

TEST_CASE("the tokens near a soft prompt") {
  const ModelConfig c = config_of_64();
  const Decoder<float> dense = random_decoder<float>(c), small = quantize_decoder(dense, QuantizeTypes::all(QuantizedType::q8_0));
  Adapter<float> prompt = make_soft_prompt(dense, 2, 1);
  const auto rows = *prompt.arena.view("prompt.weight");
  const auto embed = *dense.arena.view("embed.weight");
  for (Index i = 0; i < 64; ++i) {
    prompt.arena.view("prompt.weight").data[i] = 2 * embed(5, i);
    prompt.arena.view("prompt.weight").data[64 + i] = -embed(7, i);
  }
  for (const Decoder<float>* m : {&dense, &small}) {
    const std::vector<PromptRow> found = prompt_neighbours(*m, prompt, 3);
    REQUIRE(found.size() == 2);
    REQUIRE(found[0].nearest.size() == 3);
    CHECK(found[0].nearest[0] == 5);
    CHECK(found[0].cosines[0] == Approx(1).epsilon(1e-3));
    CHECK(found[0].cosines[1] < 0.9);
    CHECK(found[0].cosines[1] >= found[0].cosines[2]);
    CHECK(found[0].norm == Approx(rows.row(0).norm() / embed.rowwise().norm().mean()).epsilon(1e-3));
    CHECK(prompt_neighbours(*m, prompt, 23)[1].nearest.back() == 7);
    CHECK(prompt_neighbours(*m, prompt, 99)[1].nearest.size() == 23);
  }
  CHECK_THROWS_AS((void)prompt_neighbours(random_decoder<float>(tiny_config()), prompt), std::invalid_argument);
  CHECK_THROWS_AS((void)prompt_neighbours(dense, random_adapter<float>(c, {})), std::invalid_argument);
}

}  // namespace glassformer

// A model that others trained, from llama2.c's format.
#include <doctest/doctest.h>

#include <cstring>

#include "glassformer/io/model_directory.hpp"
#include "temporary.hpp"

using namespace glassformer;
namespace fs = std::filesystem;

namespace {

const fs::path kModel = fs::path(GLASSFORMER_SHARED_DIR) / "data/stories260K";

// The likeliest token again and again, each step from the whole text.
std::string greedy(const ModelFiles& model, Index steps) {
  const Decoder<float>& decoder = model.decoder;
  std::vector<Token> ids = {decoder.config.bos};
  Workspace workspace;
  for (Index step = 0; step < steps; ++step) {
    const Index n = static_cast<Index>(ids.size());
    const std::vector<Index> starts = {0, n};
    Pass<float> pass;
    pass.starts = starts, pass.workspace = &workspace;
    Matrix<float> hidden(n, decoder.config.width), logits(1, decoder.config.vocab);
    decoder_forward<float>(decoder, pass, ids, hidden);
    decoder_logits<float>(decoder, pass, hidden.bottomRows(1), logits);
    Index best = 0;
    logits.row(0).maxCoeff(&best);
    ids.push_back(static_cast<Token>(best));
  }
  return model.tokenizer.decode(ids);
}

}  // namespace

TEST_CASE("stories260K") {
  if (!fs::exists(kModel / "model.bin")) {
    MESSAGE("skipped: no " << kModel.string());
    return;
  }
  const auto model = load_model(kModel);
  REQUIRE_MESSAGE(model, model.error());
  const ModelConfig& c = model->decoder.config;
  CHECK(c.prepend_bos);
  CHECK(c.bos == 1);
  CHECK(c.eos == 2);
  // dim 64, hidden 172, 5 layers, 8 heads of 8, 4 key-value heads, vocabulary 512, tied
  CHECK(model->decoder.arena.layout().parameters() == 512 * 64 + 5 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 172 * 64) + 64);
  CHECK(model->tokenizer.vocab_size() == 512);
  const std::string start =
      "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. "
      "She wanted to play with it, but it was too high.";
  CHECK(greedy(*model, 90).starts_with(start));

  TemporaryDirectory dir;
  REQUIRE(save_model(dir / "hf", model->decoder, model->tokenizer));
  const auto again = load_model(dir / "hf");
  REQUIRE_MESSAGE(again, again.error());
  CHECK(again->decoder.config == c);
  CHECK(again->tokenizer.kind() == TokenizerKind::score);
  const auto a = model->decoder.arena.values(), b = again->decoder.arena.values();
  CHECK(std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);

  const std::string bytes = slurp(kModel / "model.bin");
  fs::copy_file(kModel / "tokenizer.bin", dir / "tokenizer.bin");
  const auto error = [&](const std::string& changed) {
    spill(dir / "x.bin", changed);
    const auto loaded = load_model(dir / "x.bin");
    return loaded ? std::string() : loaded.error();
  };
  CHECK(error(bytes) == "");
  CHECK(error(bytes.substr(0, bytes.size() - 4)).find("expected 1056540 bytes by its header, found 1056536") != std::string::npos);
  std::string untied = bytes;
  untied[20] = 0, untied[21] = static_cast<char>(0xfe), untied[22] = untied[23] = static_cast<char>(0xff);  // vocabulary -512
  CHECK(error(untied).find("expected 1187612 bytes") != std::string::npos);
  CHECK(error(untied + bytes.substr(28, 512 * 64 * 4)) == "");
  std::string nan = bytes;
  std::memset(nan.data() + 28, 0xff, 8);
  CHECK(error(nan).find("embed.weight: expected finite numbers, found 2 of 32768") != std::string::npos);
}

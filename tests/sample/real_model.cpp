// A model that others trained: karpathy/tinyllamas stories260K.
#include <doctest/doctest.h>

#include <filesystem>

#include "glassformer/io/model_directory.hpp"
#include "glassformer/sample/generate.hpp"

using namespace glassformer;

TEST_CASE("stories260K, greedy, 200 tokens from its start token, tells its story") {
  const std::filesystem::path path = std::filesystem::path(GLASSFORMER_SHARED_DIR) / "data" / "stories260K";
  if (!std::filesystem::exists(path)) {
    MESSAGE("skipped: there is no " << path.string());
    return;
  }
  const Expected<ModelFiles> model = load_model(path);
  if (!model) FAIL(model.error());
  GenerateOptions o;
  o.sampling.temperature = 0;
  o.max_tokens = 200;
  std::string shown;
  o.on_text = [&](std::string_view piece) { shown += piece; };
  const Generation g = generate(model->decoder, model->tokenizer, "", o);
  const std::string expected =
      "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. "
      "She wanted to play with it, but it was too high.";
  CHECK(g.text.substr(0, expected.size()) == expected);
  CHECK(g.prompt_ids == std::vector<Token>{1});
  CHECK(shown == g.text);
  MESSAGE("decoded at " << g.tokens_per_s() << " tokens/s, 1 thread");
  o.on_text = {};
  o.use_cache = false;
  const Generation uncached = generate(model->decoder, model->tokenizer, "", o);
  CHECK(uncached.ids == g.ids);
  MESSAGE("without the cache at " << uncached.tokens_per_s() << " tokens/s");
  // A prompt goes on from where it ends, with the space that its first new word needs.
  o.use_cache = true;
  o.max_tokens = 3;
  const Generation more = generate(model->decoder, model->tokenizer, "Once upon a time", o);
  CHECK(more.prompt_ids.front() == 1);
  CHECK(more.text.substr(0, 7) == ", there");
}

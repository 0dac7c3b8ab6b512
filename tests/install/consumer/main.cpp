// A program outside the tree: trains a tiny decoder for three steps with the installed library, then writes four bytes with it.
#include <glassformer/sample/generate.hpp>
#include <glassformer/train/trainer.hpp>
#include <iostream>

using namespace glassformer;

static_assert(EIGEN_MAX_ALIGN_BYTES == 64, "the package must publish the alignment that the library was built with");

int main() {
  const Tokenizer tokenizer = byte_tokenizer();
  const std::vector<Token> ids = tokenizer.encode("the cat sat on the mat; the dog sat on the log");
  const ModelConfig config = resolved({.vocab = 256, .context = 16, .layers = 1, .heads = 2, .width = 16});
  Decoder<float> model = make_decoder<float>(config);
  initialize(model, 1);
  Trainer<float> trainer(model, {.steps = 3, .batch = 4, .rate = 1e-2, .warmup = 1});
  const auto batch = [&](Index, Index) { return random_batch(ids, 4, config.context, RandomStream{1}, 0); };  // the same one each time
  const double first = trainer.step(batch).loss_nats, second = trainer.step(batch).loss_nats, third = trainer.step(batch).loss_nats;
  std::cout << "loss_nats " << first << ' ' << second << ' ' << third << '\n';
  GenerateOptions options;
  options.max_tokens = 4;
  const Generation text = generate(model, tokenizer, "the ", options);
  return third < second && second < first && text.ids.size() == 4 ? 0 : 1;
}

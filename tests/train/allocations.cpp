// A step of AdamW on all weights, whose batches keep one shape, allocates nothing once the memory that it works in has grown. This program's malloc counts, and so does all that
// stands on it: operator new, Eigen's aligned memory, other threads. Not counted: what large_memory.hpp cuts from a region that it has already.
#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <thread>

#include "glassformer/train/trainer.hpp"

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

namespace {
std::atomic<bool> counting = false;
std::atomic<long> allocations = 0;
void* counted(void* block) {
  if (counting.load(std::memory_order_relaxed)) ++allocations;
  return block;
}
}  // namespace

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t bytes) { return counted(__libc_malloc(bytes)); }
void* calloc(std::size_t n, std::size_t bytes) { return counted(__libc_calloc(n, bytes)); }
void* realloc(void* block, std::size_t bytes) { return counted(__libc_realloc(block, bytes)); }
void* memalign(std::size_t alignment, std::size_t bytes) { return counted(__libc_memalign(alignment, bytes)); }
void* aligned_alloc(std::size_t alignment, std::size_t bytes) { return counted(__libc_memalign(alignment, bytes)); }
int posix_memalign(void** block, std::size_t alignment, std::size_t bytes) { return (*block = counted(__libc_memalign(alignment, bytes))) ? 0 : ENOMEM; }
}

namespace glassformer {
namespace {

constexpr Index kSteps = 5, kWarm = 2;

ModelConfig gpt2(double dropout) {
  ModelConfig c;
  c.vocab = 97, c.context = 40, c.layers = 2, c.heads = 4, c.width = 64, c.dropout = dropout;
  return c;
}

ModelConfig llama() {
  ModelConfig c = gpt2(0);
  c.kv_heads = 2, c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = c.norm_bias = false;
  return c;
}

// Two sequences, of 40 and 24 tokens.
Batch batch_of(Index step, Index micro, Index vocab) {
  Batch b;
  b.starts = {0, 40, 64};
  for (Index i = 0; i < 64; ++i) {
    b.inputs.push_back(static_cast<Token>((7 * i + step + micro) % vocab));
    b.targets.push_back(static_cast<Token>((7 * i + 7 + step + micro) % vocab));
  }
  return b;
}

TrainOptions options_of(Index accumulate) {
  TrainOptions o;
  o.steps = kSteps, o.batch = 2, o.accumulate = accumulate, o.warmup = 0, o.exec.threads = 2;
  return o;
}

// A whole step on each of the two threads: after it each has the memory that a thread keeps for its share of a loop, whichever shares it will
// get.
void warm_both_threads(const ModelConfig& config) {
  std::atomic<int> here = 0;
  parallel_for(2, 2, [&](Index) {
    for (++here; here < 2;) std::this_thread::yield();
    Decoder<float> model = make_decoder<float>(config);
    initialize(model, 1);
    Trainer<float> trainer(model, options_of(1));
    trainer.step([&](Index step, Index micro) { return batch_of(step, micro, config.vocab); });
  });
}

// Of the steps after the first two. The batches are made before: what they take is the reader's of the text.
long allocations_of(Trainer<float>& trainer, Index vocab) {
  const Index accumulate = trainer.options().accumulate;
  std::vector<Batch> batches;
  for (Index i = 0; i < kSteps * accumulate; ++i) batches.push_back(batch_of(i / accumulate, i % accumulate, vocab));
  const BatchSource source = [&](Index step, Index micro) { return std::move(batches[static_cast<std::size_t>(step * accumulate + micro)]); };
  for (Index step = 0; step < kWarm; ++step) trainer.step(source);
  allocations = 0;
  counting = true;
  for (Index step = kWarm; step < kSteps; ++step) trainer.step(source);
  counting = false;
  return allocations;
}

}  // namespace

TEST_CASE("allocations: the counter sees those of every kind and thread") {
  allocations = 0;
  counting = true;
  std::thread([] {
    static void* volatile seen;  // so that the compiler leaves nothing out
    seen = ::operator new(1);
    ::operator delete(seen);
    seen = std::aligned_alloc(64, 64);
    std::free(seen);
    seen = Matrix<float>(3, 5).data();
  }).join();
  counting = false;
  CHECK(allocations >= 4);  // the thread's own is one
}

TEST_CASE("trainer: a step allocates nothing after the first ones") {
  ModelConfig config;
  Index accumulate = 1;
  SUBCASE("GPT-2") { config = gpt2(0); }
  SUBCASE("GPT-2 with dropout and micro-batches") { config = gpt2(0.1), accumulate = 3; }
  SUBCASE("Llama") { config = llama(); }
  SUBCASE("ALiBi, post-norm, exact GELU") {
    config = gpt2(0);
    config.position = Position::alibi, config.placement = NormPlacement::post, config.mlp = Mlp::gelu_exact;
  }
  warm_both_threads(config);
  Decoder<float> model = make_decoder<float>(config);
  initialize(model, 1);
  Trainer<float> trainer(model, options_of(accumulate));
  CHECK(allocations_of(trainer, config.vocab) == 0);
}

}  // namespace glassformer

#endif

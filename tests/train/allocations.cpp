// A step whose batches keep one shape allocates nothing once the memory that it works in has grown, whatever is trained and by which optimizer. This program's malloc counts, and so
// does all that stands on it: operator new, Eigen's aligned memory, other threads. What large_memory.hpp cuts from a region that it has already, it counts itself.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <thread>

#include "core/large_allocations.hpp"
#include "glassformer/model/quantize.hpp"
#include "glassformer/train/trainer.hpp"

// A sanitizer has a malloc of its own; older clang tells it by __has_feature alone.
#if !defined(__GLIBC__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GLASSFORMER_FOREIGN_MALLOC
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define GLASSFORMER_FOREIGN_MALLOC
#endif
#endif

namespace {
std::atomic<bool> counting = false;
std::atomic<long> allocations = 0;
#ifndef GLASSFORMER_FOREIGN_MALLOC
void* counted(void* block) {
  if (counting.load(std::memory_order_relaxed)) ++allocations;
  return block;
}
#endif
}  // namespace

#ifndef GLASSFORMER_FOREIGN_MALLOC
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
#endif

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

enum class Trained { all, last_block, lora, dora, embedding_lora, prompt };

struct Run {
  ModelConfig config = gpt2(0);
  Trained trained = Trained::all;
  std::optional<QuantizeTypes> quantized = {};  // of the frozen weights under an adapter
  bool muon = false;
  Index accumulate = 1;
};

// What a run trains, and its trainer.
struct Setup {
  Decoder<float> model;
  Adapter<float> adapter;
  std::optional<Trainer<float>> trainer;

  explicit Setup(const Run& run) : model(make_decoder<float>(run.config)) {
    initialize(model, 1);
    if (run.quantized) model = quantize_decoder(model, *run.quantized);
    TrainOptions o;
    o.steps = kSteps, o.batch = 2, o.accumulate = run.accumulate, o.warmup = 0, o.muon = run.muon, o.exec.threads = 2;
    if (run.trained == Trained::all) {
      trainer.emplace(model, o);
      return;
    }
    if (run.trained == Trained::last_block) {
      const auto& tensors = model.arena.layout().tensors();
      const auto is_in = [](const TensorInfo& t) { return t.name.starts_with("blocks.1."); };
      const auto first = std::ranges::find_if(tensors, is_in);
      trainer.emplace(model, model.arena.slice(static_cast<std::size_t>(first - tensors.begin()), static_cast<std::size_t>(std::ranges::count_if(tensors, is_in))), o);
      return;
    }
    LoraConfig lora;
    lora.rank = 4, lora.dropout = 0.1, lora.dora = run.trained == Trained::dora;
    if (run.trained == Trained::embedding_lora) lora.targets = {"embed", "attn.v"};
    adapter = run.trained == Trained::prompt ? make_soft_prompt(model, 3, 1) : make_adapter(model, lora, 1);
    attach(model, adapter);
    trainer.emplace(model, adapter, o);
  }
  Setup(const Setup&) = delete;

  Batch batch(Index step, Index micro) const {
    Batch b = batch_of(step, micro, model.config.vocab);
    std::ranges::copy(soft_prompt_ids(model), b.inputs.begin());
    return b;
  }
};

// A whole step on each of the two threads: after it each has the memory that a thread keeps for its share of a loop, whichever shares it will
// get.
void warm_both_threads(const Run& run) {
  std::atomic<int> here = 0;
  parallel_for(2, 2, [&](Index) {
    for (++here; here < 2;) std::this_thread::yield();
    Setup setup(run);
    setup.trainer->step([&](Index step, Index micro) { return setup.batch(step, micro); });
  });
}

// Of the steps after the first two. The batches are made before: what they take is the reader's of the text.
long allocations_of(const Run& run) {
  warm_both_threads(run);
  Setup setup(run);
  std::vector<Batch> batches;
  for (Index i = 0; i < kSteps * run.accumulate; ++i) batches.push_back(setup.batch(i / run.accumulate, i % run.accumulate));
  const BatchSource source = [&](Index step, Index micro) { return std::move(batches[static_cast<std::size_t>(step * run.accumulate + micro)]); };
  for (Index step = 0; step < kWarm; ++step) setup.trainer->step(source);
  const std::uint64_t large = large_allocations();
  allocations = 0;
  counting = true;
  for (Index step = kWarm; step < kSteps; ++step) setup.trainer->step(source);
  counting = false;
  return allocations + static_cast<long>(large_allocations() - large);
}

}  // namespace

TEST_CASE("allocations: the counter sees those of every kind and thread") {
#ifdef GLASSFORMER_FOREIGN_MALLOC
  MESSAGE("skipped, in part: malloc is not this program's own here (a sanitizer's, or another libc's), so that only large memory is counted");
#else
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
#endif
}

TEST_CASE("trainer: a step allocates nothing after the first ones") {
  Run run;
  SUBCASE("GPT-2") {}
  SUBCASE("GPT-2 with dropout and micro-batches") { run = {.config = gpt2(0.1), .accumulate = 5}; }
  SUBCASE("Llama") { run = {.config = llama()}; }
  SUBCASE("ALiBi, post-norm, exact GELU") {
    run.config.position = Position::alibi, run.config.placement = NormPlacement::post, run.config.mlp = Mlp::gelu_exact;
  }
  SUBCASE("Muon") { run = {.config = llama(), .muon = true, .accumulate = 2}; }
  SUBCASE("the last block") { run = {.config = llama(), .trained = Trained::last_block}; }
  SUBCASE("LoRA with micro-batches") { run = {.trained = Trained::lora, .accumulate = 3}; }
  SUBCASE("LoRA by Muon") { run = {.config = llama(), .trained = Trained::lora, .muon = true}; }
  SUBCASE("LoRA of the embedding and of some matrices") { run = {.trained = Trained::embedding_lora}; }
  SUBCASE("DoRA") { run = {.trained = Trained::dora}; }
  SUBCASE("QLoRA") { run = {.config = llama(), .trained = Trained::lora, .quantized = QuantizeTypes{QuantizedType::nf4, QuantizedType::q8_0}}; }
  SUBCASE("DoRA of a quantized model") { run = {.config = llama(), .trained = Trained::dora, .quantized = QuantizeTypes{QuantizedType::q4_0, {}}}; }
  SUBCASE("a soft prompt") { run = {.trained = Trained::prompt}; }
  CHECK(allocations_of(run) == 0);
}

}  // namespace glassformer

#include "glassformer/train/run.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <deque>
#include <fstream>
#include <limits>
#include <numeric>

#include "glassformer/core/hash.hpp"
#include "glassformer/io/model_directory.hpp"
#include "glassformer/io/safetensors.hpp"

namespace glassformer {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Everything that changes what the next step computes. A resumed run must have the same, or it would be another run.
std::string fingerprint(const TrainOptions& o) {
  return fmt::format(
      "steps {} batch {} accumulate {} rate {} min-rate {} warmup {} beta1 {} beta2 {} epsilon {} weight-decay {} clip {} muon {} {} {} "
      "seed {}",
      o.steps, o.batch, o.accumulate, o.rate, o.min_rate, o.warmup, o.beta1, o.beta2, o.epsilon, o.weight_decay, o.clip, o.muon,
      o.muon_rate, o.muon_momentum, o.seed);
}

std::string metrics_line(const RunProgress& p) {
  std::string line =
      fmt::format(R"({{"step":{},"train_loss_nats":{:.6f},"rate":{:.6g},"gradient_norm":{:.6g},"tokens_per_s":{:.0f},"seconds":{:.3f})",
                  p.step.step, p.step.loss_nats, p.step.rate, p.step.gradient_norm, p.tokens_per_s, p.seconds);
  if (p.validation) {
    line += fmt::format(R"(,"val_loss_nats":{:.6f},"val_bits_per_byte":{:.6f},"val_accuracy":{:.6f})", p.validation->loss_nats(),
                        p.validation->bits_per_byte(), p.validation->accuracy());
  }
  return line + "}";
}

// The metrics of a run. A resumed one keeps the lines up to its step and drops what the interrupted run wrote after its last save.
class Metrics {
 public:
  Metrics(const fs::path& file, Index steps_done) : file_(file) {
    std::ifstream in(file_);
    for (std::string line; steps_done > 0 && std::getline(in, line);) {
      long long step = 0;
      double loss = 0;
      const int read = std::sscanf(line.c_str(), "{\"step\":%lld,\"train_loss_nats\":%lf", &step, &loss);
      if (read < 1 || step > steps_done) continue;
      text_ += line + "\n";
      if (read == 2) losses_.push_back(loss);
    }
  }
  void add(const RunProgress& p) {
    text_ += metrics_line(p) + "\n";
    losses_.push_back(p.step.loss_nats);
  }
  // Mean loss of the last 100 steps, those before a resumption included.
  double recent_loss() const {
    const std::size_t n = std::min<std::size_t>(losses_.size(), 100);
    return n == 0 ? std::numeric_limits<double>::quiet_NaN()
                  : std::accumulate(losses_.end() - static_cast<std::ptrdiff_t>(n), losses_.end(), 0.0) / static_cast<double>(n);
  }
  Expected<void> save() const {
    return save_file(file_, [this](const fs::path& path) { return write_bytes(path, text_); });
  }

 private:
  fs::path file_;
  std::string text_;
  std::vector<double> losses_;
};

std::uint64_t hash_of(const Decoder<float>& model) {
  std::uint64_t hash = fnv1a(config_json(model.config));
  const auto add = [&](const auto& numbers) { hash = fnv1a(std::as_bytes(std::span(numbers)), hash); };
  add(model.arena.values());
  for (const auto& [name, weights] : model.quantized) {
    add(name);
    add(std::array{weights->type});
    add(weights->blocks);
    add(weights->absmax);
    add(weights->group_maximum);
    add(std::array{weights->offset});
  }
  return hash;
}

// Hashes of what processes that are about to do the same steps have in common.
struct Start {
  std::uint64_t text = 0, model = 0, state = 0;
};

Start start_of(Trainer<float>& trainer, const BatchSource& source, const RunOptions& options) {
  const Batch batch = source(trainer.steps_done(), 0);  // tokens: by the same tokenizer, and from where they should be
  Start start{fnv1a(fmt::format("{} of {} eval-every {}", options.text_hash, fingerprint(trainer.options()), options.eval_every)),
              hash_of(trainer.model()), fnv1a(std::to_string(trainer.steps_done()))};
  start.text = fnv1a(std::as_bytes(std::span(batch.inputs)), start.text);
  const auto add = [&](const Arena<float>& arena) { start.state = fnv1a(std::as_bytes(arena.values()), start.state); };
  if (trainer.parameters().values().data() != trainer.model().arena.values().data()) add(trainer.parameters());  // an adapter
  if (trainer.steps_done() > 0) add(trainer.first_moment()), add(trainer.second_moment());
  return start;
}

Expected<void> check_same_start(Trainer<float>& trainer, const BatchSource& source, const RunOptions& options) {
  Exchange* exchange = trainer.options().exchange;
  if (!exchange || trainer.steps_done() >= trainer.options().steps) return {};
  const std::vector<Start> starts = exchange->gather(start_of(trainer, source, options));
  for (int rank = 1; rank < exchange->ranks(); ++rank) {
    const Start &first = starts[0], &other = starts[static_cast<std::size_t>(rank)];
    const char* differs = other.text != first.text     ? "text and options"
                          : other.model != first.model ? "model"
                          : other.state != first.state ? "checkpoint"
                                                       : nullptr;
    if (differs) return unexpected("expected the same {} for all processes, found others at {}", differs, exchange->name(rank));
  }
  return {};
}

}  // namespace

FileToSave trainer_file(Trainer<float>& trainer, const RunState& state) {
  return {"trainer.safetensors", [&trainer, state](const fs::path& path) {
            std::vector<NamedTensor> tensors = arena_tensors(trainer.first_moment(), Dtype::F32, "m.");
            for (NamedTensor& t : arena_tensors(trainer.second_moment(), Dtype::F32, "v.")) tensors.push_back(std::move(t));
            return write_safetensors(path, tensors,
                                     {{"steps_done", std::to_string(trainer.steps_done())},
                                      {"options", fingerprint(trainer.options())},
                                      {"best_step", std::to_string(state.best_step)},
                                      {"best_loss_nats", fmt::format("{:.17g}", state.best_loss_nats)},
                                      {"best_bits_per_byte", fmt::format("{:.17g}", state.best_bits_per_byte)},
                                      {"best_accuracy", fmt::format("{:.17g}", state.best_accuracy)}});
          }};
}

Expected<RunState> read_trainer(const fs::path& path, Trainer<float>& trainer) {
  const auto file = SafetensorsFile::open(path);
  if (!file) return tl::unexpected(file.error());
  const auto text = [&](const char* key) {
    const auto it = file->metadata().find(key);
    return it == file->metadata().end() ? std::string() : it->second;
  };
  if (text("options") != fingerprint(trainer.options())) {
    return unexpected("{}: expected the options of the run that is resumed ({}), found {}", path.string(), text("options"),
                      fingerprint(trainer.options()));
  }
  RunState state;
  Index steps = 0;
  try {
    steps = std::stoll(text("steps_done"));
    state = {std::stoll(text("best_step")), std::stod(text("best_loss_nats")), std::stod(text("best_bits_per_byte")),
             std::stod(text("best_accuracy"))};
  } catch (const std::exception&) {
    return unexpected("{}: expected the step and the best loss of a run in its metadata, found something else", path.string());
  }
  if (steps < 0 || steps > trainer.options().steps)
    return unexpected("{}: expected at most {} steps, found {}", path.string(), trainer.options().steps, steps);
  auto read = read_arena(*file, "m.", trainer.first_moment());
  if (read) read = read_arena(*file, "v.", trainer.second_moment());
  if (!read) return tl::unexpected(read.error());
  trainer.set_steps_done(steps);
  return state;
}

Expected<RunResult> run_training(Trainer<float>& trainer, const BatchSource& source, const CheckpointFiles& files,
                                 const RunOptions& options) {
  const auto start = Clock::now();
  const Index steps = trainer.options().steps;
  RunState state{0, std::numeric_limits<double>::infinity(), 0, 0};
  if (options.resume) {
    const auto read = read_trainer(options.out / "last" / "trainer.safetensors", trainer);
    if (!read) return tl::unexpected(read.error());
    state = *read;
  }
  if (auto same = check_same_start(trainer, source, options); !same) return tl::unexpected(same.error());
  Exchange* exchange = trainer.options().exchange;
  const bool first = !exchange || exchange->is_first();  // the one that validates and saves
  Metrics metrics(options.out / "metrics.jsonl", trainer.steps_done());
  bool on_disk = options.resume;  // the first save of a new run replaces the directory, later ones keep what the run put there
  RunResult result;
  std::deque<double> recent;  // seconds of the last 20 steps
  double step_seconds = 0;
  Index tokens = 0;

  const auto save_last = [&]() -> Expected<void> {
    if (!first) return {};
    auto last = files();
    last.push_back(trainer_file(trainer, state));
    if (auto saved = save_directory(options.out / "last", last); !saved) return saved;
    return metrics.save();
  };

  while (trainer.steps_done() < steps && !result.interrupted && !(state.best_loss_nats <= options.until_loss)) {
    const auto began = Clock::now();
    RunProgress progress;
    try {
      progress.step = trainer.step(source);
    } catch (const std::runtime_error& error) {
      return unexpected("{}: {}", options.out.string(), error.what());
    }
    const double took = seconds_since(began);
    step_seconds += took, tokens += progress.step.tokens;
    recent.push_back(took);
    if (recent.size() > 20) recent.pop_front();
    const double mean_seconds = std::accumulate(recent.begin(), recent.end(), 0.0) / static_cast<double>(recent.size());
    progress.steps = steps;
    progress.tokens_per_s = static_cast<double>(progress.step.tokens) / mean_seconds;
    progress.seconds_left = mean_seconds * static_cast<double>(steps - trainer.steps_done());

    const bool asked = options.interrupted && options.interrupted();
    result.interrupted = (exchange ? exchange->any(asked) : asked) && trainer.steps_done() < steps;
    // An interrupted run that has not saved a model yet does so now: the directory must not keep another run's.
    const bool evaluates =
        trainer.steps_done() % options.eval_every == 0 || trainer.steps_done() == steps || (result.interrupted && !on_disk);
    Score score;
    if (evaluates) {
      if (first) score = options.validate();
      if (exchange) score = exchange->gather(score).front();
      if (!std::isfinite(score.loss_nats())) {
        return unexpected("{}: after step {} the validation loss is {}: training diverged; the checkpoint before is still there",
                          options.out.string(), trainer.steps_done(), score.loss_nats());
      }
      progress.validation = &score;
      if (score.loss_nats() < state.best_loss_nats) {
        progress.best = true;
        state = {trainer.steps_done(), score.loss_nats(), score.bits_per_byte(), score.accuracy()};
        const std::vector<std::string> keep = on_disk ? std::vector<std::string>{"last"} : std::vector<std::string>{};
        if (first) {
          if (auto saved = save_directory(options.out, files(), keep); !saved) return tl::unexpected(saved.error());
        }
        on_disk = true;
      }
    }
    progress.seconds = seconds_since(start);
    metrics.add(progress);
    if (evaluates || result.interrupted) {
      if (auto saved = save_last(); !saved) return tl::unexpected(saved.error());
    }
    if (first && options.on_step) options.on_step(progress);
  }
  result.steps = trainer.steps_done();
  result.best_step = state.best_step;
  result.train_loss_nats = metrics.recent_loss();
  result.val_loss_nats = state.best_loss_nats, result.val_bits_per_byte = state.best_bits_per_byte,
  result.val_accuracy = state.best_accuracy;
  result.seconds = seconds_since(start);
  result.tokens_per_s = step_seconds > 0 ? static_cast<double>(tokens) / step_seconds : 0;
  return result;
}

}  // namespace glassformer

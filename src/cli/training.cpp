#include "cli/training.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <set>

#include "cli/terminal.hpp"
#include "glassformer/core/hash.hpp"

namespace glassformer::cli {
namespace {

namespace fs = std::filesystem;

// Options that change neither the numbers nor what they mean: a resumed run may have others.
const std::set<std::string> kNotRecorded = {"out", "resume", "overwrite", "json", "threads", "data", "model"};

// To tell whether two texts are the same.
std::string text_hash(std::string_view text) { return fmt::format("{:016x}", fnv1a(text)); }

bool holds_run(const fs::path& out) {
  for (const char* name : {"config.json", "model.safetensors", "model.bin", "adapter_config.json", "last"}) {
    if (fs::exists(out / name)) return true;
  }
  return false;
}

std::string in_source_terms(const Score& score, const std::optional<double>& source_bits) {
  std::string text = fmt::format("{:.4f} bits per byte", score.bits_per_byte());
  if (source_bits) text += fmt::format(", {:+.4f} above the source", score.bits_per_byte() - *source_bits);
  return text;
}

// Draws the progress; holds a mean of the loss over some twenty steps.
class Display {
 public:
  explicit Display(const Run& run) : run_(run) {}

  void operator()(const RunProgress& p) {
    smooth_ = smooth_ == 0 ? p.step.loss_nats : 0.9 * smooth_ + 0.1 * p.step.loss_nats;
    if (p.validation) {
      last_ = p.validation->loss_nats();
      line_.keep(fmt::format("step {:>6}: loss {:.4f}, validation {:.4f} nats per token, {}, {:.1f}% right{}", p.step.step, smooth_, last_,
                             in_source_terms(*p.validation, run_.source_bits), 100 * p.validation->accuracy(), p.best ? ", saved" : ""));
      return;
    }
    if (!line_.due()) return;
    const std::string validation = last_ > 0 ? fmt::format("  validation {:.4f}", last_) : "";
    line_.update(fmt::format("step {}/{}  loss {:.4f} ({}){}  {} tokens/s  {} left", p.step.step, p.steps, smooth_, run_.expected,
                             validation, grouped(static_cast<long long>(p.tokens_per_s)), duration(p.seconds_left)));
  }

 private:
  const Run& run_;
  ProgressLine line_;
  double smooth_ = 0, last_ = 0;
};

}  // namespace

void declare_run_options(Options& o, const std::string& what, bool out_is_required) {
  o.group("Run");
  o.path("out", "DIR", "directory of " + what + "; DIR/last holds the newest state, DIR/metrics.jsonl every step", out_is_required);
  o.integer("eval-every", 250, 1, "steps between validations; each saves");
  o.flag("resume", "continue the run in DIR; its options need not be given again");
  o.flag("overwrite", "replace what DIR holds");
}

void check_out(const Options& o) {
  const fs::path out = o.text("out");
  require_usage(!(o.is_set("resume") && o.is_set("overwrite")), "expected either --resume or --overwrite, found both");
  std::error_code error;
  if (o.is_set("resume")) {
    if (!fs::exists(out / "last", error))
      throw Failure(fmt::format("{}: expected a run to resume (a directory last in it), found none", out.string()));
  } else if (fs::exists(out, error)) {
    if (!fs::is_directory(out, error)) throw Failure(fmt::format("{}: expected a directory to save to, found a file", out.string()));
    if (holds_run(out)) {
      if (!o.is_set("overwrite"))
        throw Failure(fmt::format("{}: expected a new directory, found a model in it; give --resume or --overwrite", out.string()));
    } else if (!fs::is_empty(out, error) && !fs::exists(out / "metrics.jsonl", error)) {
      throw Failure(fmt::format("{}: expected a new or empty directory, found other files in it", out.string()));
    }
  }
  fs::path existing = fs::absolute(out, error);
  while (!existing.empty() && !fs::exists(existing, error)) existing = existing.parent_path();
  if (existing == fs::absolute(out, error) && existing.has_parent_path() && ::access(existing.parent_path().c_str(), W_OK) != 0 &&
      ::access(existing.c_str(), W_OK) == 0) {
    existing = existing.parent_path();  // saving writes a sibling first
  }
  if (::access(existing.c_str(), W_OK) != 0) throw Failure(fmt::format("{}: could not be saved: {}", out.string(), std::strerror(errno)));
}

RunRecord::RunRecord(const Options& o, const TextSource& source) {
  for (const auto& [name, value] : o.values()) {
    if (!kNotRecorded.contains(name) || name == "data") fixed_["glassformer.run." + name] = value;
  }
  fixed_["glassformer.text_hash"] = text_hash(source.text);
  if (source.bits_per_byte) fixed_["glassformer.source_bits_per_byte"] = fmt::format("{:.6f}", *source.bits_per_byte);
}

std::uint64_t RunRecord::hash() const {
  std::string all;
  for (const auto& [name, value] : fixed_) {
    if (name != "glassformer.run.data") all += fmt::format("{}={}\n", name, value);
  }
  return fnv1a(all);
}

Metadata RunRecord::metadata(Index step) const {
  Metadata all = fixed_;
  all["glassformer.step"] = std::to_string(step);
  if (step == step_) {
    all["glassformer.val_loss_nats"] = fmt::format("{:.6f}", score_.loss_nats());
    all["glassformer.val_bits_per_byte"] = fmt::format("{:.6f}", score_.bits_per_byte());
  }
  return all;
}

void supply_recorded(Options& o, const std::string& file, const Metadata& metadata) {
  constexpr std::string_view kPrefix = "glassformer.run.";
  std::size_t found = 0;
  const auto given = o.values();
  for (const auto& [key, value] : metadata) {
    if (!key.starts_with(kPrefix)) continue;
    ++found;
    const std::string name = key.substr(kPrefix.size());
    if (!given.contains(name)) {
      const bool other_text = (name == "data" && given.contains("corpus")) || (name == "corpus" && given.contains("data"));
      require_usage(!other_text, "--{}: expected the run's own {} ({}), or none, found another", name == "data" ? "corpus" : "data", name,
                    value);
      o.supply(name, value);
    } else {
      require_usage(kNotRecorded.contains(name) || o.same(name, value), "--{}: expected {}, as the run in {} has it, or none, found {}",
                    name, value, file, given.at(name));
    }
  }
  for (const auto& [name, value] : given) {  // what the run did not have
    require_usage(kNotRecorded.contains(name) || metadata.contains(fmt::format("{}{}", kPrefix, name)) || o.is_standard(name),
                  "--{}: expected none, as in the run in {}, found {}", name, file, value);
  }
  if (found == 0) throw Failure(fmt::format("{}: expected the options of a run in its metadata, found none", file));
}

void check_same_text(const TextSource& source, const std::string& file, const Metadata& metadata) {
  const auto at = metadata.find("glassformer.text_hash");
  if (at == metadata.end() || at->second != text_hash(source.text)) {
    throw Failure(fmt::format("{}: expected the text that the run in {} began with, found another", source.name, file));
  }
}

RunResult run_and_show(const Options& o, const Run& run) {
  Display display(run);
  RunOptions options;
  options.out = o.text("out");
  options.eval_every = o.integer("eval-every");
  options.resume = o.is_set("resume");
  options.validate = [&] {
    const Score score = run.validate();
    run.record->validated(run.trainer->steps_done(), score);
    return score;
  };
  options.on_step = [&](const RunProgress& p) { display(p); };
  options.interrupted = interrupted;
  options.until_loss = run.until_loss;
  options.text_hash = run.record->hash();
  catch_interrupt();
  return checked(run_training(
      *run.trainer, run.batches, [&] { return run.files(run.record->metadata(run.trainer->steps_done())); }, options));
}

JsonLine run_json(const RunResult& r, Index parameters, const std::string& out) {
  JsonLine json;
  json.add("steps", r.steps).add("parameters", parameters).add("train_loss_nats", r.train_loss_nats).add("val_loss_nats", r.val_loss_nats);
  json.add("val_bits_per_byte", r.val_bits_per_byte).add("val_accuracy", r.val_accuracy).add("best_step", r.best_step);
  return json.add("seconds", r.seconds)
      .add("tokens_per_s", r.tokens_per_s)
      .add("model", std::string_view(out))
      .add("interrupted", r.interrupted);
}

void add_exchange(JsonLine& json, const Trainer<float>& trainer) {
  const Exchange* exchange = trainer.options().exchange;
  if (!exchange) return;
  const ExchangeStatistics s = exchange->statistics();
  json.add("ranks", Index{exchange->ranks()}).add("exchange_sent_bytes", s.sent_bytes).add("exchange_wait_seconds", s.wait_seconds);
  json.add("exchange_early_share", s.summed_bytes > 0 ? s.early_bytes / s.summed_bytes : 0.0);
}

std::optional<Index> peak_bytes() {
#ifdef __linux__  // elsewhere the unit of ru_maxrss is another
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) == 0) return static_cast<Index>(usage.ru_maxrss) * 1024;
#endif
  return std::nullopt;
}

int interrupted_exit(const Options& o, const RunResult& r) {
  // An adapter's run must be told its model again: a model is no option of a run but what it stands on.
  const std::string model = o.command() == "lora train" ? " --model " + o.text("model") : "";
  fmt::print(stderr, "interrupted after step {} and saved; go on with: glassformer {} --out {} --resume{}\n", r.steps, o.command(),
             o.text("out"), model);
  return 130;
}

}  // namespace glassformer::cli

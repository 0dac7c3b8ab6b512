#include "cli/ranks.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

#include "cli/lora_methods.hpp"
#include "cli/terminal.hpp"

namespace glassformer::cli {
namespace {

namespace fs = std::filesystem;

// Standard output and error go nowhere. Returns a new descriptor of what standard error was.
int fall_silent() {
  const int before = ::fcntl(2, F_DUPFD_CLOEXEC, 3);
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere >= 0) ::dup2(nowhere, 1), ::dup2(nowhere, 2);
  return before;
}

}  // namespace

Ranks::Ranks() {
  ExchangeEvents events;
  events.lost = [this](std::span<const int> ranks, bool speaks) {
    if (speaks) say(fmt::format("{} ended before the others; {}", ranks_named(ranks), how_to_go_on()));
    std::_Exit(1);  // nothing that waits for it would ever end
  };
  events.stopping = interrupted;
  events.silent = [this](std::span<const int> ranks, bool speaks) {
    if (speaks)
      say(fmt::format("asked to stop, and half a second later {} had not answered; if it does not, {}", ranks_named(ranks),
                      how_to_go_on()));
  };
  exchange_ = Exchange::join(std::move(events));
  if (!is_first()) standard_error_ = fall_silent();
}

void Ranks::run_begins(const Options& o) {
  const std::scoped_lock lock(guard_);
  command_ = o.command(), out_ = o.text("out");
  if (command_ == "lora train") command_ += " --model " + o.text("model");
}

TrainOptions Ranks::share_out(TrainOptions t) const {
  t.exchange = exchange();
  const Index ranks = exchange_ ? exchange_->ranks() : 1;
  const std::string hint = t.accumulate == 1 && t.batch % ranks == 0
                               ? fmt::format("; --accumulate {} --batch {} has steps of the same size", ranks, t.batch / ranks)
                               : "";
  require_usage(
      t.accumulate % ranks == 0,
      "--accumulate: expected a multiple of the {} processes that mpirun started, which share out the batches of a step, found {}{}", ranks,
      t.accumulate, hint);
  return t;
}

void Ranks::say(const std::string& line) const {
  const std::string text = fmt::format("glassformer: {}\n", line);
  (void)!::write(standard_error_, text.data(), text.size());
}

void Ranks::fail(const std::string& why) const {
  if (exchange_->fail(why)) return;
  say(why);
  exchange_->end_all();
  std::_Exit(1);  // leaving by the usual way would wait for ever
}

std::string Ranks::ranks_named(std::span<const int> ranks) const {
  std::string text;
  for (const int rank : ranks) text += (text.empty() ? "" : ", ") + (exchange_ ? exchange_->name(rank) : fmt::format("rank {}", rank));
  return text;
}

std::string Ranks::how_to_go_on() const {
  const std::scoped_lock lock(guard_);
  if (out_.empty()) return "training had not begun";
  Metadata saved;
  try {
    saved = run_metadata(out_ / "last");
  } catch (const std::exception&) {
    return "nothing had been saved yet";
  }
  return fmt::format("{} has step {}: go on, with any number of processes that divides --accumulate, by: glassformer {} --out {} --resume",
                     (out_ / "last").string(), saved["glassformer.step"], command_, out_.string());
}

int with_ranks(const std::function<int(Ranks&)>& command) {
  Ranks ranks;
  if (!ranks.exchange()) return command(ranks);
  try {
    const int code = command(ranks);
    ranks.exchange()->leave();
    return ranks.is_first() ? code : 0;
  } catch (const RankFailed&) {
    if (ranks.is_first()) throw;
  } catch (const std::exception& error) {
    ranks.fail(message_of(error));
    if (ranks.is_first()) throw;
  }
  return 0;
}

}  // namespace glassformer::cli

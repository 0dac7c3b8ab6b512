// A command as one of the processes ("ranks") that mpirun started to train one model together: only the first speaks, saves and reports;
// one that fails or dies ends all, with one line.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>

#include "cli/options.hpp"
#include "glassformer/exchange/exchange.hpp"
#include "glassformer/train/trainer.hpp"

namespace glassformer::cli {

class Ranks {
 public:
  // Joins the others, if there are any. Any but the first one is silent from here on: its standard output and error go nowhere.
  Ranks();
  Ranks(const Ranks&) = delete;

  Exchange* exchange() const { return exchange_.get(); }  // null: this process is alone
  bool is_first() const { return !exchange_ || exchange_->is_first(); }
  // How the run in `out` goes on: what is said when one dies.
  void run_begins(const Options&);
  // The options of a run whose micro-batches are shared out. Throws UsageError when they cannot be.
  TrainOptions share_out(TrainOptions) const;
  // Tells the others why this process ends; where that cannot be, says it and ends all of them.
  void fail(const std::string& why) const;

 private:
  void say(const std::string& line) const;
  std::string ranks_named(std::span<const int>) const;
  std::string how_to_go_on() const;

  int standard_error_ = 2;  // of before
  mutable std::mutex guard_;
  std::string command_;  // of the run
  std::filesystem::path out_;
  std::unique_ptr<Exchange> exchange_;  // last: its thread uses the others
};

// Runs a command among its ranks; the exit code. What it throws is the first one's to report: the others end with 0.
int with_ranks(const std::function<int(Ranks&)>& command);

}  // namespace glassformer::cli

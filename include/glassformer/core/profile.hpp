// Where the time goes, by operation: each one's entry has a timer, which costs one look at a pointer when nobody measures.
#pragma once
#include <array>
#include <chrono>
#include <stdexcept>
#include <utility>

namespace glassformer {

enum class Operation { rest, linear, attention, norm, activation, position, embedding, loss, optimizer, exchange };
inline constexpr std::array<const char*, 10> kOperationNames = {"rest",     "linear",    "attention", "norm",      "activation",
                                                                "position", "embedding", "loss",      "optimizer", "exchange"};

class Profile;
namespace detail {
inline thread_local Profile* profile = nullptr;
}

// While it lives, the time of the thread that made it, what its loops on other threads take included, is put down to the operation that it
// is in; an operation within another counts for itself alone, so all of them together are the time since the beginning.
//   Profile profile;
//   trainer.step(source);
//   profile.stop();
//   profile.seconds(Operation::attention)
class Profile {
 public:
  // Throws std::logic_error while this thread has another one.
  Profile() {
    if (detail::profile) throw std::logic_error("profile: expected one at a time on a thread");
    detail::profile = this;
  }
  ~Profile() { stop(); }
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  // Ends the measurement; the numbers stay.
  void stop() {
    if (detail::profile != this) return;
    enter(Operation::rest);
    detail::profile = nullptr;
  }
  double seconds(Operation o) const { return std::chrono::duration<double>(spent_[static_cast<std::size_t>(o)]).count(); }
  double seconds() const {
    double all = 0;
    for (std::size_t o = 0; o < spent_.size(); ++o) all += seconds(static_cast<Operation>(o));
    return all;
  }

 private:
  friend class Timed;
  Operation enter(Operation next) {
    const auto now = std::chrono::steady_clock::now();
    spent_[static_cast<std::size_t>(current_)] += now - since_;
    since_ = now;
    return std::exchange(current_, next);
  }

  std::array<std::chrono::steady_clock::duration, kOperationNames.size()> spent_{};
  Operation current_ = Operation::rest;
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
};

// At an operation's entry:  const Timed timed(Operation::norm);
class Timed {
 public:
  explicit Timed(Operation o) : profile_(detail::profile) {
    if (profile_) before_ = profile_->enter(o);
  }
  ~Timed() {
    if (profile_) profile_->enter(before_);
  }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  Profile* profile_;
  Operation before_ = Operation::rest;
};

}  // namespace glassformer

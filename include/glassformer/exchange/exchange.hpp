// The processes that train one model together, each with its own copy of the parameters: sums over all of them that run while the backward
// pass goes on, small values that all must know, and what happens when one of them fails or dies. By MPI, where the program was built with
// it.
//
// A sum over n processes: each owns 1/n of the numbers. All send each owner its part of their sums (at once, not one after another), the
// owner adds them in the order of the tree (tree.hpp), and sends the result to all. A process sends 2·(n − 1)/n of the bytes, the least
// that is possible (Patarasu, Yuan 2009, "Bandwidth optimal all-reduce algorithms"), in two rounds for any n. The order is the tree's
// alone, so all get the same bits.
//
// All processes must call the same functions in the same order. Not thread-safe. A thread of its own does all the sending and receiving.
#pragma once
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>

#include "glassformer/core/arena.hpp"
#include "glassformer/exchange/tree.hpp"

namespace glassformer {

// Called on the exchange's own thread, with the numbers of some processes; each may be empty. `speaks` is true for one of those that find
// the same.
struct ExchangeEvents {
  std::function<void(std::span<const int>, bool speaks)> lost;    // these, of this machine, are no more: what waits for them waits for ever
  std::function<bool()> stopping;                                 // has this process been asked to stop?
  std::function<void(std::span<const int>, bool speaks)> silent;  // half a second after that these have still not sent what is waited for
};

// Another process has called `fail`.
class RankFailed : public std::exception {
 public:
  explicit RankFailed(std::string text) : text_(std::move(text)) {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

struct ExchangeStatistics {
  double sent_bytes = 0;    // by this process, for sums
  double summed_bytes = 0;  // of numbers
  double early_bytes = 0;   // of summed_bytes, those whose sum was there when `wait` was called
  double wait_seconds = 0;  // in `wait`: what the backward pass did not hide
};

class Exchange {
 public:
  // Joins the processes that mpirun started together with this one. Null when there is only this one. Throws std::runtime_error when there
  // are several and the program was built without MPI, or with another MPI than the one whose mpirun it was: each would train on its own,
  // into the same directory.
  static std::unique_ptr<Exchange> join(ExchangeEvents events = {});
  virtual ~Exchange() = default;  // leaves; what is under way is given up

  Exchange() = default;
  Exchange(const Exchange&) = delete;

  virtual int rank() const = 0;
  virtual int ranks() const = 0;
  virtual std::string name(int rank) const = 0;  // "rank 2 of 4 (node7)"
  bool is_first() const { return rank() == 0; }

  // Begins to add up the numbers [begin, end) of arenas over all processes: parts[k] is this process's sum of tree->pieces(rank())[k].
  // After `wait` parts[0] holds the sum of all leaves, the same bits everywhere; until then nobody may touch these numbers.
  virtual void begin_sum(std::shared_ptr<const SharedTree> tree, std::vector<Arena<float>> parts, Index begin, Index end) = 0;
  virtual void begin_sum(std::shared_ptr<const SharedTree> tree, std::vector<Arena<double>> parts, Index begin, Index end) = 0;
  // Throws RankFailed, or what this process's own part of the exchange failed with: out of memory, a message too large, MPI's errors. Then
  // the others know nothing yet: `fail`. So does `gather`.
  virtual void wait() = 0;

  // Each process's value, by rank.
  template <class T>
  std::vector<T> gather(const T& mine) {
    return gather_all<T>(std::span<const T>(&mine, 1));
  }
  // Each process's values, as many from each.
  template <class T>
  std::vector<T> gather_all(std::span<const T> mine) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::vector<T> all(mine.size() * static_cast<std::size_t>(ranks()));
    gather_bytes(std::as_bytes(mine), std::as_writable_bytes(std::span(all)));
    return all;
  }
  bool any(bool mine);

  // Tells the others that this process cannot go on, and why: whatever they wait for throws RankFailed. False when that could not be sent
  // within two seconds: they would wait for ever, and so would this one for them when it leaves.
  virtual bool fail(const std::string& why) = 0;
  // What is left then: ends all processes at once.
  virtual void end_all() = 0;
  // Leaves once all have come to this point.
  virtual void leave() = 0;

  virtual ExchangeStatistics statistics() const = 0;

 protected:
  virtual void gather_bytes(std::span<const std::byte> mine, std::span<std::byte> all) = 0;
};

// The number of threads that a process computes with unless it is told: the processors that it may use, shared with the other processes
// that mpirun started on this machine.
int standard_threads();

}  // namespace glassformer

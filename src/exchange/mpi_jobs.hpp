// What the exchange's thread is busy with: messages to and from all other processes, in rounds. A job's begin and step run on that thread
// alone.
#pragma once
#ifdef GLASSFORMER_HAVE_MPI
#define OMPI_SKIP_MPICXX 1  // the C interface only
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <vector>

#include "glassformer/core/arena.hpp"
#include "glassformer/exchange/tree.hpp"

namespace glassformer {

// Throws std::runtime_error with MPI's words unless the call succeeded.
void check_mpi(int code);

struct Peers {
  MPI_Comm comm = MPI_COMM_NULL;
  int rank = 0, ranks = 1;
};

class Job {
 public:
  Job(const Peers& peers, int tag) : peers_(peers), tag_(tag) {}
  virtual ~Job() = default;
  Job(const Job&) = delete;
  virtual void begin() = 0;
  // Goes on as far as the messages that have come allow. True when the job is done.
  bool step();
  // Adds the processes that something is still expected from.
  void add_missing(std::vector<int>& ranks);
  double sent_bytes() const { return sent_bytes_; }

 protected:
  virtual bool next_round() = 0;  // all messages of a round are through: begins the next; false when there is none
  void send(const void* data, Index count, MPI_Datatype, int to);
  void receive(void* data, Index count, MPI_Datatype, int from);
  Peers peers_;

 private:
  int tag_;
  double sent_bytes_ = 0;
  std::vector<MPI_Request> requests_;
  std::vector<int> sources_;  // of each request; −1: it sends
};

// One value of equal size from each process, in order of rank.
class GatherJob : public Job {
 public:
  GatherJob(const Peers&, int tag, std::span<const std::byte> mine);
  void begin() override;
  std::span<const std::byte> all() const { return all_; }

 protected:
  bool next_round() override { return false; }

 private:
  std::size_t bytes_;
  std::vector<std::byte> all_;
};

// A short text to all others, which look for it with a request that is always open.
class NoticeJob : public Job {
 public:
  static constexpr std::size_t kBytes = 1024;
  NoticeJob(const Peers&, std::string text);
  void begin() override;

 protected:
  bool next_round() override { return false; }

 private:
  std::string text_;
};

// Memory that jobs hand on to those of the same size. The sizes of a step's jobs come again in every step, so all together they never hold
// more than one step receives, however many of them are under way at once.
using Buffers = std::vector<std::vector<std::byte>>;

// The sum over all processes: exchange.hpp.
template <class S>
class SumJob : public Job {
 public:
  SumJob(const Peers&, int tag, std::shared_ptr<const SharedTree>, std::vector<Arena<S>> parts, Index begin, Index end, Buffers&);
  void begin() override;

 protected:
  bool next_round() override;

 private:
  std::span<S> segment(std::size_t part, int owner) const;  // what this process owns of one of the parts
  void add_up();

  std::shared_ptr<const SharedTree> tree_;
  std::vector<Arena<S>> parts_;
  Index begin_, count_;
  Buffers& buffers_;
  std::vector<std::byte> received_;
  std::vector<std::span<S>> pieces_;  // the own segment of each piece of each process
  int rounds_ = 0;
};

}  // namespace glassformer
#endif

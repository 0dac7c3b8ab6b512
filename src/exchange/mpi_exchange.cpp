#include "exchange/mpi_exchange.hpp"

#include <stdexcept>

#ifdef GLASSFORMER_HAVE_MPI
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <optional>
#include <thread>
#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include "exchange/mpi_jobs.hpp"
#include "glassformer/core/profile.hpp"
#include "glassformer/core/require.hpp"

namespace glassformer {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto kPause = 20us;     // between two looks at messages under way: the processor belongs to the backward pass
constexpr auto kIdle = 5ms;       // when nothing is under way: only a notice may come
constexpr auto kCheck = 50ms;     // between two looks whether the others still live
constexpr auto kFarewell = 2s;    // at most, for saying why this process gives up
constexpr auto kSilence = 500ms;  // mpirun kills about a second after it has asked to stop
constexpr int kTags = 1 << 15;    // as many as MPI promises; jobs under way are far fewer

// Who a process is, for the others. Process ids mean the same where machine and id space are the same. Two machines may have one name, and
// the first id space has the same number on all of them: the system's number of its start (boot_id) tells them apart.
struct Identity {
  char host[256] = "", boot[40] = "";
  std::uint64_t id_space = 0;
  int pid = 0;
  bool sees(const Identity& other) const {
    return id_space == other.id_space && std::string_view(host) == other.host && std::string_view(boot) == other.boot;
  }
};

Identity own_identity() {
  Identity self;
  ::gethostname(self.host, sizeof self.host - 1);
  std::ifstream("/proc/sys/kernel/random/boot_id").get(self.boot, sizeof self.boot);
  struct stat space {};
  if (::stat("/proc/self/ns/pid", &space) == 0) self.id_space = space.st_ino;
  self.pid = ::getpid();
  return self;
}

class MpiExchange final : public Exchange {
 public:
  MpiExchange(ExchangeEvents events, Launched launched) : events_(std::move(events)) {
    // OpenMPI would let one process read another's memory: when that one dies meanwhile, it ends this one without a word (unless the user wants it so).
    setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
    int provided = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);  // one thread calls MPI at a time: the exchange's own once it runs
    if (provided < MPI_THREAD_SERIALIZED)
      throw std::runtime_error("expected an MPI that a second thread may call, found one that forbids it");
    for (Peers* peers : {&work_, &notices_}) {
      MPI_Comm_dup(MPI_COMM_WORLD, &peers->comm);
      MPI_Comm_set_errhandler(peers->comm, MPI_ERRORS_RETURN);
      MPI_Comm_rank(peers->comm, &peers->rank);
      MPI_Comm_size(peers->comm, &peers->ranks);
    }
    if ((launched.ranks > 0 && launched.ranks != work_.ranks) || launched.rank != work_.rank) {
      const std::string expected = fmt::format("process {} of {} that were started together", launched.rank,
                                               launched.ranks > 0 ? std::to_string(launched.ranks) : "those");
      const int rank = work_.rank, ranks = work_.ranks;
      MPI_Finalize();
      throw std::runtime_error(fmt::format(
          "expected to be {}, found {} of {} by MPI: start it with the mpirun of the MPI that it was built with", expected, rank, ranks));
    }
    identities_.resize(static_cast<std::size_t>(work_.ranks));
    const Identity self = own_identity();
    check_mpi(MPI_Allgather(&self, sizeof self, MPI_BYTE, identities_.data(), sizeof self, MPI_BYTE, work_.comm));
    await_notice();
    thread_ = std::thread([this] { run(); });
  }

  ~MpiExchange() override {
    {
      const std::scoped_lock lock(guard_);
      stop_ = true;
    }
    wake_.notify_one();
    thread_.join();
    if (notice_ != MPI_REQUEST_NULL) {
      MPI_Cancel(&notice_);
      MPI_Request_free(&notice_);
    }
    MPI_Finalize();
  }

  int rank() const override { return work_.rank; }
  int ranks() const override { return work_.ranks; }
  std::string name(int rank) const override {
    return fmt::format("rank {} of {} ({})", rank, work_.ranks, identities_[static_cast<std::size_t>(rank)].host);
  }

  void begin_sum(std::shared_ptr<const SharedTree> tree, std::vector<Arena<float>> parts, Index begin, Index end) override {
    begin_sum_of<float>(std::move(tree), std::move(parts), begin, end);
  }
  void begin_sum(std::shared_ptr<const SharedTree> tree, std::vector<Arena<double>> parts, Index begin, Index end) override {
    begin_sum_of<double>(std::move(tree), std::move(parts), begin, end);
  }

  void wait() override {
    const Timed timed(Operation::exchange);
    const auto began = Clock::now();
    std::unique_lock lock(guard_);
    statistics_.early_bytes += statistics_.summed_bytes - waited_bytes_ - open_bytes_;
    done_.wait(lock, [&] { return open_jobs_ == 0 || failure_; });
    waited_bytes_ = statistics_.summed_bytes;
    statistics_.wait_seconds += std::chrono::duration<double>(Clock::now() - began).count();
    if (failure_) std::rethrow_exception(failure_);
  }

  bool fail(const std::string& why) override {
    try {
      // The others hear it with this process's name, which is the first thing to know.
      auto notice = std::make_shared<NoticeJob>(notices_, fmt::format("{}: {}", name(rank()), why));
      const std::weak_ptr<Job> under_way = notice;
      submit(std::move(notice), 0, true);
      std::unique_lock lock(guard_);
      done_.wait_for(lock, kFarewell, [&] { return under_way.expired() || heard_ || ended_; });
      if (!failure_) failure_ = std::make_exception_ptr(RankFailed(why));
      return under_way.expired() || heard_;  // who has sent this one a notice has sent it to all
    } catch (const std::exception&) {
      return false;
    }
  }

  void end_all() override { MPI_Abort(MPI_COMM_WORLD, 1); }

  void leave() override { any(false); }

  ExchangeStatistics statistics() const override {
    const std::scoped_lock lock(guard_);
    return statistics_;
  }

 protected:
  void gather_bytes(std::span<const std::byte> mine, std::span<std::byte> all) override {
    const Timed timed(Operation::exchange);
    const auto job = std::make_shared<GatherJob>(work_, next_tag(), mine);
    submit(job, 0);
    std::unique_lock lock(guard_);
    done_.wait(lock, [&] { return open_jobs_ == 0 || failure_; });
    if (failure_) std::rethrow_exception(failure_);
    std::ranges::copy(job->all(), all.begin());
  }

 private:
  struct Open {
    std::shared_ptr<Job> job;
    double bytes;  // of the numbers that it sums
    bool notice = false;
    bool begun = false;
  };

  int next_tag() { return tag_ = (tag_ + 1) % kTags; }

  template <class S>
  void begin_sum_of(std::shared_ptr<const SharedTree> tree, std::vector<Arena<S>> parts, Index begin, Index end) {
    if (begin == end) return;
    const Timed timed(Operation::exchange);
    submit(std::make_shared<SumJob<S>>(work_, next_tag(), std::move(tree), std::move(parts), begin, end, buffers_),
           static_cast<double>(end - begin) * sizeof(S));
  }

  void submit(std::shared_ptr<Job> job, double bytes, bool notice = false) {
    {
      const std::scoped_lock lock(guard_);
      queue_.push_back({std::move(job), bytes, notice});
      ++open_jobs_;
      open_bytes_ += bytes, statistics_.summed_bytes += bytes;
    }
    wake_.notify_one();
  }

  void await_notice() {
    text_.assign(NoticeJob::kBytes, '\0');
    check_mpi(MPI_Irecv(text_.data(), static_cast<int>(text_.size()), MPI_BYTE, MPI_ANY_SOURCE, 0, notices_.comm, &notice_));
  }

  void look_for_notice() {
    int done = 0, length = 0;
    MPI_Status status{};
    if (notice_ == MPI_REQUEST_NULL) return;
    check_mpi(MPI_Test(&notice_, &done, &status));
    if (!done) return;
    MPI_Get_count(&status, MPI_BYTE, &length);
    const std::scoped_lock lock(guard_);
    heard_ = true;
    if (!failure_) failure_ = std::make_exception_ptr(RankFailed(text_.substr(0, static_cast<std::size_t>(length))));
    done_.notify_all();
  }

  // What is under way has its memory to the process's end: MPI may write to it. Allocates nothing.
  void abandon() {
    static std::vector<Open> once, at_the_end;
    (once.empty() ? once : at_the_end) = std::move(active_);
    active_.clear();
  }

  // An exception of this thread's own. The first is left to the other thread, which tells all by `fail`: from now on only notices are sent.
  // False for a second one: then nothing can be.
  bool survives(std::exception_ptr error) {
    const std::scoped_lock lock(guard_);
    if (std::exchange(gives_up_, true)) return false;
    abandon();
    if (!failure_) failure_ = std::move(error);
    done_.notify_all();
    return true;
  }

  // Processes of this machine that have ended, and those that keep silent after this one was asked to stop.
  void check_others() {
    std::vector<int> gone;
    int first_left = -1;  // of this machine
    for (int rank = 0; rank < work_.ranks; ++rank) {
      const Identity& other = identities_[static_cast<std::size_t>(rank)];
      if (!identities_[static_cast<std::size_t>(work_.rank)].sees(other)) continue;
      if (::kill(other.pid, 0) != 0 && errno == ESRCH)
        gone.push_back(rank);
      else if (first_left < 0)
        first_left = rank;
    }
    if (!gone.empty() && events_.lost) events_.lost(gone, first_left == work_.rank);
    if (!events_.stopping || !events_.stopping()) return;
    const auto now = Clock::now();
    if (!stopping_since_) stopping_since_ = now;
    if (told_silence_ || now - *stopping_since_ < kSilence) return;
    std::vector<int> silent;
    for (const Open& open : active_) open.job->add_missing(silent);
    if (silent.empty()) return;
    told_silence_ = true;
    std::ranges::sort(silent);
    int first_heard = 0;
    while (std::ranges::find(silent, first_heard) != silent.end()) ++first_heard;
    if (events_.silent) events_.silent(silent, first_heard == work_.rank);
  }

  // Moves all jobs on; true when one of them has ended.
  bool work() {
    bool ended = false;
    for (Open& open : active_) {
      if (!open.begun) open.job->begin(), open.begun = true;
      if (!open.job->step()) continue;
      const std::scoped_lock lock(guard_);
      --open_jobs_, open_bytes_ -= open.bytes, statistics_.sent_bytes += open.bytes > 0 ? open.job->sent_bytes() : 0;
      open.job = nullptr;
      ended = true;
    }
    std::erase_if(active_, [](const Open& open) { return !open.job; });
    if (ended) done_.notify_all();
    return ended;
  }

  void run() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);  // signals are the first thread's
#if defined(__linux__)
    ::prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);  // ns: a pause is as long as it says
#endif
    auto checked = Clock::now();
    for (;;) {
      try {
        if (!take_jobs()) break;
        if (!work() && !active_.empty()) std::this_thread::sleep_for(kPause);
        look_for_notice();
        if (Clock::now() - checked > kCheck) {
          checked = Clock::now();
          check_others();
        }
      } catch (const std::exception&) {
        if (!survives(std::current_exception())) break;
      }
    }
    abandon();
    const std::scoped_lock lock(guard_);
    ended_ = true;
    done_.notify_all();
  }

  // Waits a while for something to do; false when there is nothing any more.
  bool take_jobs() {
    std::unique_lock lock(guard_);
    if (active_.empty() && queue_.empty()) wake_.wait_for(lock, kIdle, [&] { return stop_ || !queue_.empty(); });
    if (gives_up_) std::erase_if(queue_, [](const Open& open) { return !open.notice; });
    std::ranges::move(queue_, std::back_inserter(active_));
    queue_.clear();
    return !(stop_ && (failure_ || active_.empty()));
  }

  ExchangeEvents events_;
  Peers work_, notices_;
  std::vector<Identity> identities_;
  int tag_ = 0;
  double waited_bytes_ = 0;

  mutable std::mutex guard_;  // of what follows, up to the next comment
  std::condition_variable wake_, done_;
  std::vector<Open> queue_;
  int open_jobs_ = 0;
  double open_bytes_ = 0;
  ExchangeStatistics statistics_;
  std::exception_ptr failure_;         // for whoever waits
  bool heard_ = false;                 // another process's notice
  bool gives_up_ = false;              // this process's own part has failed
  bool stop_ = false, ended_ = false;  // the thread is to end; it has

  // The thread's own
  std::vector<Open> active_;
  Buffers buffers_;
  MPI_Request notice_ = MPI_REQUEST_NULL;
  std::string text_;
  std::optional<Clock::time_point> stopping_since_;
  bool told_silence_ = false;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Exchange> join_by_mpi(ExchangeEvents events, Launched launched) {
  return std::make_unique<MpiExchange>(std::move(events), launched);
}

}  // namespace glassformer

#else

namespace glassformer {

std::unique_ptr<Exchange> join_by_mpi(ExchangeEvents, Launched launched) {
  if (launched.ranks == 0 && launched.rank == 0) return nullptr;  // perhaps alone; if not, the others refuse
  throw std::runtime_error(
      "expected a program built with MPI to be started as one of several processes, found one built without: install libopenmpi-dev and "
      "openmpi-bin, and build again");
}

}  // namespace glassformer
#endif

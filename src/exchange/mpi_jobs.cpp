#include "exchange/mpi_jobs.hpp"

#ifdef GLASSFORMER_HAVE_MPI
#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "glassformer/core/require.hpp"

namespace glassformer {
namespace {

template <class S>
constexpr bool kIsFloat = std::is_same_v<S, float>;
template <class S>
MPI_Datatype datatype() {
  return kIsFloat<S> ? MPI_FLOAT : MPI_DOUBLE;
}

int checked_count(Index count) {
  require(count <= std::numeric_limits<int>::max(), "a message of {} numbers is more than MPI takes: give it more processes", count);
  return static_cast<int>(count);
}

}  // namespace

void check_mpi(int code) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw std::runtime_error(
      fmt::format("the exchange between processes failed: {}", std::string_view(text, static_cast<std::size_t>(length))));
}

bool Job::step() {
  for (;;) {
    int done = 0;
    check_mpi(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE));
    if (!done) return false;
    requests_.clear(), sources_.clear();
    if (!next_round()) return true;
  }
}

void Job::add_missing(std::vector<int>& ranks) {
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    int done = 0;
    if (sources_[i] >= 0) check_mpi(MPI_Test(&requests_[i], &done, MPI_STATUS_IGNORE));
    if (sources_[i] >= 0 && !done && std::ranges::find(ranks, sources_[i]) == ranks.end()) ranks.push_back(sources_[i]);
  }
}

void Job::send(const void* data, Index count, MPI_Datatype type, int to) {
  int size = 0;
  check_mpi(MPI_Type_size(type, &size));
  requests_.emplace_back(), sources_.push_back(-1);
  check_mpi(MPI_Isend(data, checked_count(count), type, to, tag_, peers_.comm, &requests_.back()));
  sent_bytes_ += static_cast<double>(count) * size;
}

void Job::receive(void* data, Index count, MPI_Datatype type, int from) {
  requests_.emplace_back(), sources_.push_back(from);
  check_mpi(MPI_Irecv(data, checked_count(count), type, from, tag_, peers_.comm, &requests_.back()));
}

GatherJob::GatherJob(const Peers& peers, int tag, std::span<const std::byte> mine)
    : Job(peers, tag), bytes_(mine.size()), all_(mine.size() * static_cast<std::size_t>(peers.ranks)) {
  std::ranges::copy(mine, all_.begin() + static_cast<std::ptrdiff_t>(bytes_ * static_cast<std::size_t>(peers.rank)));
}

void GatherJob::begin() {
  const auto at = [&](int rank) { return all_.data() + bytes_ * static_cast<std::size_t>(rank); };
  for (int rank = 0; rank < peers_.ranks; ++rank) {
    if (rank == peers_.rank) continue;
    receive(at(rank), static_cast<Index>(bytes_), MPI_BYTE, rank);
    send(at(peers_.rank), static_cast<Index>(bytes_), MPI_BYTE, rank);
  }
}

NoticeJob::NoticeJob(const Peers& peers, std::string text) : Job(peers, 0), text_(std::move(text)) {
  text_.resize(std::min(text_.size(), kBytes));
}

void NoticeJob::begin() {
  for (int rank = 0; rank < peers_.ranks; ++rank) {
    if (rank != peers_.rank) send(text_.data(), static_cast<Index>(text_.size()), MPI_BYTE, rank);
  }
}

template <class S>
SumJob<S>::SumJob(const Peers& peers, int tag, std::shared_ptr<const SharedTree> tree, std::vector<Arena<S>> parts, Index begin, Index end,
                  Buffers& buffers)
    : Job(peers, tag), tree_(std::move(tree)), parts_(std::move(parts)), begin_(begin), count_(end - begin), buffers_(buffers) {
  require(parts_.size() == tree_->pieces(peers.rank).size(), "expected {} sums of this process, found {}", tree_->pieces(peers.rank).size(),
          parts_.size());
  for (const Arena<S>& part : parts_)
    require(begin >= 0 && begin <= end && end <= part.layout().size(), "expected a part of [0, {}), found [{}, {})", part.layout().size(),
            begin, end);
}

template <class S>
std::span<S> SumJob<S>::segment(std::size_t part, int owner) const {
  const Index from = count_ * owner / peers_.ranks, to = count_ * (owner + 1) / peers_.ranks;
  return parts_[part].values().subspan(static_cast<std::size_t>(begin_ + from), static_cast<std::size_t>(to - from));
}

template <class S>
void SumJob<S>::begin() {
  const std::size_t length = segment(0, peers_.rank).size();
  std::size_t others = 0;
  for (int rank = 0; rank < peers_.ranks; ++rank) others += rank == peers_.rank ? 0 : tree_->pieces(rank).size();
  const std::size_t bytes = others * length * sizeof(S);
  if (const auto kept = std::ranges::find(buffers_, bytes, &std::vector<std::byte>::size); kept != buffers_.end()) {
    received_ = std::move(*kept);
    buffers_.erase(kept);
  }
  received_.resize(bytes);
  S* next = reinterpret_cast<S*>(received_.data());
  for (int rank = 0; rank < peers_.ranks; ++rank) {
    for (std::size_t part = 0; part < tree_->pieces(rank).size(); ++part) {
      if (rank == peers_.rank) {
        pieces_.push_back(segment(part, rank));
        continue;
      }
      pieces_.emplace_back(next, length);
      receive(next, static_cast<Index>(length), datatype<S>(), rank);
      next += length;
    }
  }
  for (int away = 1; away < peers_.ranks; ++away) {  // each begins with another one, or all would send to one at a time
    const int owner = (peers_.rank + away) % peers_.ranks;
    for (std::size_t part = 0; part < parts_.size(); ++part) {
      const std::span<S> theirs = segment(part, owner);
      send(theirs.data(), static_cast<Index>(theirs.size()), datatype<S>(), owner);
    }
  }
}

template <class S>
void SumJob<S>::add_up() {
  for (const auto& [sum, term] : tree_->additions()) add_to<S>(pieces_[sum], pieces_[term], 1);
  const std::span<S> own = segment(0, peers_.rank);
  if (own.data() != pieces_[0].data()) std::ranges::copy(pieces_[0], own.begin());
}

template <class S>
bool SumJob<S>::next_round() {
  if (rounds_++ == 1) {
    buffers_.push_back(std::move(received_));
    return false;
  }
  add_up();
  const std::span<S> own = segment(0, peers_.rank);
  for (int away = 1; away < peers_.ranks; ++away) {
    const int from = (peers_.rank + peers_.ranks - away) % peers_.ranks, to = (peers_.rank + away) % peers_.ranks;
    const std::span<S> theirs = segment(0, from);
    receive(theirs.data(), static_cast<Index>(theirs.size()), datatype<S>(), from);
    send(own.data(), static_cast<Index>(own.size()), datatype<S>(), to);
  }
  return true;
}

template class SumJob<float>;
template class SumJob<double>;

}  // namespace glassformer
#endif

#include "glassformer/exchange/exchange.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <stdexcept>
#include <string_view>
#if defined(__linux__)
#include <sched.h>
#include <unistd.h>
#endif

#include "exchange/mpi_exchange.hpp"

namespace glassformer {
namespace {

// The first of these variables of the environment that is a number.
int number_from_environment(std::initializer_list<const char*> names, int otherwise) {
  for (const char* name : names) {
    const char* text = std::getenv(name);
    int value = 0;
    if (text && std::from_chars(text, text + std::string_view(text).size(), value).ec == std::errc()) return value;
  }
  return otherwise;
}

// Processors that whoever started this process may use; mpirun binds each of its processes to some of them.
int threads_of_parent() {
#if defined(__linux__)
  cpu_set_t set;
  if (::sched_getaffinity(::getppid(), sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return available_threads();
}

}  // namespace

bool Exchange::any(bool mine) {
  const std::vector<char> all = gather<char>(mine);
  return std::ranges::any_of(all, [](char c) { return c != 0; });
}

// OpenMPI's mpirun and MPICH's say how many there are; a batch system's own launcher (PMIx) only which one this is.
std::unique_ptr<Exchange> Exchange::join(ExchangeEvents events) {
  const Launched launched{number_from_environment({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}, std::getenv("PMIX_RANK") ? 0 : 1),
                          number_from_environment({"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"}, 0)};
  if (launched.ranks == 1) return nullptr;
  return join_by_mpi(std::move(events), launched);
}

int standard_threads() {
  const int local = number_from_environment({"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"}, 1);
  return local <= 1 ? available_threads() : std::min(available_threads(), std::max(1, threads_of_parent() / local));
}

}  // namespace glassformer

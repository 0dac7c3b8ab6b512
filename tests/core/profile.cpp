// The profile's bookkeeping; nothing is timed but that time passed.
#include "glassformer/core/profile.hpp"

#include <doctest/doctest.h>

#include <thread>

using namespace glassformer;

namespace {

void pass_some_time() {
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < std::chrono::microseconds(200)) {
  }
}

}  // namespace

TEST_CASE("an operation within another counts for itself alone, and all together are the whole") {
  const auto start = std::chrono::steady_clock::now();
  Profile profile;
  {
    const Timed outer(Operation::loss);
    {
      const Timed inner(Operation::linear);
      pass_some_time();
    }
  }
  profile.stop();
  const double all = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  CHECK(profile.seconds(Operation::linear) >= 2e-4);
  CHECK(profile.seconds(Operation::loss) > 0);
  CHECK(profile.seconds(Operation::norm) == 0);
  CHECK(profile.seconds() <= all);
  const double parts = profile.seconds(Operation::linear) + profile.seconds(Operation::loss) + profile.seconds(Operation::rest);
  CHECK(parts == doctest::Approx(profile.seconds()).epsilon(1e-9));
}

TEST_CASE("nobody measures: no profile is touched; another thread's operations are its own") {
  { const Timed timed(Operation::norm); }
  Profile profile;
  std::thread([] {
    const Timed timed(Operation::norm);
    pass_some_time();
  }).join();
  CHECK_THROWS_AS(Profile{}, std::logic_error);
  profile.stop();
  const double before = profile.seconds();
  {
    const Timed timed(Operation::norm);
    pass_some_time();
  }
  CHECK(profile.seconds(Operation::norm) == 0);
  CHECK(profile.seconds() == before);
  Profile next;  // the first has stopped
}

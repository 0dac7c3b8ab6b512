// Objects that the tasks of a parallel loop take in turn: no more than run at once, so that each stays warm.
#pragma once
#include <memory>
#include <mutex>
#include <vector>

namespace glassformer::tokenizer {

template <class T>
class Pool {
 public:
  std::unique_ptr<T> take() {
    const std::scoped_lock lock(guard_);
    if (free_.empty()) return std::make_unique<T>();
    auto object = std::move(free_.back());
    free_.pop_back();
    return object;
  }
  void give(std::unique_ptr<T> object) {
    const std::scoped_lock lock(guard_);
    free_.push_back(std::move(object));
  }
  // All of them, when no task runs.
  const std::vector<std::unique_ptr<T>>& free() const { return free_; }

 private:
  std::mutex guard_;
  std::vector<std::unique_ptr<T>> free_;
};

}  // namespace glassformer::tokenizer

// A few threads for text: parsing, templates, tokenising, detokenising. Never an I/O thread, never
// a compute worker. Jobs run in the order of arrival.
#pragma once

#include <functional>
#include <memory>

namespace tidemill {

class TextPool {
 public:
  explicit TextPool(int num_threads);
  ~TextPool();  // runs what was posted, then joins

  // A job must not throw; what it needs, it owns.
  void post(std::function<void()> job);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tidemill

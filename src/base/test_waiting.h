// For tests: what another thread brings about soon, such as a figure that a loop publishes a turn
// after the answer.
#pragma once

#include <chrono>
#include <thread>

namespace tidemill {

// Whether the condition comes true within ten seconds. Asks again and again on the caller's thread.
template <typename Condition>
bool comes_true(const Condition& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace tidemill

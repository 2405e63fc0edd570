// For tests that run simulations: how many events, of which seeds, and what is said when a seed
// fails.
//
//   TIDEMILL_SIMULATION_SEED=N      runs that seed alone
//   TIDEMILL_SIMULATION_EVENTS=N    runs seeds until about so many events are there
#pragma once

#include <cstdint>
#include <optional>

namespace tidemill {

// Of the environment; nothing where it is not set or no number.
std::optional<uint64_t> simulation_number(const char* name);

// While it lives, a process that a CHECK, a sanitizer or a signal ends says on its way out which
// seed ran and how to run it again. One at a time.
class SeedInScope {
 public:
  SeedInScope(uint64_t seed, const char* test);
  SeedInScope(const SeedInScope&) = delete;
  SeedInScope& operator=(const SeedInScope&) = delete;
  ~SeedInScope();
  const char* words() const;  // what is said
};

}  // namespace tidemill

// Rounds of a measurement, each between two probes of the machine, and what they say together.
//
// The limit of a piece of work (design: kernels.md 1):
//   t_memory     = bytes / bandwidth
//   t_arithmetic = operations / rate, summed over parts that have rates of their own
//   t           >= max(t_memory, t_arithmetic)
// A share is that limit, by the probes beside the round, over the time that the round took: 1 is
// all that the machine can do. Machines breathe; shares do not (kernels.md 13).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace tidemill {

// Of a whole step, by what computes them: products of the layers, that of the head, attention.
struct Operations {
  double body = 0.0;
  double head = 0.0;
  double attention = 0.0;
};

// What the machine does per second. An operation is a multiplication or an addition. 0: not probed.
struct Rates {
  double bytes = 0.0;
  Operations operations;
};

// Whether two probes tell of the same state of the machine.
bool agree(const Rates& a, const Rates& b);
Rates mean_of(const Rates& a, const Rates& b);

struct Work {
  double tokens = 0.0;
  double bytes = 0.0;  // that must come from memory
  Operations operations;
};

struct Limit {
  double memory_seconds = 0.0;
  // Nothing: the rate of a part was not probed.
  std::optional<double> arithmetic_seconds;

  double seconds() const;
  bool bound_by_memory() const;
};

Limit limit_of(const Work& work, const Rates& rates);

struct Round {
  Work work;  // what was done in `seconds`
  double seconds = 0.0;
  int64_t calls = 1;       // steps or kernel calls in it
  double cpu_share = 1.0;  // processor time of this process, over `seconds` on each of its workers
  Rates before;
  Rates after;

  Rates rates() const { return mean_of(before, after); }
  bool steady() const { return agree(before, after); }
  Limit limit() const { return limit_of(work, rates()); }
};

// Below this somebody else had the core (kernels.md 13), or the program waited.
inline constexpr double kUndisturbedCpuShare = 0.97;

struct Spread {
  double min = 0.0;
  double median = 0.0;
  double max = 0.0;
};

// The greater of two in the middle. `values` is not empty.
Spread spread_of(std::vector<double> values);

// Of the steady rounds; when there is none, of all: `dropped_rounds` then says that none can be
// believed.
struct Figures {
  int64_t rounds = 0;            // all
  int64_t dropped_rounds = 0;    // not steady
  int64_t disturbed_rounds = 0;  // of those that are not dropped: below kUndisturbedCpuShare
  Spread tokens_per_second;
  Spread call_ms;
  Spread gb_per_second;                       // bytes of the work
  Spread gflop_per_second;                    // operations of the work, in 10^9
  Spread probe_gb_per_second;                 // what plain reads of memory got
  Operations probe_operations_per_second;     // medians; 0: not probed
  Spread share_of_memory;                     // t_memory over the time
  std::optional<Spread> share_of_arithmetic;  // t_arithmetic over the time
  Spread share;                               // the limit over the time
  bool bound_by_memory = true;                // in most rounds
  double cpu_share = 0.0;                     // median
};

// `rounds` is not empty.
Figures figures_of(const std::vector<Round>& rounds);

}  // namespace tidemill

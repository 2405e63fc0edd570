#include "measure/machine_probe.h"

#include <ctime>
#include <thread>
#include <utility>

#include "kernels/select.h"

namespace tidemill {
namespace {

double now(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace

PackedFormat attention_format(const ComputeTypes& types) {
  if (types.int8_cache) return PackedFormat::kInt8PerChannel;
  return types.floats == DType::kF32 ? PackedFormat::kF32 : PackedFormat::kBf16;
}

MachineProbe::MachineProbe(WorkerPool& workers, ArithmeticRate arithmetic)
    : workers_(workers),
      bandwidth_(select_kernels("auto"), workers),
      arithmetic_(std::move(arithmetic)) {}

void MachineProbe::set_model(const Model& model) {
  body_ = model.layers().front().down.format;
  head_ = model.head().format;
  attention_ = attention_format(model.compute_types());
}

// On a thread that stays on worker 0's core, as who computes steps does: one that shares a core
// with another worker would halve what it measures. It goes there inside a section, when whoever
// computes steps on that core already waits for its own.
Rates MachineProbe::measure() {
  Rates rates;
  std::thread([&] {
    workers_.run([&](Lane& lane) {
      if (lane.index() == 0) workers_.pin_caller();
    });
    rates = measure_here();
  }).join();
  return rates;
}

Rates MachineProbe::measure_here() {
  Rates rates{.bytes = bandwidth_.measure()};
  if (!arithmetic_) return rates;
  rates.operations.body = arithmetic_(body_);
  rates.operations.head = head_ == body_ ? rates.operations.body : arithmetic_(head_);
  rates.operations.attention =
      attention_ == body_ ? rates.operations.body : arithmetic_(attention_);
  return rates;
}

CpuClock::CpuClock()
    : wall_begin_(now(CLOCK_MONOTONIC)), cpu_begin_(now(CLOCK_PROCESS_CPUTIME_ID)) {}

double CpuClock::seconds() const { return now(CLOCK_MONOTONIC) - wall_begin_; }

double CpuClock::share(int threads) const {
  return (now(CLOCK_PROCESS_CPUTIME_ID) - cpu_begin_) / (seconds() * threads);
}

}  // namespace tidemill

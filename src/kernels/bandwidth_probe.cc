#include "kernels/bandwidth_probe.h"

#include <string.h>

#include <algorithm>
#include <atomic>
#include <chrono>

namespace tidemill {
namespace {

constexpr int64_t kGrain = 32 * 1024;  // what read_memory takes at a time: eight pages

}  // namespace

bool probes_agree(double a, double b) { return std::max(a, b) <= kMaxProbeRatio * std::min(a, b); }

BandwidthProbe::BandwidthProbe(const Kernels& kernels, WorkerPool& workers, int64_t bytes)
    : kernels_(kernels),
      workers_(workers),
      buffer_(kernels.allocate(static_cast<size_t>(bytes))),
      bytes_(bytes / kGrain * kGrain) {
  // Untouched pages all map to one page of zeros.
  workers_.run([this](Lane& lane) {
    const Range range = lane.share(bytes_, kGrain);
    memset(static_cast<char*>(buffer_.data()) + range.begin, 1, static_cast<size_t>(range.size()));
  });
}

double BandwidthProbe::measure() {
  using Clock = std::chrono::steady_clock;
  std::atomic<uint64_t> sum{0};  // used, so that the reads are made
  std::chrono::duration<double> seconds{};
  workers_.run([&](Lane& lane) {
    lane.meet();  // waiting for somebody else's section is not reading
    const auto begin = Clock::now();
    const Range range = lane.share(bytes_, kGrain);
    sum += kernels_.read_memory(static_cast<char*>(buffer_.data()) + range.begin, range.size());
    lane.meet();  // nor is waiting for our core while the next section has it
    if (lane.index() == 0) seconds = Clock::now() - begin;
  });
  return static_cast<double>(bytes_) / seconds.count();
}

}  // namespace tidemill

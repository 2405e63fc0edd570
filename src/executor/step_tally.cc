#include "executor/step_tally.h"

#include <algorithm>

#include "base/check.h"

namespace tidemill {
namespace {

constexpr std::chrono::seconds kShareInterval{1};

}  // namespace

StepTally::StepTally(const ReadLimits& limits, std::chrono::milliseconds log_interval, Time now)
    : limits_(limits), log_interval_(log_interval), next_share_(now), last_line_(now) {}

void StepTally::step(const StepPlan& plan, double seconds) {
  const StepWork work = plan.work();
  int64_t attended = 0;  // tokens; all of a chunk's rows go over the same keys
  for (const PlanRow& row : plan.rows) {
    const int64_t context = row.first_position + row.num_tokens;
    const int64_t seen = limits_.window + row.num_tokens - 1;
    attended += limits_.window > 0 ? std::min(context, seen) : context;
  }
  const auto bytes =
      static_cast<double>(limits_.weight_bytes) +
      static_cast<double>(attended) * static_cast<double>(limits_.kv_bytes_per_token);
  for (Sums* sums : {&of_second_, &of_interval_}) {
    sums->prompt_tokens += work.prompt_tokens;
    sums->decode_tokens += work.decode_tokens;
    sums->steps += 1.0;
    sums->seconds += seconds;
    sums->bytes += bytes;
  }
}

double StepTally::share_of(const Sums& sums) const {
  const double possible = limits_.bytes_per_second * sums.seconds;
  return possible > 0.0 ? sums.bytes / possible : 0.0;
}

std::optional<double> StepTally::read_share(Time now) {
  if (now < next_share_) return std::nullopt;
  const double share = share_of(of_second_);
  of_second_ = {};
  next_share_ = now + kShareInterval;
  return share;
}

std::string StepTally::line(Time now, const SchedulerCounts& counts) {
  if (log_interval_.count() == 0 || now - last_line_ < log_interval_) return "";
  const double seconds = std::chrono::duration<double>(now - last_line_).count();
  const Sums sums = of_interval_;
  of_interval_ = {};
  last_line_ = now;
  if (sums.steps == 0.0) return "";
  std::string line = format(
      "{:.1f} prompt and {:.1f} new tokens/s; {} running, {} waiting; {:.0f} % of the KV blocks in "
      "use; {:.0f} steps of {:.1f} ms, {:.0f} % of the time",
      sums.prompt_tokens / seconds, sums.decode_tokens / seconds, counts.running, counts.waiting,
      counts.total_blocks == 0 ? 0.0
                               : 100.0 * static_cast<double>(counts.held_blocks) /
                                     static_cast<double>(counts.total_blocks),
      sums.steps, 1e3 * sums.seconds / sums.steps, 100.0 * sums.seconds / seconds);
  if (limits_.bytes_per_second > 0.0) {
    line += format(", in which they read {:.0f} % of what the machine can", 100.0 * share_of(sums));
  }
  return line;
}

}  // namespace tidemill

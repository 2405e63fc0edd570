#include "measure/rounds.h"

#include <algorithm>
#include <functional>

#include "base/check.h"
#include "kernels/bandwidth_probe.h"

namespace tidemill {
namespace {

constexpr double Operations::*kParts[] = {&Operations::body, &Operations::head,
                                          &Operations::attention};

double sum_of(const Operations& operations) {
  return operations.body + operations.head + operations.attention;
}

bool is_disturbed(const Round& round) { return round.cpu_share < kUndisturbedCpuShare; }

Spread spread_over(const std::vector<Round>& rounds,
                   const std::function<double(const Round&)>& value) {
  std::vector<double> values;
  for (const Round& round : rounds) values.push_back(value(round));
  return spread_of(std::move(values));
}

std::optional<Spread> share_of_arithmetic(const std::vector<Round>& rounds) {
  std::vector<double> shares;
  for (const Round& round : rounds) {
    const Limit limit = round.limit();
    if (!limit.arithmetic_seconds) return std::nullopt;
    shares.push_back(*limit.arithmetic_seconds / round.seconds);
  }
  return spread_of(std::move(shares));
}

}  // namespace

bool agree(const Rates& a, const Rates& b) {
  bool all = probes_agree(a.bytes, b.bytes);
  for (const auto part : kParts) all &= probes_agree(a.operations.*part, b.operations.*part);
  return all;
}

Rates mean_of(const Rates& a, const Rates& b) {
  Rates mean{.bytes = (a.bytes + b.bytes) / 2.0};
  for (const auto part : kParts) {
    mean.operations.*part = (a.operations.*part + b.operations.*part) / 2.0;
  }
  return mean;
}

double Limit::seconds() const { return std::max(memory_seconds, arithmetic_seconds.value_or(0.0)); }

bool Limit::bound_by_memory() const { return memory_seconds >= arithmetic_seconds.value_or(0.0); }

Limit limit_of(const Work& work, const Rates& rates) {
  Limit limit{.memory_seconds = rates.bytes > 0.0 ? work.bytes / rates.bytes : 0.0};
  double arithmetic = 0.0;
  for (const auto part : kParts) {
    if (work.operations.*part == 0.0) continue;
    if (rates.operations.*part == 0.0) return limit;
    arithmetic += work.operations.*part / rates.operations.*part;
  }
  limit.arithmetic_seconds = arithmetic;
  return limit;
}

Spread spread_of(std::vector<double> values) {
  CHECK(!values.empty(), "the spread of no values");
  std::sort(values.begin(), values.end());
  return {values.front(), values[values.size() / 2], values.back()};
}

Figures figures_of(const std::vector<Round>& all) {
  std::vector<Round> rounds;
  std::copy_if(all.begin(), all.end(), std::back_inserter(rounds),
               [](const Round& round) { return round.steady(); });
  const auto dropped = static_cast<int64_t>(all.size() - rounds.size());
  if (rounds.empty()) rounds = all;
  const auto over = [&](const std::function<double(const Round&)>& value) {
    return spread_over(rounds, value);
  };
  Figures figures{
      .rounds = static_cast<int64_t>(all.size()),
      .dropped_rounds = dropped,
      .disturbed_rounds = std::count_if(rounds.begin(), rounds.end(), is_disturbed),
      .tokens_per_second = over([](const Round& r) { return r.work.tokens / r.seconds; }),
      .call_ms =
          over([](const Round& r) { return r.seconds * 1e3 / static_cast<double>(r.calls); }),
      .gb_per_second = over([](const Round& r) { return r.work.bytes / r.seconds * 1e-9; }),
      .gflop_per_second =
          over([](const Round& r) { return sum_of(r.work.operations) / r.seconds * 1e-9; }),
      .probe_gb_per_second = over([](const Round& r) { return r.rates().bytes * 1e-9; }),
      .share_of_memory = over([](const Round& r) { return r.limit().memory_seconds / r.seconds; }),
      .share_of_arithmetic = share_of_arithmetic(rounds),
      .share = over([](const Round& r) { return r.limit().seconds() / r.seconds; }),
      .cpu_share = over([](const Round& r) { return r.cpu_share; }).median};
  for (const auto part : kParts) {
    figures.probe_operations_per_second.*part =
        over([part](const Round& r) { return r.rates().operations.*part; }).median;
  }
  const auto by_memory = std::count_if(rounds.begin(), rounds.end(), [](const Round& round) {
    return round.limit().bound_by_memory();
  });
  figures.bound_by_memory = 2 * by_memory > static_cast<int64_t>(rounds.size());
  return figures;
}

}  // namespace tidemill

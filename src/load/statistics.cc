#include "load/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "base/option_table.h"

namespace tidemill {

double percentile(std::span<const double> sorted, double percent) {
  CHECK(!sorted.empty() && percent >= 0 && percent <= 100, "percentile {} of {} values", percent,
        sorted.size());
  const double place = percent / 100.0 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double part = place - static_cast<double>(below);
  return sorted[below] + (sorted[above] - sorted[below]) * part;
}

Summary summarize(std::vector<double> values, std::span<const double> percents) {
  Summary summary{.count = values.size()};
  summary.percentiles.assign(percents.size(), 0.0);
  if (values.empty()) return summary;
  std::sort(values.begin(), values.end());
  const auto count = static_cast<double>(values.size());
  summary.mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0.0;
  for (const double value : values) squares += (value - summary.mean) * (value - summary.mean);
  summary.std = std::sqrt(squares / count);
  summary.median = percentile(values, 50);
  summary.max = values.back();
  for (size_t i = 0; i < percents.size(); ++i) {
    summary.percentiles[i] = percentile(values, percents[i]);
  }
  return summary;
}

Result<std::vector<double>> parse_percents(std::string_view text, std::string_view field) {
  std::vector<double> percents;
  const std::string_view whole = text;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    double percent = 0.0;
    if (assign(&percent, between(0, 100), text.substr(0, comma))) {
      return Error{.kind = ErrorKind::kInvalidParameter,
                   .field = std::string(field),
                   .message = format("{} is {}; it must be numbers from 0 to 100, separated by "
                                     "commas, such as 50,90,99.",
                                     field, whole)};
    }
    percents.push_back(percent);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return percents;
}

}  // namespace tidemill

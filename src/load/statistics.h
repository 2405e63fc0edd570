// Mean, median, deviation and percentiles of measured values, as numpy has them.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tidemill {

// The value below which `percent` (0 to 100) of `sorted` lie, linearly between its neighbours
// (numpy.percentile, method "linear"). `sorted` is ascending and not empty.
double percentile(std::span<const double> sorted, double percent);

struct Summary {
  size_t count = 0;  // 0: nothing was measured, and all below is 0
  double mean = 0.0;
  double median = 0.0;
  double std = 0.0;  // of the population: divided by count
  double max = 0.0;
  std::vector<double> percentiles;  // one for each that was asked for
};

Summary summarize(std::vector<double> values, std::span<const double> percents);

// "50,90,99.9"; each from 0 to 100. The error names `field`.
Result<std::vector<double>> parse_percents(std::string_view text, std::string_view field);

}  // namespace tidemill

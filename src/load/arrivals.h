// When requests arrive in an open loop: the gaps are independent, with a gamma distribution.
#pragma once

#include <cstdint>
#include <random>

namespace tidemill {

// `rate` is the mean number per second. `burstiness` is the shape of the distribution: 1 makes the
// gaps exponential (a Poisson process), less makes bursts, more makes the gaps even. Equal seeds
// give equal arrivals in one build of the program.
class Arrivals {
 public:
  Arrivals(double rate, double burstiness, uint64_t seed);
  // Seconds from the begin to the next arrival; never falls.
  double next();

 private:
  std::mt19937_64 random_;
  std::gamma_distribution<double> gap_;
  double now_ = 0.0;
};

}  // namespace tidemill

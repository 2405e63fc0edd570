#include "load/arrivals.h"

#include "base/check.h"

namespace tidemill {

Arrivals::Arrivals(double rate, double burstiness, uint64_t seed)
    : random_(seed), gap_(burstiness, 1.0 / (rate * burstiness)) {
  CHECK(rate > 0 && burstiness > 0, "{} arrivals per second, burstiness {}", rate, burstiness);
}

double Arrivals::next() {
  now_ += gap_(random_);
  return now_;
}

}  // namespace tidemill

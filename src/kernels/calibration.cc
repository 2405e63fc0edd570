#include "kernels/calibration.h"

#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <optional>

#include "base/check.h"
#include "kernels/arithmetic_probe.h"
#include "kernels/element_bytes.h"
#include "kernels/kv_layout.h"
#include "kernels/quantized_rows.h"

namespace tidemill {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kReadGrain = 32 * 1024;     // what read_memory takes at a time
constexpr int64_t kInputs = 2048;             // of the products: rows of them stay in L2
constexpr int64_t kBytesPerWorker = 2 << 20;  // of a slice, at least: else meeting is what is timed
constexpr int64_t kLeastSlices = 4;           // what is read again has left the cache
constexpr double kProbeSeconds = 0.004;
// Between the best that was probed and the median: more means that somebody else was at work.
constexpr double kCalm = 1.15;
constexpr int kLeastRounds = 3;  // else a median says nothing
constexpr double kCpuShare = 0.97;
constexpr double kStrange = 3.0;
// Operations on floats that a group's sum takes on its way into a row: load, convert, two scales,
// add, store. Beside tiles they take longer than the products between them.
constexpr double kOperationsOfASum = 12.0;

constexpr PackedFormat kFormats[] = {PackedFormat::kF32,
                                     PackedFormat::kBf16,
                                     PackedFormat::kInt8PerChannel,
                                     {Numbers::kInt8, Offsets::kNone, 32},
                                     {Numbers::kInt8, Offsets::kNone, 128},
                                     {Numbers::kInt4, Offsets::kZero, 128},
                                     {Numbers::kInt4, Offsets::kZero, 64},
                                     {Numbers::kInt4, Offsets::kNone, 32}};
constexpr Numbers kAllNumbers[] = {Numbers::kF32, Numbers::kBf16, Numbers::kInt8, Numbers::kInt4};

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Weights in all of a byte of them: K without its padding, scales and offsets included in the
// bytes.
double weights_per_byte(const PackedFormat& format) {
  return static_cast<double>(kPanelChannels * kInputs) /
         static_cast<double>(panel_bytes(format, kInputs));
}

int64_t slice_bytes(const CalibrationOptions& options, int num_threads) {
  return std::max(options.slice_bytes, kBytesPerWorker * num_threads);
}

// The memory that is read, and the tensors around it.
class Bench {
 public:
  Bench(const Kernels& kernels, WorkerPool& workers, const CalibrationOptions& options)
      : kernels_(kernels),
        workers_(workers),
        slice_(slice_bytes(options, workers.num_threads())),
        num_slices_(arena_bytes(options, workers.num_threads()) / slice_),
        arena_(kernels.allocate(static_cast<size_t>(slice_ * num_slices_))),
        input_(kernels.allocate(kMostRows * kInputs * sizeof(float))),
        integers_(kernels.allocate(kMostRows * 2 * (kInputs + kInputs))),
        output_(kernels.allocate(kMostRows * sizeof(float) * most_channels())) {
    // Untouched pages all map to one page of zeros. Of these bytes every format makes numbers whose
    // products are neither infinite nor slower than others.
    workers.run([this](Lane& lane) {
      const Range range = lane.share(slice_ * num_slices_, kReadGrain);
      memset(at(range.begin), 1, static_cast<size_t>(range.size()));
    });
    memset(input_.data(), 0x3f, input_.bytes());
  }

  // Bytes per second of a slice's plain read by the first `num_lanes` workers.
  double read(int num_lanes) {
    const int64_t begin = next_slice();
    std::atomic<uint64_t> sum{0};  // used, so that the reads are made
    Clock::time_point start;
    workers_.run([&](Lane& lane) {
      lane.meet();  // waking the others is not reading
      if (lane.index() == 0) start = Clock::now();
      if (lane.index() >= num_lanes) return;
      const Range range =
          Lane::share_of(lane.index(), num_lanes, slice_ / kReadGrain * kReadGrain, kReadGrain);
      sum += kernels_.read_memory(at(begin + range.begin), range.size());
    });
    return static_cast<double>(slice_ / kReadGrain * kReadGrain) / seconds_since(start);
  }

  // Seconds per byte of weights.
  double product(const PackedFormat& format, int64_t rows) {
    const auto panel = static_cast<int64_t>(panel_bytes(format, kInputs));
    const PackedWeight weight{.format = format,
                              .n = slice_ / panel * kPanelChannels,
                              .k = kInputs,
                              .data = at(next_slice())};
    const Tensor in = input_of(weight, rows);
    const Tensor out{.data = output_.data(),
                     .rows = rows,
                     .cols = weight.n,
                     .stride = weight.n,
                     .type = DType::kF32};
    Clock::time_point start;
    workers_.run([&](Lane& lane) {
      lane.meet();
      if (lane.index() == 0) start = Clock::now();
      kernels_.matmul(lane, in, weight, Epilogue{}, out);
    });
    return seconds_since(start) / static_cast<double>(slice_ / panel * panel);
  }

 private:
  static constexpr int64_t kMostRows = kCalibratedRows.back();

  unsigned char* at(int64_t offset) { return static_cast<unsigned char*>(arena_.data()) + offset; }

  size_t most_channels() const {
    int64_t most = 0;
    for (const PackedFormat& format : kFormats) {
      const auto panel = static_cast<int64_t>(panel_bytes(format, kInputs));
      most = std::max(most, slice_ / panel * kPanelChannels);
    }
    return static_cast<size_t>(most);
  }

  int64_t next_slice() {
    cursor_ = (cursor_ + 1) % num_slices_;
    return cursor_ * slice_;
  }

  Tensor input_of(const PackedWeight& weight, int64_t rows) {
    const Tensor floats{
        .data = input_.data(),
        .rows = rows,
        .cols = kInputs,
        .stride = kInputs,
        .type = is_integer(weight.format) ? DType::kF32 : input_type(weight.format)};
    if (!is_integer(weight.format)) return floats;
    const QuantizedForm form = input_form(weight);
    const Tensor quantized{.data = integers_.data(),
                           .rows = rows,
                           .cols = kInputs,
                           .stride = quantized_run_bytes(form, kInputs),
                           .type = DType::kInt8,
                           .form = form};
    CHECK(static_cast<size_t>(rows * form.parts * quantized.stride) <= integers_.bytes(),
          "{} rows of {} bytes", rows, quantized.stride);
    workers_.run([&](Lane& lane) { kernels_.quantize(lane, floats, quantized); });
    return quantized;
  }

  const Kernels& kernels_;
  WorkerPool& workers_;
  const int64_t slice_;
  const int64_t num_slices_;
  int64_t cursor_ = 0;
  Buffer arena_;
  Buffer input_;
  Buffer integers_;
  Buffer output_;
};

// Of a kind of probe: whether what is used of them is near the best.
bool calm(const std::vector<double>& probes) {
  return *std::max_element(probes.begin(), probes.end()) <= kCalm * median(probes);
}

// A rate that can be, per worker: within three times of these.
struct Expected {
  double low, high;
  bool holds(double value) const { return value >= low / kStrange && value <= high * kStrange; }
};
constexpr Expected kReadByOne = {4e9, 60e9};
constexpr Expected kReadByAll = {4e9, 800e9};  // together
constexpr Expected kMultiplies[] = {{5e9, 250e9}, {5e9, 5e12}, {5e9, 10e12}, {5e9, 10e12}};
constexpr const char* kNames[] = {"f32", "bf16", "int8", "int4"};

// Index of the most rows whose time is known.
std::optional<size_t> most_rows(const ProductTimes& times) {
  for (size_t r = kCalibratedRows.size(); r-- > 0;) {
    if (times.seconds_per_byte[r] > 0.0) return r;
  }
  return std::nullopt;
}

// Between the two of kCalibratedRows that are nearest. 0: unknown.
double seconds_per_byte(const ProductTimes& times, int64_t rows) {
  const auto above = std::lower_bound(kCalibratedRows.begin(), kCalibratedRows.end(), rows);
  if (above == kCalibratedRows.end()) return 0.0;
  const auto at = static_cast<size_t>(above - kCalibratedRows.begin());
  const double high = times.seconds_per_byte[at];
  if (*above == rows || high <= 0.0) return high;
  const double low = times.seconds_per_byte[at - 1];
  if (low <= 0.0) return 0.0;
  const int64_t below = kCalibratedRows[at - 1];
  const double way = static_cast<double>(rows - below) / static_cast<double>(*above - below);
  return low + way * (high - low);
}

void keep_if(bool holds, double& value, Calibration& calibration, const std::string& what) {
  if (holds || value == 0.0) return;
  calibration.set_aside.push_back(
      format("{}: {:.3g} is not what a machine of today does; not used", what, value));
  value = 0.0;
}

}  // namespace

int64_t arena_bytes(const CalibrationOptions& options, int num_threads) {
  const int64_t slice = slice_bytes(options, num_threads);
  return std::max(kLeastSlices, options.arena_bytes / slice) * slice;
}

int64_t CalibrationOptions::default_arena_bytes() {
  const int64_t cache = std::max(0L, ::sysconf(_SC_LEVEL3_CACHE_SIZE));
  return std::clamp(2 * cache, int64_t{64} << 20, int64_t{256} << 20);
}

const ProductTimes* Calibration::nearest(const PackedFormat& format) const {
  const ProductTimes* nearest = nullptr;
  const auto distance = [&](const ProductTimes& times) {
    return std::abs(times.format.group - format.group);
  };
  for (const ProductTimes& times : products) {
    if (times.format.numbers != format.numbers || !most_rows(times)) continue;
    if (nearest == nullptr || distance(times) < distance(*nearest)) nearest = &times;
  }
  return nearest;
}

double Calibration::attainable(const PackedFormat& format) const {
  const double peak = multiplies[static_cast<size_t>(format.numbers)];
  const ProductTimes* nearest = this->nearest(format);
  if (nearest == nullptr) return peak;
  const size_t most = *most_rows(*nearest);
  const double rate = 2.0 * static_cast<double>(kCalibratedRows[most]) *
                      weights_per_byte(nearest->format) / nearest->seconds_per_byte[most];
  return peak > 0.0 ? std::min(rate, peak) : rate;
}

double seconds_per_token(const Calibration& calibration, std::span<const PackedWeight> weights) {
  double seconds = 0.0;
  for (const PackedWeight& weight : weights) {
    const double rate = calibration.attainable(weight.format);
    if (rate <= 0.0) return 0.0;
    seconds += 2.0 * static_cast<double>(weight.n * weight.k) *
               static_cast<double>(input_form(weight).parts) / rate;
  }
  return seconds;
}

double free_tokens(const Calibration& calibration, std::span<const PackedWeight> weights) {
  double bytes = 0.0;
  for (const PackedWeight& weight : weights) {
    bytes += static_cast<double>(packed_bytes(weight.format, weight.n, weight.k));
  }
  const double of_token = seconds_per_token(calibration, weights);
  if (calibration.read_by_all <= 0.0 || of_token <= 0.0) return 0.0;
  return bytes / calibration.read_by_all / of_token;
}

int32_t mixed_step_tokens(double free_tokens, double seconds_per_token) {
  constexpr double kSlow = 0.05;  // seconds of 128
  constexpr double kLong = 0.25;
  constexpr double kLongWhereNobodyKnows = 0.125;
  constexpr double kVeryLong = 0.5;  // of 64
  constexpr double kFew = 8.0;
  constexpr auto kBlock = static_cast<double>(kTokensPerBlock);
  const double of_128 = 128.0 * seconds_per_token;
  double least = 128.0;
  if (free_tokens == 0.0) {
    if (of_128 > kLongWhereNobodyKnows) least = 64.0;
  } else if (free_tokens < kBlock) {
    if (of_128 > kSlow) least = free_tokens < kFew ? 64.0 : 96.0;
  } else {
    least += kBlock;
  }
  if (of_128 > kLong) least = std::min(least, 64.0);
  if (of_128 / 2.0 > kVeryLong) least = 48.0;
  return static_cast<int32_t>(std::clamp(std::floor(free_tokens / kBlock) * kBlock, least, 512.0));
}

std::vector<double> product_growth(const Calibration& calibration,
                                   std::span<const PackedWeight> weights) {
  // Of a step of so many tokens; 0: unknown.
  const auto seconds = [&](int64_t tokens) {
    double sum = 0.0;
    for (const PackedWeight& weight : weights) {
      const ProductTimes* times = calibration.nearest(weight.format);
      if (times == nullptr) return 0.0;
      const double per_byte = seconds_per_byte(*times, tokens * input_form(weight).parts);
      if (per_byte <= 0.0) return 0.0;
      sum += per_byte * static_cast<double>(packed_bytes(weight.format, weight.n, weight.k));
    }
    return sum;
  };
  std::vector<double> growth;
  for (int64_t tokens = 1; tokens <= kCalibratedRows.back(); ++tokens) {
    const double of_these = seconds(tokens);
    if (of_these <= 0.0) break;
    growth.push_back(of_these);
  }
  if (growth.empty()) return growth;
  // More tokens never take less time. Where it was measured so, it was disturbed: the first counts
  // as the shortest, what follows as the longest until then.
  const double of_one = *std::min_element(growth.begin(), growth.end());
  growth.front() = of_one;
  double most = of_one;
  for (double& of_tokens : growth) {
    most = std::max(most, of_tokens);
    of_tokens = most / of_one;
  }
  return growth;
}

Calibration calibrate(const Kernels& kernels, WorkerPool& workers,
                      const CalibrationOptions& options) {
  Bench bench(kernels, workers, options);
  ArithmeticProbe arithmetic(kernels, workers, kProbeSeconds);
  const auto begin = Clock::now();
  std::vector<double> by_one, by_all, multiplies[4];
  std::vector<double> products[std::size(kFormats)][kCalibratedRows.size()];
  std::vector<double> cpu_shares;
  for (int round = 0; round < options.num_rounds; ++round) {
    if (round >= kLeastRounds && seconds_since(begin) > options.max_seconds) break;
    for (const Numbers numbers : kAllNumbers) {
      multiplies[static_cast<size_t>(numbers)].push_back(arithmetic.measure(numbers));
      cpu_shares.push_back(arithmetic.cpu_share());
    }
    by_one.push_back(bench.read(1));
    by_all.push_back(bench.read(workers.num_threads()));
    for (size_t f = 0; f < std::size(kFormats); ++f) {
      for (size_t r = 0; r < kCalibratedRows.size(); ++r) {
        products[f][r].push_back(bench.product(kFormats[f], kCalibratedRows[r]));
      }
    }
  }
  Calibration calibration{.read_by_one = median(by_one), .read_by_all = median(by_all)};
  calibration.disturbed = median(cpu_shares) < kCpuShare || !calm(by_all);
  for (size_t n = 0; n < 4; ++n) {
    calibration.multiplies[n] = median(multiplies[n]);
    calibration.disturbed = calibration.disturbed || !calm(multiplies[n]);
  }
  for (size_t f = 0; f < std::size(kFormats); ++f) {
    ProductTimes times{.format = kFormats[f]};
    for (size_t r = 0; r < kCalibratedRows.size(); ++r) {
      times.seconds_per_byte[r] = median(products[f][r]);
    }
    calibration.products.push_back(times);
  }
  set_strange_aside(calibration, workers.num_threads());
  return calibration;
}

void set_strange_aside(Calibration& calibration, int num_threads) {
  Calibration& c = calibration;
  keep_if(kReadByOne.holds(c.read_by_one), c.read_by_one, c, "bytes/s read by one worker");
  keep_if(kReadByAll.holds(c.read_by_all), c.read_by_all, c, "bytes/s read by all workers");
  for (size_t n = 0; n < 4; ++n) {
    keep_if(kMultiplies[n].holds(c.multiplies[n] / num_threads), c.multiplies[n], c,
            format("operations/s of {}", kNames[n]));
  }
  for (ProductTimes& times : c.products) {
    const double peak = c.multiplies[static_cast<size_t>(times.format.numbers)];
    for (size_t r = 0; r < kCalibratedRows.size(); ++r) {
      const auto rows = static_cast<double>(kCalibratedRows[r]);
      const double reading = c.read_by_all > 0.0 ? 1.0 / c.read_by_all : 0.0;
      const double weights = rows * weights_per_byte(times.format);  // of a byte, by all rows
      double computing = peak > 0.0 ? 2.0 * weights / peak : 0.0;
      if (times.format.group > 0 && c.multiplies[0] > 0.0) {
        computing += kOperationsOfASum * weights / times.format.group / c.multiplies[0];
      }
      const double limit = std::max(reading, computing);
      double& value = times.seconds_per_byte[r];
      const bool holds = limit == 0.0 || (value >= limit / kStrange && value <= limit * kStrange);
      keep_if(holds, value, c,
              format("seconds per byte of {} weights in groups of {}, {} rows",
                     kNames[static_cast<size_t>(times.format.numbers)], times.format.group, rows));
    }
  }
}

}  // namespace tidemill

// Products as a step makes them: weights from memory (all copies together are 1 GiB), one section,
// all workers. `of_read` is the share of a plain read of the same number of bytes, taken in the
// same seconds: the median of the rounds whose two probes agree (design: measuring honestly).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>

#include "kernels/bandwidth_probe.h"
#include "kernels/test_tensors.h"

namespace tidemill {
namespace {

constexpr int64_t kArenaBytes = int64_t{1} << 30;
constexpr int kRounds = 9;

// Probe and weights live as long as the program: a GiB each, touched once.
struct Bench {
  WorkerPool workers;
  const Kernels& reference = select_kernels("reference");
  BandwidthProbe probe{select_kernels("auto"), workers, kArenaBytes};
  Buffer arena = reference.allocate(kArenaBytes);
};

Bench& bench() {
  static Bench instance;
  return instance;
}

struct Shape {
  const char* name;
  int64_t n, k;
};
// SmolLM2-135M: gate and up together, down, head.
constexpr Shape kShapes[] = {
    {"gate_up", 3072, 576}, {"down", 576, 1536}, {"head", 49152, 576}, {"7b_down", 4096, 11008}};

// Copies of one weight, one behind the other; the first panel's bytes are repeated.
std::vector<PackedWeight> fill_arena(const PackedFormat& format, const Shape& shape) {
  test::Random random(1);
  const size_t panel = panel_bytes(format, shape.k);
  auto* data = static_cast<unsigned char*>(bench().arena.data());
  if (is_integer(format)) {
    const test::OwnedIntegers weight(format, kPanelChannels, shape.k, random);
    std::memcpy(data, weight.view().data, panel);
  } else {
    std::vector<float> rows(static_cast<size_t>(kPanelChannels * shape.k));
    for (float& value : rows) value = test::uniform(random);
    pack_panel(format, shape.k, rows.data(), kPanelChannels, data);
  }
  const size_t bytes = (packed_bytes(format, shape.n, shape.k) + 4095) / 4096 * 4096;
  const size_t copies = static_cast<size_t>(kArenaBytes) / bytes;
  for (size_t at = panel; at + panel <= copies * bytes; at += panel) {
    std::memcpy(data + at, data, panel);
  }
  std::vector<PackedWeight> weights;
  for (size_t i = 0; i < copies; ++i) {
    weights.push_back({.format = format, .n = shape.n, .k = shape.k, .data = data + i * bytes});
  }
  return weights;
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void product(benchmark::State& state, const Kernels& kernels, const PackedFormat& format,
             const Shape& shape, int64_t rows) {
  const std::vector<PackedWeight> weights = fill_arena(format, shape);
  const bool integer = is_integer(format);
  test::OwnedTensor floats(integer ? DType::kF32 : input_type(format), rows, shape.k);
  test::Random random(2);
  test::randomize(floats, random);
  std::optional<test::OwnedQuantized> integers;
  if (integer) integers.emplace(kernels, floats, input_form(weights.front()));
  const Tensor in = integer ? integers->view() : floats.view();
  const test::OwnedTensor out(DType::kF32, rows, shape.n);
  const double bytes = static_cast<double>(packed_bytes(format, shape.n, shape.k)) *
                       static_cast<double>(weights.size());
  const double flops =
      2.0 * static_cast<double>(rows * shape.n * shape.k) * static_cast<double>(weights.size());
  std::vector<double> ratios;
  double best = 0.0;  // seconds
  double dropped = 0.0;
  double before = bench().probe.measure();
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    bench().workers.run([&](Lane& lane) {
      for (const PackedWeight& weight : weights) {
        kernels.matmul(lane, in, weight, Epilogue{}, out.view());
      }
    });
    const double seconds = seconds_since(begin);
    state.SetIterationTime(seconds);
    const double after = bench().probe.measure();
    best = best == 0.0 ? seconds : std::min(best, seconds);
    if (!probes_agree(before, after)) {
      ++dropped;
    } else {
      ratios.push_back(bytes / seconds / (0.5 * (before + after)));
    }
    before = after;
  }
  std::sort(ratios.begin(), ratios.end());
  state.counters["of_read"] = ratios.empty() ? 0.0 : ratios[ratios.size() / 2];
  state.counters["GB/s"] = bytes / best * 1e-9;
  state.counters["GFLOP/s"] = flops / best * 1e-9;
  state.counters["probe_GB/s"] = before * 1e-9;
  state.counters["dropped"] = dropped;
}

constexpr PackedFormat kFormats[] = {PackedFormat::kF32,
                                     PackedFormat::kBf16,
                                     PackedFormat::kInt8PerChannel,
                                     {Numbers::kInt8, Offsets::kNone, 128},
                                     {Numbers::kInt8, Offsets::kNone, 32},
                                     {Numbers::kInt4, Offsets::kZero, 128},
                                     {Numbers::kInt4, Offsets::kOffset, 32},
                                     {Numbers::kInt4, Offsets::kNone, 32}};

// One for each variant but the yardstick, format, shape and number of rows.
const int kRegistered = [] {
  for (const Kernels* kernels : runnable_variants()) {
    if (std::string(kernels->name) == "reference") continue;
    for (const PackedFormat& format : kFormats) {
      for (const Shape& shape : kShapes) {
        for (const int64_t rows : {1, 4, 8, 16, 64, 256}) {
          const std::string name = std::string("product/") + kernels->name + "/" +
                                   test::label(format) + "/" + shape.name +
                                   "/rows:" + std::to_string(rows);
          benchmark::RegisterBenchmark(
              name.c_str(),
              [=](benchmark::State& state) { product(state, *kernels, format, shape, rows); })
              ->UseManualTime()
              ->Iterations(kRounds)
              ->Unit(benchmark::kMillisecond);
        }
      }
    }
  }
  return 0;
}();

}  // namespace
}  // namespace tidemill

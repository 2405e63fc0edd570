// Attention as a step makes it: many layers one behind the other, one section, all workers. Decode
// is judged by a plain read of memory (`of_read`: keys and values once each), prefill by products
// from L1 with the same instruction (`of_multiply`: four operations for each dim of each query and
// key that it attends to). Both probes are taken in the same seconds: medians of the rounds whose
// probes before and after agree (design: measuring honestly).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <string>

#include "kernels/arithmetic_probe.h"
#include "kernels/bandwidth_probe.h"
#include "kernels/test_tensors.h"

namespace tidemill {
namespace {

constexpr int64_t kArenaBytes = int64_t{1} << 29;
constexpr int kRounds = 9;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Probe and blocks live as long as the program.
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

struct Case {
  std::string name;
  const Kernels* kernels;
  DType type;
  int64_t head_dim, num_heads, num_kv_heads;
  int64_t num_sequences;
  int64_t first;       // position of each sequence's first row
  int64_t rows;        // of each sequence
  int64_t shared = 0;  // positions in blocks that all sequences have in common
  bool shuffled = true;
};

// Rows, tables and layers of a case.
class Step {
 public:
  explicit Step(const Case& c)
      : shape_{.num_heads = c.num_heads,
               .num_kv_heads = c.num_kv_heads,
               .head_dim = c.head_dim,
               .scale = 0.1f},
        q_(type_of(c), c.num_sequences * c.rows, c.num_heads * c.head_dim),
        out_(type_of(c), c.num_sequences * c.rows, c.num_heads * c.head_dim) {
    test::Random random(3);
    test::randomize(q_, random);
    const auto block_bytes =
        static_cast<int64_t>(kv_block_bytes(c.type, c.num_kv_heads, c.head_dim));
    const int64_t table = (c.first + c.rows - 1) / kTokensPerBlock + 1;
    const int64_t shared = c.shared / kTokensPerBlock;
    const int64_t layer_blocks = shared + c.num_sequences * (table - shared);
    std::vector<int32_t> ids(static_cast<size_t>(layer_blocks));
    std::iota(ids.begin(), ids.end(), 0);
    if (c.shuffled) std::shuffle(ids.begin(), ids.end(), random);
    for (int64_t s = 0; s < c.num_sequences; ++s) {
      for (int64_t row = 0; row < c.rows; ++row) {
        positions_.push_back(static_cast<int32_t>(c.first + row));
        table_begins_.push_back(static_cast<int32_t>(s * table));
        pairs_ += c.first + row + 1;
      }
      for (int64_t b = 0; b < table; ++b) {
        block_ids_.push_back(ids[static_cast<size_t>(b < shared ? b : b + s * (table - shared))]);
      }
    }
    const auto layer_bytes =
        static_cast<int64_t>(kv_layer_bytes(c.type, c.num_kv_heads, c.head_dim, layer_blocks));
    auto* data = static_cast<unsigned char*>(bench().arena.data());
    fill(c, data, std::min(kArenaBytes, 64 * layer_bytes), random);
    const int64_t layers = std::clamp<int64_t>(kArenaBytes / layer_bytes, 1, 64);
    for (int64_t i = 0; i < layers; ++i) {
      layers_.push_back(kv_layer(data + i * layer_bytes, c.type, c.num_kv_heads, c.head_dim));
    }
    bytes_ = static_cast<double>(layers * layer_blocks * block_bytes);
    operations_ = 4.0 * static_cast<double>(layers * pairs_ * c.num_heads * c.head_dim);
    memory_ = bench().reference.allocate(
        static_cast<size_t>(attention_memory_bytes(shape_, rows().count, c.first + c.rows)));
  }

  void run(const Kernels& kernels) {
    const AttentionMemory memory{memory_.data(), static_cast<int64_t>(memory_.bytes())};
    bench().workers.run([&](Lane& lane) {
      kernels.plan_attention(lane, shape_, rows(), memory);
      for (const KvLayer& layer : layers_) {
        kernels.attention(lane, q_.view(), shape_, rows(), layer, memory, out_.view());
      }
    });
  }
  double bytes() const { return bytes_; }
  double operations() const { return operations_; }

 private:
  // Of queries and of what comes out.
  static DType type_of(const Case& c) { return c.type == DType::kInt8 ? DType::kF32 : c.type; }
  // Numbers below 2, whatever the type; integers have small scales among them, which are bf16, too.
  static void fill(const Case& c, unsigned char* data, int64_t bytes, test::Random& random) {
    for (int64_t at = 0; at < bytes; at += 4) {
      const uint32_t bits = static_cast<uint32_t>(random());
      const uint32_t value = c.type == DType::kF32 ? (bits & 0x007fffffu) | 0x3f000000u
                                                   : (bits & 0x007f007fu) | 0x3f003f00u;
      std::memcpy(data + at, &value, sizeof value);
    }
  }
  TokenRows rows() const {
    return {.count = static_cast<int64_t>(positions_.size()),
            .positions = positions_.data(),
            .table_begins = table_begins_.data(),
            .block_ids = block_ids_.data()};
  }

  AttentionShape shape_;
  test::OwnedTensor q_, out_;
  std::vector<int32_t> positions_, table_begins_, block_ids_;
  std::vector<KvLayer> layers_;
  Buffer memory_;
  int64_t pairs_ = 0;  // of query and key, for one head
  double bytes_ = 0.0;
  double operations_ = 0.0;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0.0 : values[values.size() / 2];
}

void attention(benchmark::State& state, const Case& c) {
  Step step(c);
  ArithmeticProbe arithmetic(*c.kernels, bench().workers);
  // Of int8, too: it multiplies pairs of 16 bits, as many at once.
  const auto probes = [&] {
    return std::pair{bench().probe.measure(),
                     arithmetic.measure(c.type == DType::kF32 ? Numbers::kF32 : Numbers::kBf16)};
  };
  const auto disturbed = [](double a, double b) { return std::max(a, b) > 1.15 * std::min(a, b); };
  std::vector<double> of_read, of_multiply;
  double best = 0.0;  // seconds
  double dropped = 0.0;
  auto before = probes();
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    step.run(*c.kernels);
    const double seconds = seconds_since(begin);
    state.SetIterationTime(seconds);
    const auto after = probes();
    best = best == 0.0 ? seconds : std::min(best, seconds);
    if (disturbed(before.first, after.first) || disturbed(before.second, after.second)) {
      ++dropped;
    } else {
      of_read.push_back(step.bytes() / seconds / (0.5 * (before.first + after.first)));
      of_multiply.push_back(step.operations() / seconds / (0.5 * (before.second + after.second)));
    }
    before = after;
  }
  state.counters["of_read"] = median(of_read);
  state.counters["of_multiply"] = median(of_multiply);
  state.counters["GB/s"] = step.bytes() / best * 1e-9;
  state.counters["GFLOP/s"] = step.operations() / best * 1e-9;
  state.counters["probe_GB/s"] = before.first * 1e-9;
  state.counters["probe_GFLOP/s"] = before.second * 1e-9;
  state.counters["dropped"] = dropped;
}

std::vector<Case> cases_of(const Kernels& kernels, DType type) {
  struct Heads {
    const char* name;
    int64_t head_dim, num_heads, num_kv_heads;
  };
  constexpr Heads kHeads[] = {
      {"64:9/3", 64, 9, 3}, {"128:32/8", 128, 32, 8}, {"128:8/8", 128, 8, 8}};
  const std::string variant = test::label(kernels) + "/" + name_of(type) + "/";
  std::vector<Case> cases;
  for (const Heads& h : kHeads) {
    const auto add = [&](const std::string& name, const Case& work) {
      Case c = work;
      c.name = "attention/" + variant + h.name + name;
      c.kernels = &kernels;
      c.type = type;
      c.head_dim = h.head_dim;
      c.num_heads = h.num_heads;
      c.num_kv_heads = h.num_kv_heads;
      cases.push_back(c);
    };
    const auto decode = [](int64_t sequences, int64_t context, int64_t shared, bool shuffled) {
      return Case{.num_sequences = sequences,
                  .first = context - 1,
                  .rows = 1,
                  .shared = shared,
                  .shuffled = shuffled};
    };
    add("/decode/shuffled", decode(16, 1024, 0, true));
    add("/decode/runs", decode(16, 1024, 0, false));
    add("/decode/alone", decode(1, 4096, 0, true));
    add("/decode/prefix_of_768", decode(16, 1024, 768, true));
    add("/prefill/0-512", {.num_sequences = 1, .first = 0, .rows = 512});
    add("/prefill/1536-2048", {.num_sequences = 1, .first = 1536, .rows = 512});
  }
  return cases;
}

const int kRegistered = [] {
  for (const Kernels* kernels : runnable_implementations()) {
    if (std::string(kernels->name) == "reference") continue;
    for (const DType type : {DType::kBf16, DType::kInt8, DType::kF32}) {
      for (const Case& c : cases_of(*kernels, type)) {
        benchmark::RegisterBenchmark(c.name.c_str(),
                                     [c](benchmark::State& state) { attention(state, c); })
            ->UseManualTime()
            ->Iterations(kRounds)
            ->Unit(benchmark::kMillisecond);
      }
    }
  }
  return 0;
}();

}  // namespace
}  // namespace tidemill

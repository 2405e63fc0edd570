#include "measure/kernel_table.h"

#include <algorithm>
#include <atomic>
#include <random>

#include "kernels/element_bytes.h"
#include "kernels/quantized_rows.h"
#include "measure/attention_case.h"
#include "measure/kernel_inputs.h"
#include "sampling/sampler.h"

namespace tidemill {
namespace {

constexpr int64_t kProductRows[] = {1, 4, 16, 64, 256};
constexpr int64_t kSmallRows[] = {1, 16, 64};
// Of decode steps whose rest is told (design: the table of targets), and how far they have come.
constexpr int64_t kStepRows[] = {1, 16};
constexpr int64_t kStepContext = 512;
constexpr int64_t kDrawnTokens = 1 << 14;
constexpr int64_t kMostCalls = int64_t{1} << 20;

// One kind of product of the network: the weights of all layers, and what happens behind it.
struct Product {
  const char* name;
  std::vector<PackedWeight> weights;
  const float* bias = nullptr;
  bool adds_residual = false;
  bool silu_times_up = false;
  bool gives_logits = false;
  double Operations::*part = &Operations::body;
};

std::vector<Product> products_of(const Model& model) {
  std::vector<Product> products{{.name = "qkv", .bias = model.layers().front().qkv_bias},
                                {.name = "output", .adds_residual = true},
                                {.name = "gate_up", .silu_times_up = true},
                                {.name = "down", .adds_residual = true},
                                {.name = "head", .gives_logits = true, .part = &Operations::head}};
  for (const LayerWeights& layer : model.layers()) {
    products[0].weights.push_back(layer.qkv);
    products[1].weights.push_back(layer.output);
    products[2].weights.push_back(layer.gate_up);
    products[3].weights.push_back(layer.down);
  }
  products[4].weights.push_back(model.head());
  return products;
}

class Table {
 public:
  Table(const Kernels& kernels, const Model& model, WorkerPool& workers, MachineProbe& probe,
        const KernelTableOptions& options, const std::function<void(const KernelLine&)>& show)
      : kernels_(kernels),
        model_(model),
        workers_(workers),
        probe_(probe),
        options_(options),
        show_to_(show),
        arena_(kernels.allocate(static_cast<size_t>(arena_bytes()))) {}

  void products();
  void attention(int64_t sequences, int64_t context);
  void workers();
  void embedding();
  void around_attention();
  void norms();
  void roundings();
  void sampling(const char* name, const SamplingParams& params);
  std::vector<StepRest> rests() const;

 private:
  void show(const KernelLine& line) {
    lines_.push_back(line);
    show_to_(line);
  }
  // What works in caches: a time and no limit.
  void timed(KernelLine line, const std::function<void(int64_t calls)>& run);
  // `run` makes one call, in a section.
  void timed_in_section(const KernelLine& line, const std::function<void(Lane& lane)>& run);
  void norm(const char* name, const float* scale, const PackedWeight& next, int64_t rows);
  void rounding(const char* name, const PackedWeight& next, int64_t rows);
  int64_t step_context() const {
    return std::min(kStepContext, model_.architecture().max_positions);
  }
  // The largest weight has to fit, too, and a layer of the step whose rest is told.
  int64_t arena_bytes() const {
    const PackedWeight& head = model_.head();
    return std::max({options_.arena_bytes,
                     static_cast<int64_t>(packed_bytes(head.format, head.n, head.k)),
                     AttentionCase::layer_bytes(model_, kStepRows[1], step_context())});
  }
  void product(const Product& product, const std::vector<PackedWeight>& weights, int64_t rows);
  // `run(calls)` makes so many calls; `work` is that of one.
  Figures between_probes(const Work& work, const std::function<void(int64_t calls)>& run);
  int64_t calls_of_a_round(const std::function<void(int64_t calls)>& run) const;

  const Kernels& kernels_;
  const Model& model_;
  WorkerPool& workers_;
  MachineProbe& probe_;
  const KernelTableOptions options_;
  const std::function<void(const KernelLine&)>& show_to_;
  std::vector<KernelLine> lines_;
  Buffer arena_;
  std::mt19937_64 random_{1};
};

int64_t Table::calls_of_a_round(const std::function<void(int64_t calls)>& run) const {
  for (int64_t calls = 1;; calls *= 4) {
    const CpuClock clock;
    run(calls);
    const double seconds = std::max(clock.seconds(), 1e-9);
    if (seconds < options_.round_seconds / 8.0 && calls < kMostCalls) continue;
    const double wanted = static_cast<double>(calls) * options_.round_seconds / seconds;
    return std::max<int64_t>(1, static_cast<int64_t>(wanted));
  }
}

Figures Table::between_probes(const Work& work, const std::function<void(int64_t calls)>& run) {
  const int64_t calls = calls_of_a_round(run);
  const auto times = static_cast<double>(calls);
  const Work of_round{.tokens = work.tokens * times,
                      .bytes = work.bytes * times,
                      .operations = {.body = work.operations.body * times,
                                     .head = work.operations.head * times,
                                     .attention = work.operations.attention * times}};
  std::vector<Round> rounds;
  const CpuClock whole;
  Rates before = probe_.measure();
  for (int i = 0; i < kMaxRounds; ++i) {
    if (i >= kMinRounds && whole.seconds() > options_.line_seconds) break;
    Round round{.work = of_round, .calls = calls, .before = before};
    const CpuClock clock;
    run(calls);
    round.seconds = clock.seconds();
    round.cpu_share = clock.share(workers_.num_threads());
    before = round.after = probe_.measure();
    rounds.push_back(round);
  }
  return figures_of(rounds);
}

void Table::products() {
  for (const Product& each : products_of(model_)) {
    const std::vector<PackedWeight> weights = copy_in_turn(each.weights, arena_);
    for (const int64_t rows : kProductRows) product(each, weights, rows);
  }
}

void Table::product(const Product& product, const std::vector<PackedWeight>& weights,
                    int64_t rows) {
  const PackedWeight& first = weights.front();
  const OwnedRows in = OwnedRows::inputs_of(kernels_, first, rows, workers_, random_);
  // What the down projection reads, where this makes it; else f32.
  const bool integers = model_.compute_types().integer_parts > 0;
  const DType type =
      product.silu_times_up && !integers ? model_.compute_types().floats : DType::kF32;
  const OwnedRows out(kernels_, type, rows, product.silu_times_up ? first.n / 2 : first.n, random_);
  const OwnedRows maxima(kernels_, DType::kF32, rows, num_logit_chunks(first.n), random_);
  const Epilogue epilogue{.bias = product.bias,
                          .residual = product.adds_residual ? &out.view() : nullptr,
                          .silu_times_up = product.silu_times_up,
                          .chunk_maxima = product.gives_logits ? &maxima.view() : nullptr};
  Work work{.tokens = static_cast<double>(rows),
            .bytes = static_cast<double>(packed_bytes(first.format, first.n, first.k))};
  work.operations.*product.part =
      2.0 * static_cast<double>(rows * first.n * first.k * input_form(first).parts);
  size_t next = 0;
  const Figures figures = between_probes(work, [&](int64_t calls) {
    workers_.run([&](Lane& lane) {
      for (int64_t i = 0; i < calls; ++i) {
        const PackedWeight& weight = weights[(next + static_cast<size_t>(i)) % weights.size()];
        kernels_.matmul(lane, in.view(), weight, epilogue, out.view());
      }
    });
    next = (next + static_cast<size_t>(calls)) % weights.size();
  });
  show({.kernel = product.name, .format = name_of(first.format), .rows = rows, .figures = figures});
}

void Table::attention(int64_t sequences, int64_t context) {
  if (context > model_.architecture().max_positions) return;
  const int64_t bytes = AttentionCase::layer_bytes(model_, sequences, context);
  if (bytes > static_cast<int64_t>(arena_.bytes())) return;
  AttentionCase step(kernels_, model_, sequences, context, arena_, random_);
  const Work work{.tokens = static_cast<double>(sequences),
                  .bytes = step.bytes(),
                  .operations = {.attention = step.operations()}};
  const Figures figures =
      between_probes(work, [&](int64_t calls) { step.run(kernels_, workers_, calls); });
  show({.kernel = "attention",
        .format = name_of(model_.compute_types().cache()),
        .rows = sequences,
        .context = context,
        .figures = figures});
}

void Table::timed(KernelLine line, const std::function<void(int64_t calls)>& run) {
  line.figures = between_probes({.tokens = static_cast<double>(line.rows)}, run);
  line.has_limit = false;
  show(line);
}

void Table::timed_in_section(const KernelLine& line, const std::function<void(Lane& lane)>& run) {
  timed(line, [&](int64_t calls) {
    workers_.run([&](Lane& lane) {
      for (int64_t i = 0; i < calls; ++i) run(lane);
    });
  });
}

void Table::workers() {
  const int64_t count = workers_.num_threads();
  timed({.kernel = "section", .rows = count}, [&](int64_t calls) {
    for (int64_t i = 0; i < calls; ++i) workers_.run([](Lane&) {});
  });
  timed({.kernel = "barrier", .rows = count}, [&](int64_t calls) {
    workers_.run([&](Lane& lane) {
      for (int64_t i = 0; i < calls; ++i) lane.meet();
    });
  });
}

// Rows of the table as tokens come: from cache, or from memory where the table is larger.
void Table::embedding() {
  const PackedWeight& weight = model_.embedding();
  std::vector<int32_t> ids(kDrawnTokens);
  for (int32_t& id : ids) {
    id = static_cast<int32_t>(random_() % static_cast<uint64_t>(model_.architecture().vocab_size));
  }
  for (const int64_t rows : kStepRows) {
    const OwnedRows out(kernels_, DType::kF32, rows, weight.k, random_);
    const int64_t sets = kDrawnTokens / rows;
    timed({.kernel = "embed", .format = name_of(weight.format), .rows = rows}, [&](int64_t calls) {
      workers_.run([&](Lane& lane) {
        for (int64_t i = 0; i < calls; ++i) {
          kernels_.embed(lane, weight, ids.data() + i % sets * rows, out.view());
        }
      });
    });
  }
}

void Table::around_attention() {
  const int64_t context = step_context();
  for (const int64_t rows : kStepRows) {
    AttentionCase step(kernels_, model_, rows, context, arena_, random_);
    timed({.kernel = "plan_attention", .rows = rows, .context = context},
          [&](int64_t calls) { step.plan(kernels_, workers_, calls); });
    timed({.kernel = "rotate_and_store",
           .format = name_of(model_.compute_types().cache()),
           .rows = rows,
           .context = context},
          [&](int64_t calls) { step.rotate_and_store(kernels_, workers_, calls); });
  }
}

// With what rounds its rows for the product with `next`.
void Table::norm(const char* name, const float* scale, const PackedWeight& next, int64_t rows) {
  const float epsilon = model_.architecture().norm_epsilon;
  const OwnedRows in(kernels_, DType::kF32, rows, next.k, random_);
  const OwnedRows out = OwnedRows::inputs_of(kernels_, next, rows, workers_, random_);
  timed_in_section(
      {.kernel = name,
       .format = is_integer(next.format) ? "int8" : name_of(next.format),
       .rows = rows},
      [&](Lane& lane) { kernels_.rms_norm(lane, in.view(), nullptr, scale, epsilon, out.view()); });
}

void Table::norms() {
  const LayerWeights& layer = model_.layers().front();
  for (const int64_t rows : kSmallRows) norm("rms_norm", layer.attention_norm, layer.qkv, rows);
  for (const int64_t rows : kStepRows) {
    norm("final_norm", model_.final_norm(), model_.head(), rows);
  }
}

void Table::rounding(const char* name, const PackedWeight& next, int64_t rows) {
  if (!is_integer(next.format)) return;
  const OwnedRows in(kernels_, DType::kF32, rows, next.k, random_);
  const OwnedRows out = OwnedRows::inputs_of(kernels_, next, rows, workers_, random_);
  timed_in_section({.kernel = name, .format = "int8", .rows = rows},
                   [&](Lane& lane) { kernels_.quantize(lane, in.view(), out.view()); });
}

void Table::roundings() {
  const LayerWeights& layer = model_.layers().front();
  for (const int64_t rows : kStepRows) rounding("quantize_attended", layer.output, rows);
  for (const int64_t rows : kSmallRows) rounding("quantize", layer.down, rows);
}

std::vector<StepRest> Table::rests() const {
  std::vector<StepRest> rests;
  for (const int64_t rows : kStepRows) {
    rests.push_back(rest_of_step(model_, lines_, rows, step_context()));
  }
  return rests;
}

// Rows are shared among the workers, as in a step.
void Table::sampling(const char* name, const SamplingParams& params) {
  const int64_t vocab = model_.architecture().vocab_size;
  for (const int64_t rows : {int64_t{1}, int64_t{16}}) {
    const OwnedRows logits(kernels_, DType::kF32, rows, vocab, random_);
    for (int64_t row = 0; row < rows; ++row) {  // some good tokens above a noise
      float* values = static_cast<float*>(logits.view().data) + row * logits.view().stride;
      for (int64_t i = 0; i < vocab; ++i) values[i] *= 4.0f;
      for (int i = 0; i < 20; ++i) {
        values[random_() % static_cast<uint64_t>(vocab)] = 10.0f + 0.3f * static_cast<float>(i);
      }
    }
    const OwnedRows maxima(kernels_, DType::kF32, rows, num_logit_chunks(vocab), random_);
    const auto row_of = [](const Tensor& tensor, int64_t row) {
      return static_cast<float*>(tensor.data) + row * tensor.stride;
    };
    for (int64_t row = 0; row < rows; ++row) {
      kernels_.chunk_maxima(row_of(logits.view(), row), vocab, row_of(maxima.view(), row));
    }
    std::atomic<int64_t> sum{0};  // used, so that the choices are made
    const Figures figures =
        between_probes({.tokens = static_cast<double>(rows)}, [&](int64_t calls) {
          workers_.run([&](Lane& lane) {
            const Range mine = lane.share(rows);
            LogitScratch scratch;
            for (int64_t i = 0; i < calls; ++i) {
              for (int64_t row = mine.begin; row < mine.end; ++row) {
                const SamplingRow choice{.params = params, .position = static_cast<int32_t>(i)};
                const Logits of_row{row_of(logits.view(), row), vocab, row_of(maxima.view(), row)};
                sum += choose_token(kernels_, of_row, choice, scratch).token;
              }
              lane.meet();
            }
          });
        });
    show({.kernel = name, .rows = rows, .figures = figures, .has_limit = false});
  }
}

}  // namespace

std::vector<StepRest> measure_kernels(const Kernels& kernels, const Model& model,
                                      WorkerPool& workers, MachineProbe& probe,
                                      const KernelTableOptions& options,
                                      const std::function<void(const KernelLine&)>& show) {
  workers.pin_caller();  // as who computes steps: not on another worker's core
  Table table(kernels, model, workers, probe, options, show);
  table.products();
  table.attention(1, 4096);
  table.attention(16, 1024);
  table.workers();
  table.embedding();
  table.around_attention();
  table.norms();
  table.roundings();
  table.sampling("choose_greedy", {.temperature = 0.0f});
  table.sampling("choose_top_k_top_p", {.temperature = 0.8f, .top_k = 50, .top_p = 0.9f});
  return table.rests();
}

}  // namespace tidemill

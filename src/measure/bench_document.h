// What a bench found, as one JSON document and as lines of a table. docs/benchmark.md describes the
// document; scripts/performance_tables.py and scripts/performance_floors.py read it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.h"
#include "measure/kernel_line.h"
#include "measure/rounds.h"
#include "measure/step_rest.h"
#include "measure/step_work.h"

namespace tidemill {

inline constexpr std::string_view kBenchSchema = "tidemill-bench/1";

// Whole steps: `concurrency` prompts of `context` tokens, computed ("prefill") or continued
// ("decode").
struct BenchCell {
  std::string phase;
  int64_t concurrency = 0;
  int64_t context = 0;
  double mean_context = 0.0;  // positions before a token, on average, while it was measured
  Figures figures;
};

// A cell that was asked for and not measured.
struct LeftOut {
  std::string phase;
  int64_t concurrency = 0;
  int64_t context = 0;
  std::string reason;
};

class BenchDocument {
 public:
  // `kind`: "cells", "grid" or "kernels".
  BenchDocument(std::string_view kind, const Kernels& kernels, int threads, const Model& model,
                const std::string& model_name);

  void set_limits(int64_t max_model_len, int64_t max_step_tokens, int64_t kv_blocks);
  void add(const BenchCell& cell);
  void add(const KernelLine& line);
  void add(const LeftOut& cell);
  void add(const StepRest& rest);

  std::string json() const;

 private:
  JsonObject members_;
  JsonArray cells_, kernels_, rests_, left_out_;
};

JsonValue to_json(const Figures& figures, bool has_limit);

// For people: a heading, and a line for each.
std::string cell_heading();
std::string cell_line(const BenchCell& cell);
std::string left_out_line(const LeftOut& cell);
std::string kernel_heading();
std::string kernel_line(const KernelLine& line);
std::string rest_lines(const StepRest& rest);

}  // namespace tidemill

// What a run of requests comes to, as JSON with the names of `vllm bench serve` and as a table.
//
// TTFT: sent to first text; TPOT: (end - first text) / (tokens - 1) of each answer with two or
// more; ITL: every gap between two pieces of text; E2EL: sent to end. All in milliseconds, of
// requests that succeeded. Answers that are no streams have E2EL alone.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "load/run_load.h"
#include "load/statistics.h"

namespace tidemill {

// Bounds in milliseconds; a request is good when it succeeded and keeps all of them.
struct Goodput {
  std::optional<double> ttft, tpot, e2el;

  bool empty() const { return !ttft && !tpot && !e2el; }
};

// "ttft:200,tpot:50,e2el:5000", separated by commas or blanks.
Result<Goodput> parse_goodput(std::string_view text);

struct LoadReport {
  int64_t completed = 0;
  int64_t failed = 0;
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  int64_t counted_inputs = 0;   // answers that told the tokens of their prompt
  int64_t counted_outputs = 0;  // answers that told their own
  double seconds = 0.0;
  std::optional<double> goodput;    // requests per second
  double peak_output_tokens = 0.0;  // pieces of text in the best second
  int64_t peak_concurrency = 0;
  std::vector<double> percents;
  Summary ttft, tpot, itl, e2el, client_queue;  // milliseconds
  std::map<std::string, int64_t> failures;      // by reason; at most 100, the rest as "others"
  double client_busy_share = 0.0;
  Summary client_delay;  // milliseconds

  double per_second(int64_t count) const {
    return seconds > 0 ? static_cast<double>(count) / seconds : 0.0;
  }
};

LoadReport report_of(const LoadRun& run, const Goodput& goodput, std::vector<double> percents);

// What was asked for, for the head of the result.
struct LoadHeading {
  std::string date;  // 20260131-235959
  std::string model;
  LoadOptions options;
  int64_t max_concurrency = 0;  // 0: no bound
};

std::string load_json(const LoadHeading& heading, const LoadReport& report);
std::string load_table(const LoadHeading& heading, const LoadReport& report);

}  // namespace tidemill

// The engine's metrics (apis.md 19): names, labels and bounds that existing dashboards expect.
// What is submitted is counted by whoever submits it, the rest by the loop's thread; any may read.
#pragma once

#include <cstdint>
#include <string>

#include "base/metrics.h"
#include "executor/response_stream.h"
#include "executor/step_pace.h"
#include "scheduler/scheduler.h"

namespace tidemill {

enum class EndKind { kStop, kLength, kAbort, kError };

// What is known of a sequence when it ends.
struct EndedSequence {
  EndKind kind = EndKind::kStop;
  RequestTimes times;
  int64_t prompt_tokens = 0;
  int64_t new_tokens = 0;
  int64_t max_new_tokens = 0;
};

// Puts the families on the page of a registry whose model is still to come.
void declare_executor_metrics(MetricsRegistry& registry);

// What vllm:cache_config_info says.
struct CacheConfig {
  int64_t num_blocks = 0;
  std::string dtype = "auto";
  bool prefix_cache = false;
};

class ExecutorMetrics {
 public:
  ExecutorMetrics(MetricsRegistry& registry, const std::string& model_name, int64_t max_model_len,
                  const CacheConfig& cache);

  void request_admitted(int64_t num_choices, int64_t prompt_tokens);
  // A step of that many tokens, prefill among them or not.
  void step(int64_t prefill_tokens, int64_t decode_tokens, double seconds);
  void limited_step(const StepVerdict& verdict);  // of max_step_ms
  void first_token(const RequestTimes& times);
  void next_token(double gap_seconds);
  void sequence_ended(const EndedSequence& ended);
  void cancelled(bool running, bool decoding);
  void update(const SchedulerCounts& counts);
  void read_share(double share);

 private:
  Gauge& running_;
  Gauge& waiting_;
  Gauge& kv_usage_;
  Gauge& gpu_cache_usage_;
  Gauge& read_share_;
  Counter& prefix_queries_;
  Counter& prefix_hits_;
  Counter& preemptions_;
  Counter& draft_rows_;
  Counter& draft_tokens_;
  Counter& accepted_tokens_;
  Counter& prompt_tokens_;
  Counter& generation_tokens_;
  Counter* success_[4];
  Counter* cancelled_[3];
  Histogram& step_tokens_;
  Histogram& request_prompt_tokens_;
  Histogram& request_generation_tokens_;
  Histogram& request_max_tokens_;
  Histogram& params_max_tokens_;
  Histogram& params_n_;
  Histogram& first_token_;
  Histogram& inter_token_;
  Histogram& time_per_token_;
  Histogram& request_time_per_token_;
  Histogram& e2e_;
  Histogram& queue_time_;
  Histogram& prefill_time_;
  Histogram& decode_time_;
  Histogram& inference_time_;
  Histogram* step_seconds_[3];
  Counter* limited_steps_[2][2];  // [over][disturbed]
  SchedulerCounts last_;
};

}  // namespace tidemill

#include "executor/executor_metrics.h"

namespace tidemill {
namespace {

using Bounds = std::vector<double>;

const Bounds kFirstToken = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                            1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
const Bounds kPerToken = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                          .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
const Bounds kRequest = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                         30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
const Bounds kStepTokens = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
const Bounds kStepSeconds = {.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5};

// 1, 2, 5, 10, 20, 50 ... up to the model's length.
Bounds token_bounds(int64_t max_model_len) {
  Bounds bounds;
  for (int64_t decade = 1; decade <= max_model_len; decade *= 10) {
    for (const int64_t digit : {1, 2, 5}) {
      if (digit * decade <= max_model_len) bounds.push_back(static_cast<double>(digit * decade));
    }
  }
  return bounds;
}

double seconds(RequestTimes::Time from, RequestTimes::Time to) {
  return std::chrono::duration<double>(to - from).count();
}

// One model's labels, and one more.
struct Registrar {
  Labels labels;

  Labels with(const char* name, const char* value) const {
    Labels more = labels;
    more.emplace_back(name, value);
    return more;
  }
};

Labels labels_of(const std::string& model_name) {
  return {{"model_name", model_name}, {"engine", "0"}};
}

}  // namespace

// The long list is the table of apis.md 19, in its order.
ExecutorMetrics::ExecutorMetrics(MetricsRegistry& registry, const std::string& model_name,
                                 int64_t max_model_len, const CacheConfig& cache)
    : running_(registry.gauge("vllm:num_requests_running", "Sequences in the batch.",
                              labels_of(model_name))),
      waiting_(registry.gauge("vllm:num_requests_waiting",
                              "Sequences admitted and not in the batch.", labels_of(model_name))),
      kv_usage_(registry.gauge("vllm:kv_cache_usage_perc", "Used KV blocks of all, 0 to 1.",
                               labels_of(model_name))),
      gpu_cache_usage_(registry.gauge("vllm:gpu_cache_usage_perc",
                                      "The former name of vllm:kv_cache_usage_perc.",
                                      labels_of(model_name))),
      read_share_(registry.gauge(
          "tidemill:read_share",
          "Bytes of weights, keys and values that the steps of the last second read, of those that "
          "the machine could have read in their time; 0 when idle or not calibrated.",
          labels_of(model_name))),
      prefix_queries_(registry.counter("vllm:prefix_cache_queries_total",
                                       "Prompt tokens looked up in the prefix cache.",
                                       labels_of(model_name))),
      prefix_hits_(registry.counter("vllm:prefix_cache_hits_total",
                                    "Prompt tokens found in the prefix cache.",
                                    labels_of(model_name))),
      preemptions_(registry.counter("vllm:num_preemptions_total", "Sequences preempted.",
                                    labels_of(model_name))),
      draft_rows_(registry.counter("vllm:spec_decode_num_drafts_total",
                                   "Rows of steps that had draft tokens.", labels_of(model_name))),
      draft_tokens_(registry.counter("vllm:spec_decode_num_draft_tokens_total",
                                     "Draft tokens that steps have verified.",
                                     labels_of(model_name))),
      accepted_tokens_(registry.counter("vllm:spec_decode_num_accepted_tokens_total",
                                        "Draft tokens that were right, and given out.",
                                        labels_of(model_name))),
      prompt_tokens_(registry.counter("vllm:prompt_tokens_total", "Prompt tokens of requests.",
                                      labels_of(model_name))),
      generation_tokens_(registry.counter("vllm:generation_tokens_total", "Tokens generated.",
                                          labels_of(model_name))),
      step_tokens_(registry.histogram("vllm:iteration_tokens_total", "Tokens in one step.",
                                      kStepTokens, labels_of(model_name))),
      request_prompt_tokens_(
          registry.histogram("vllm:request_prompt_tokens", "Prompt tokens of a sequence.",
                             token_bounds(max_model_len), labels_of(model_name))),
      request_generation_tokens_(
          registry.histogram("vllm:request_generation_tokens", "Tokens a sequence generated.",
                             token_bounds(max_model_len), labels_of(model_name))),
      request_max_tokens_(registry.histogram("vllm:request_max_num_generation_tokens",
                                             "Most tokens a sequence could generate.",
                                             token_bounds(max_model_len), labels_of(model_name))),
      params_max_tokens_(registry.histogram("vllm:request_params_max_tokens",
                                            "max_tokens in force for a sequence.",
                                            token_bounds(max_model_len), labels_of(model_name))),
      params_n_(registry.histogram("vllm:request_params_n", "Choices a request asked for.",
                                   {1, 2, 5, 10, 20}, labels_of(model_name))),
      first_token_(registry.histogram("vllm:time_to_first_token_seconds", "Arrival to first token.",
                                      kFirstToken, labels_of(model_name))),
      inter_token_(registry.histogram("vllm:inter_token_latency_seconds",
                                      "Gap between tokens of one sequence.", kPerToken,
                                      labels_of(model_name))),
      time_per_token_(registry.histogram("vllm:time_per_output_token_seconds",
                                         "The former name of vllm:inter_token_latency_seconds.",
                                         kPerToken, labels_of(model_name))),
      request_time_per_token_(registry.histogram("vllm:request_time_per_output_token_seconds",
                                                 "Decode time per token of a sequence.", kPerToken,
                                                 labels_of(model_name))),
      e2e_(registry.histogram("vllm:e2e_request_latency_seconds", "Arrival to last token.",
                              kRequest, labels_of(model_name))),
      queue_time_(registry.histogram("vllm:request_queue_time_seconds",
                                     "Arrival to first scheduled.", kRequest,
                                     labels_of(model_name))),
      prefill_time_(registry.histogram("vllm:request_prefill_time_seconds",
                                       "First scheduled to first token.", kRequest,
                                       labels_of(model_name))),
      decode_time_(registry.histogram("vllm:request_decode_time_seconds",
                                      "First token to last token.", kRequest,
                                      labels_of(model_name))),
      inference_time_(registry.histogram("vllm:request_inference_time_seconds",
                                         "First scheduled to last token.", kRequest,
                                         labels_of(model_name))) {
  const Registrar make{labels_of(model_name)};
  const char* reasons[] = {"stop", "length", "abort", "error"};
  for (int i = 0; i < 4; ++i) {
    success_[i] = &registry.counter("vllm:request_success_total", "Sequences that ended.",
                                    make.with("finished_reason", reasons[i]));
  }
  const char* stages[] = {"queued", "prefill", "decode"};
  for (int i = 0; i < 3; ++i) {
    cancelled_[i] =
        &registry.counter("tidemill:requests_cancelled_total", "Sequences whose reader left.",
                          make.with("stage", stages[i]));
  }
  const char* phases[] = {"prefill", "decode", "mixed"};
  for (int i = 0; i < 3; ++i) {
    step_seconds_[i] = &registry.histogram("tidemill:step_seconds", "Time of one step.",
                                           kStepSeconds, make.with("phase", phases[i]));
  }
  const char* truth[] = {"false", "true"};
  for (int over = 0; over < 2; ++over) {
    for (int disturbed = 0; disturbed < 2; ++disturbed) {
      Labels labels = make.with("over", truth[over]);
      labels.emplace_back("disturbed", truth[disturbed]);
      limited_steps_[over][disturbed] = &registry.counter(
          "tidemill:limited_steps_total",
          "Steps under max_step_ms: those that took more than 1.15 of it, and those that other "
          "programs kept from a core for more than 0.03 of their time.",
          labels);
    }
  }
  Labels config = {{"block_size", "32"},
                   {"num_gpu_blocks", std::to_string(cache.num_blocks)},
                   {"cache_dtype", cache.dtype},
                   {"enable_prefix_caching", cache.prefix_cache ? "True" : "False"}};
  config.insert(config.begin(), make.labels.begin(), make.labels.end());
  registry.gauge("vllm:cache_config_info", "How the KV cache is set up.", config).set(1);
}

void declare_executor_metrics(MetricsRegistry& registry) {
  MetricsRegistry sample;
  const ExecutorMetrics metrics(sample, "", /*max_model_len=*/1, {});
  registry.declare_like(sample);
}

void ExecutorMetrics::request_admitted(int64_t num_choices, int64_t prompt_tokens) {
  params_n_.observe(static_cast<double>(num_choices));
  prompt_tokens_.add(prompt_tokens);
}

void ExecutorMetrics::step(int64_t prefill_tokens, int64_t decode_tokens, double step_seconds) {
  step_tokens_.observe(static_cast<double>(prefill_tokens + decode_tokens));
  const int phase = decode_tokens == 0 ? 0 : prefill_tokens == 0 ? 1 : 2;
  step_seconds_[phase]->observe(step_seconds);
}

void ExecutorMetrics::limited_step(const StepVerdict& verdict) {
  limited_steps_[verdict.over][verdict.disturbed]->add();
}

void ExecutorMetrics::first_token(const RequestTimes& times) {
  generation_tokens_.add();
  first_token_.observe(seconds(times.arrival, times.first_token));
  queue_time_.observe(seconds(times.arrival, times.first_scheduled));
  prefill_time_.observe(seconds(times.first_scheduled, times.first_token));
}

void ExecutorMetrics::next_token(double gap_seconds) {
  generation_tokens_.add();
  inter_token_.observe(gap_seconds);
  time_per_token_.observe(gap_seconds);
}

void ExecutorMetrics::sequence_ended(const EndedSequence& ended) {
  success_[static_cast<int>(ended.kind)]->add();
  if (ended.kind == EndKind::kAbort || ended.kind == EndKind::kError) return;
  const RequestTimes& t = ended.times;
  request_prompt_tokens_.observe(static_cast<double>(ended.prompt_tokens));
  request_generation_tokens_.observe(static_cast<double>(ended.new_tokens));
  request_max_tokens_.observe(static_cast<double>(ended.max_new_tokens));
  params_max_tokens_.observe(static_cast<double>(ended.max_new_tokens));
  e2e_.observe(seconds(t.arrival, t.last_token));
  decode_time_.observe(seconds(t.first_token, t.last_token));
  inference_time_.observe(seconds(t.first_scheduled, t.last_token));
  if (ended.new_tokens > 1) {
    request_time_per_token_.observe(seconds(t.first_token, t.last_token) /
                                    static_cast<double>(ended.new_tokens - 1));
  }
}

void ExecutorMetrics::cancelled(bool running, bool decoding) {
  cancelled_[decoding ? 2 : running ? 1 : 0]->add();
}

void ExecutorMetrics::read_share(double share) { read_share_.set(share); }

void ExecutorMetrics::update(const SchedulerCounts& counts) {
  running_.set(static_cast<double>(counts.running));
  waiting_.set(static_cast<double>(counts.waiting));
  const double usage = counts.total_blocks == 0 ? 0.0
                                                : static_cast<double>(counts.held_blocks) /
                                                      static_cast<double>(counts.total_blocks);
  kv_usage_.set(usage);
  gpu_cache_usage_.set(usage);
  preemptions_.add(counts.preemptions - last_.preemptions);
  draft_rows_.add(counts.draft_rows - last_.draft_rows);
  draft_tokens_.add(counts.draft_tokens - last_.draft_tokens);
  accepted_tokens_.add(counts.accepted_draft_tokens - last_.accepted_draft_tokens);
  prefix_queries_.add(counts.prefix_queried_tokens - last_.prefix_queried_tokens);
  prefix_hits_.add(counts.prefix_hit_tokens - last_.prefix_hit_tokens);
  last_ = counts;
}

}  // namespace tidemill

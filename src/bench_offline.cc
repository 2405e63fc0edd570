#include "bench_offline.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <thread>

#include "base/check.h"
#include "kernels/select.h"
#include "measure/kernel_table.h"
#include "progress_bar.h"

namespace tidemill {
namespace {

// Steps of a round while its probes are taken and streams are read. Where others use the cores, who
// reads comes late: a sequence has room for more than that where it can.
constexpr int64_t kSlippedSteps = 8;
constexpr int64_t kMostSlippedSteps = 32;

// A bench is nobody's client: nothing of it may time out or be turned away.
Settings offline(Settings settings, int64_t most_sequences) {
  ExecutorOptions& executor = settings.executor;
  executor.scheduler.prefix_cache = false;  // every prompt is computed
  executor.scheduler.speculative = "off";   // and every token in a step of its own
  settings.model.draft_model.clear();
  settings.model.draft_quantize.clear();
  executor.scheduler.mixed_step_tokens =
      executor.scheduler.max_step_tokens;  // as calls are counted
  executor.max_step_ms = executor.busy_log_ms = 0;
  executor.scheduler.max_sequences =
      static_cast<int32_t>(std::max<int64_t>(executor.scheduler.max_sequences, most_sequences));
  executor.job_queue_size = std::max<int64_t>(executor.job_queue_size, most_sequences);
  executor.queue_timeout_ms = executor.request_timeout_ms = int64_t{24} * 3600 * 1000;
  return settings;
}

std::unique_ptr<LoadedModel> load(const Settings& settings, WorkerPool& workers,
                                  MetricsRegistry& metrics) {
  ProgressBar bar(stderr);
  auto model = LoadedModel::load(settings, workers, metrics, bar.callback());
  bar.finish();
  if (model->model() == nullptr) throw std::runtime_error("a script has nothing to measure.");
  return model;
}

// True when the stream has ended.
bool take(ResponseStream::Poll poll) {
  if (poll.error) throw std::runtime_error(poll.error->message);
  return poll.ended;
}

double seconds(RequestTimes::Time from, RequestTimes::Time to) {
  return std::chrono::duration<double>(to - from).count();
}

// How many tokens a stream has, and when the last one came.
struct Stamp {
  int64_t tokens = 0;
  RequestTimes::Time time{};
};

// Nothing when the stream has ended.
std::optional<Stamp> stamp_of(ResponseStream& stream) {
  // A token that comes between the two questions is seen by the next turn.
  for (bool ended = take(stream.poll()); !ended;) {
    const Stamp stamp{stream.completion_tokens(), stream.times().last_token};
    ended = take(stream.poll());
    if (stream.completion_tokens() == stamp.tokens) return stamp;
  }
  return std::nullopt;
}

std::optional<Stamp> wait_for(ResponseStream& stream, int64_t tokens) {
  while (stream.completion_tokens() < tokens) {
    if (take(stream.wait())) return std::nullopt;
  }
  return stamp_of(stream);
}

std::optional<int64_t> tokens_of(std::vector<ResponseStream>& streams) {
  int64_t tokens = 0;
  for (ResponseStream& stream : streams) {
    const auto stamp = stamp_of(stream);
    if (!stamp) return std::nullopt;
    tokens += stamp->tokens;
  }
  return tokens;
}

}  // namespace

OfflineBench::OfflineBench(const Settings& settings, int64_t most_sequences)
    : kernels_(select_kernels(settings.model.isa)),
      workers_(settings.workers),
      model_(load(offline(settings, most_sequences), workers_, metrics_)),
      arithmetic_(kernels_, workers_),
      probe_(workers_, [this](const PackedFormat& format) { return arithmetic_.measure(format); }),
      cost_(cost_of(model_->model()->manifest(), model_->model()->compute_types())),
      max_step_tokens_(settings.executor.scheduler.max_step_tokens) {
  probe_.set_model(*model_->model());
  // The loop tells how many blocks there are when it begins.
  while (num_blocks() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  wait_until_idle();
}

ResponseStream OfflineBench::submit(int64_t prompt_tokens, int64_t new_tokens) {
  const RequestLimits& limits = model_->facts().limits;
  GenerationFields fields{.max_new_tokens = new_tokens, .temperature = 0.0, .ignore_end = true};
  TokenPrompt prompt;
  for (int64_t i = 0; i < prompt_tokens; ++i) {
    prompt.ids.push_back(
        static_cast<TokenId>(random_() % static_cast<uint64_t>(limits.vocab_size)));
  }
  fields.prompts.push_back(std::move(prompt));
  const auto request = GenerationRequest::make(std::move(fields), FieldNames{}, limits);
  if (!request) throw std::runtime_error(request.error().message);
  auto stream = model_->executor().submit(*request);
  if (!stream) throw std::runtime_error(stream.error().message);
  return std::move(*stream);
}

// And has done what it does ahead: a probe beside that would tell less than the machine can.
void OfflineBench::wait_until_idle() {
  for (;;) {
    const Executor& executor = model_->executor();
    const ExecutorStats stats = executor.stats();
    if (executor.idle() && (stats.prepared || stats.failed)) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

std::string OfflineBench::why_not(int64_t count, int64_t tokens) const {
  if (tokens > max_model_len()) {
    return format("{} tokens with those it needs to be measured; max_model_len is {}", tokens,
                  max_model_len());
  }
  const int64_t blocks = count * ((tokens - 1) / kTokensPerBlock + 1);
  if (blocks <= num_blocks()) return "";
  return format("{} blocks of keys and values; there are {}: give it more kv_cache_bytes", blocks,
                num_blocks());
}

std::string OfflineBench::why_not_prefill(int64_t count, int64_t prompt_tokens) const {
  return why_not(count, prompt_tokens + 1);
}

std::string OfflineBench::why_not_decode(int64_t count, int64_t context, int64_t steps) const {
  const int64_t least = kMinRounds * (steps + kSlippedSteps);
  return why_not(count, context + prefill_steps(count, context) + least);
}

int64_t OfflineBench::measured_tokens(int64_t count, int64_t context, int64_t steps) const {
  const int64_t most = std::min(max_model_len(), num_blocks() / count * kTokensPerBlock);
  return std::min(kMaxRounds * (steps + kMostSlippedSteps),
                  most - context - prefill_steps(count, context));
}

// The steps of everybody's prefill, were every second step a decode.
int64_t OfflineBench::prefill_steps(int64_t count, int64_t context) const {
  if (count == 1) return 1;
  const int64_t room = std::max<int64_t>(kTokensPerBlock, max_step_tokens_ - count);
  return 2 * (count * context / room + 1) + count;
}

Round OfflineBench::prefill_round(int64_t count, int64_t prompt_tokens) {
  const CpuClock clock;
  std::vector<ResponseStream> streams;
  for (int64_t i = 0; i < count; ++i) streams.push_back(submit(prompt_tokens, 1));
  RequestTimes::Time begin = RequestTimes::Time::max();
  RequestTimes::Time end{};
  for (ResponseStream& stream : streams) {
    while (!take(stream.wait())) continue;
    begin = std::min(begin, stream.times().first_scheduled);
    end = std::max(end, stream.times().first_token);
  }
  return {.work = prefill_work(cost_, count, prompt_tokens, max_step_tokens_),
          .seconds = seconds(begin, end),
          .calls = (count * prompt_tokens - 1) / max_step_tokens_ + 1,
          .cpu_share = clock.share(workers_.num_threads())};
}

std::vector<Round> OfflineBench::prefill(int64_t count, int64_t prompt_tokens, double seconds) {
  const CpuClock whole;
  prefill_round(count, prompt_tokens);  // weights, keys and values are in memory afterwards
  wait_until_idle();
  std::vector<Round> rounds;
  Rates before = probe_.measure();
  while (rounds.size() < kMaxRounds) {
    if (rounds.size() >= kMinRounds && whole.seconds() > seconds) break;
    Round round = prefill_round(count, prompt_tokens);
    wait_until_idle();
    round.before = before;
    before = round.after = probe_.measure();
    rounds.push_back(round);
  }
  return rounds;
}

DecodeRounds OfflineBench::decode(int64_t count, int64_t context, int64_t steps, double seconds) {
  const int64_t measured = measured_tokens(count, context, steps);
  std::vector<ResponseStream> others;
  for (int64_t i = 0; i + 1 < count; ++i) {
    others.push_back(submit(context, measured + prefill_steps(count, context)));
  }
  ResponseStream last = submit(context, measured);
  wait_for(last, 1);
  DecodeRounds result;
  const CpuClock whole;
  Rates before = probe_.measure();  // it waits for a step, and then the next one for it
  while (result.rounds.size() < kMaxRounds) {
    if (result.rounds.size() >= kMinRounds && whole.seconds() > seconds) break;
    // The step that ends next began behind the probe.
    const auto now = stamp_of(last);
    const auto begin = now ? wait_for(last, now->tokens + 1) : std::nullopt;
    if (!begin) break;
    const CpuClock clock;
    const auto end = wait_for(last, begin->tokens + steps);
    if (!end) break;
    Round round{.seconds = tidemill::seconds(begin->time, end->time),
                .calls = end->tokens - begin->tokens,
                .cpu_share = clock.share(workers_.num_threads()),
                .before = before};
    before = round.after = probe_.measure();
    const auto tokens = tokens_of(others);
    if (!tokens) break;  // it may have ended in the round
    const auto calls = static_cast<double>(round.calls);
    const double mean =
        static_cast<double>(count * context + end->tokens + *tokens) / static_cast<double>(count) -
        calls / 2.0;
    round.work = decode_work(cost_, static_cast<double>(count), mean, calls);
    result.mean_context += mean;
    result.rounds.push_back(round);
  }
  if (!result.rounds.empty()) result.mean_context /= static_cast<double>(result.rounds.size());
  for (ResponseStream& other : others) other.cancel();
  last.cancel();
  wait_until_idle();
  return result;
}

}  // namespace tidemill

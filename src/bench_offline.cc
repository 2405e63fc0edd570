#include "bench_offline.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "base/check.h"
#include "kernels/select.h"
#include "measure/kernel_table.h"
#include "progress_bar.h"

namespace tidemill {
namespace {

constexpr int64_t kSlippedSteps = 8;  // of a round, while its probes are taken and streams are read

// A bench is nobody's client: nothing of it may time out or be turned away.
Settings offline(Settings settings, int64_t most_sequences) {
  ExecutorOptions& executor = settings.executor;
  executor.scheduler.prefix_cache = false;  // every prompt is computed
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

Stamp stamp_of(ResponseStream& stream) {
  // A token that comes between the two questions is seen by the next turn.
  for (take(stream.poll());;) {
    const Stamp stamp{stream.completion_tokens(), stream.times().last_token};
    CHECK(!take(stream.poll()), "a sequence ended before its last round");
    if (stream.completion_tokens() == stamp.tokens) return stamp;
  }
}

Stamp wait_for(ResponseStream& stream, int64_t tokens) {
  while (stream.completion_tokens() < tokens) {
    CHECK(!take(stream.wait()), "a sequence ended before its last round");
  }
  return stamp_of(stream);
}

}  // namespace

OfflineBench::OfflineBench(const Settings& settings, int64_t most_sequences)
    : kernels_(select_kernels(settings.model.isa)),
      workers_(settings.workers),
      model_(load(offline(settings, most_sequences), workers_, metrics_)),
      arithmetic_(kernels_, workers_),
      probe_(workers_, [this](const PackedFormat& format) { return arithmetic_.measure(format); }),
      cost_(cost_of(model_->model()->manifest())),
      max_step_tokens_(settings.executor.scheduler.max_step_tokens) {
  probe_.set_model(*model_->model());
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

void OfflineBench::wait_until_idle() {
  while (!model_->executor().idle()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
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
  return why_not(count,
                 context + prefill_steps(count, context) + kMaxRounds * (steps + kSlippedSteps));
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
  const int64_t measured = kMaxRounds * (steps + kSlippedSteps);
  std::vector<ResponseStream> others;
  for (int64_t i = 0; i + 1 < count; ++i) {
    others.push_back(submit(context, measured + prefill_steps(count, context)));
  }
  ResponseStream last = submit(context, measured + 1);
  wait_for(last, 1);
  DecodeRounds result;
  const CpuClock whole;
  Rates before = probe_.measure();  // it waits for a step, and then the next one for it
  while (result.rounds.size() < kMaxRounds) {
    if (result.rounds.size() >= kMinRounds && whole.seconds() > seconds) break;
    // The step that ends next began behind the probe.
    const Stamp begin = wait_for(last, stamp_of(last).tokens + 1);
    const CpuClock clock;
    const Stamp end = wait_for(last, begin.tokens + steps);
    Round round{.seconds = tidemill::seconds(begin.time, end.time),
                .calls = end.tokens - begin.tokens,
                .cpu_share = clock.share(workers_.num_threads()),
                .before = before};
    before = round.after = probe_.measure();
    double positions = static_cast<double>(count * context + end.tokens);
    for (ResponseStream& other : others) {
      positions += static_cast<double>(stamp_of(other).tokens);
    }
    const auto calls = static_cast<double>(round.calls);
    const double mean = positions / static_cast<double>(count) - calls / 2.0;
    round.work = decode_work(cost_, static_cast<double>(count), mean, calls);
    result.mean_context += mean;
    result.rounds.push_back(round);
  }
  result.mean_context /= static_cast<double>(result.rounds.size());
  for (ResponseStream& other : others) other.cancel();
  last.cancel();
  wait_until_idle();
  return result;
}

}  // namespace tidemill

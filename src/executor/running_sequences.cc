#include "executor/running_sequences.h"

#include <algorithm>
#include <utility>

#include "executor/ending_errors.h"

namespace tidemill {

using std::chrono::milliseconds;

RunningSequences::RunningSequences(const ExecutorOptions& options, ExecutorMetrics& metrics,
                                   StreamTable& streams, LoopGauges& gauges)
    : options_(options),
      metrics_(metrics),
      streams_(streams),
      gauges_(gauges),
      too_late_to_begin_(deadline_error("did not begin", options.queue_timeout_ms)),
      too_late_to_end_(deadline_error("did not end", options.request_timeout_ms)) {}

void RunningSequences::begin(Mail& mail, const StreamTable::Entry& entry) {
  RunningSequence running{.stream = entry.stream,
                          .stream_choice = mail.stream_choice,
                          .sampling = {.params = mail.sampling,
                                       .choice = mail.choice,
                                       .min_new_tokens = mail.min_new_tokens,
                                       .end_ids = mail.end_ids,
                                       .allowed_ids = std::move(mail.allowed_ids),
                                       .bias_ids = std::move(mail.bias_ids),
                                       .bias = std::move(mail.bias),
                                       .bad_words = std::move(mail.bad_words),
                                       .num_prompt_logprobs = mail.num_prompt_logprobs},
                          .times = {.arrival = entry.arrival},
                          .prompt_tokens = static_cast<int64_t>(mail.prompt.size()),
                          .max_new_tokens = mail.max_new_tokens};
  running.sampling.end_ids.insert(running.sampling.end_ids.end(), mail.stop_ids.begin(),
                                  mail.stop_ids.end());
  running_.emplace(mail.sequence, std::move(running));
  next_expiry_ =
      std::min(next_expiry_, entry.arrival + milliseconds(std::min(options_.queue_timeout_ms,
                                                                   options_.request_timeout_ms)));
}

RunningSequence* RunningSequences::find(SequenceId id) {
  const auto found = running_.find(id);
  return found == running_.end() ? nullptr : &found->second;
}

SequenceId RunningSequences::newest() const {
  return std::max_element(running_.begin(), running_.end(),
                          [](const auto& a, const auto& b) { return a.first < b.first; })
      ->first;
}

void RunningSequences::finish(SequenceId id, EndKind kind) {
  const auto found = running_.find(id);
  count_end({.kind = kind,
             .times = found->second.times,
             .prompt_tokens = found->second.prompt_tokens,
             .new_tokens = found->second.new_tokens,
             .max_new_tokens = found->second.max_new_tokens});
  running_.erase(found);
  streams_.remove(id);
}

void RunningSequences::count_refused() { count_end({.kind = EndKind::kError}); }

void RunningSequences::count_end(const EndedSequence& ended) {
  metrics_.sequence_ended(ended);
  gauges_.in_system.fetch_sub(1);
  gauges_.ended.fetch_add(1);
}

const Error* RunningSequences::expired(const RunningSequence& running, Time now) {
  const Time end = running.times.arrival + milliseconds(options_.request_timeout_ms);
  const Time begin = running.times.arrival + milliseconds(options_.queue_timeout_ms);
  if (now > end) return &too_late_to_end_;
  if (!running.has_begun() && now > begin) return &too_late_to_begin_;
  next_expiry_ = std::min(next_expiry_, running.has_begun() ? end : std::min(begin, end));
  return nullptr;
}

// Without a list of them: one that there is no memory for would end the loop.
void RunningSequences::expire(Time now, const std::function<void(SequenceId, const Error&)>& end) {
  if (now <= next_expiry_) return;
  next_expiry_ = Time::max();
  for (auto at = running_.begin(); at != running_.end();) {
    const auto& [id, running] = *at++;
    if (const Error* error = expired(running, now)) end(id, *error);
  }
}

}  // namespace tidemill

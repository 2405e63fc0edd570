// What crosses into the loop: flat records, in order. One lock, held for a push or a swap; none
// where nothing has come.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sampling/sampling_params.h"
#include "scheduler/scheduler.h"

namespace tidemill {

// kStop: the reader found a stop string; the sequence ends as asked. kCancel: nobody reads any
// more. kResume: the reader was slow and has caught up.
enum class MailKind : uint8_t { kAdd, kStop, kCancel, kResume };

// One record. kAdd fills everything; the others name a sequence.
struct Mail {
  MailKind kind = MailKind::kCancel;
  SequenceId sequence = 0;
  std::vector<TokenId> prompt;
  int32_t max_new_tokens = 0;
  int32_t min_new_tokens = 0;
  std::vector<TokenId> end_ids;
  std::vector<TokenId> stop_ids;
  std::string prefix_scope;
  std::optional<SequenceId> same_prompt_as;
  SamplingParams sampling;
  int32_t choice = 0;         // inside its prompt: the draw depends on it
  int32_t stream_choice = 0;  // inside its request
  std::vector<TokenId> allowed_ids;
  std::vector<TokenId> bias_ids;
  std::vector<float> bias;  // one for each of bias_ids
  std::vector<std::vector<TokenId>> bad_words;
  int32_t num_prompt_logprobs = -1;  // of the prompt's tokens, as sampling.num_logprobs
  int32_t priority = 0;              // lower first
  bool operator==(const Mail&) const = default;
};

std::string to_bytes(const Mail& mail);
std::optional<Mail> mail_from_bytes(std::string_view bytes);  // nullopt: malformed

class Mailbox {
 public:
  // Records of one call stay together.
  void push(std::vector<Mail> mail);
  // Wakes the loop without a record.
  void wake();
  // Everything that has arrived; waits up to that long when there is nothing. The loop's thread.
  std::vector<Mail> take(std::chrono::milliseconds wait);

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Mail> mail_;
  std::atomic<bool> has_come_{false};  // mail, or a wake(); written under the lock
};

}  // namespace tidemill

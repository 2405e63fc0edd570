// What a ResponseStream consists of. Private to executor/: submit() makes it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "executor/mailbox.h"
#include "executor/response_stream.h"
#include "executor/stream_queue.h"
#include "text/detokenizer.h"
#include "text/stop_strings.h"
#include "text/tokenizer.h"

namespace tidemill {

// The reader's side of one choice.
struct ChoiceReader {
  SequenceId sequence = 0;
  std::optional<Detokenizer> detokenizer;  // absent without a tokenizer: no text
  StopStrings stop_strings{{}};
  int64_t completion_tokens = 0;
  double sum_logprobs = 0.0;  // of those tokens
  bool finished = false;
  TextEvent held;  // all of its text, where events come only at the end

  double mean_logprob() const {
    return completion_tokens == 0 ? 0.0 : sum_logprobs / static_cast<double>(completion_tokens);
  }
};

struct ResponseStream::State {
  std::shared_ptr<StreamQueue> queue;  // shared with the loop, which may outlive the reader
  std::shared_ptr<Mailbox> mailbox;    // shared with the loop and the executor's front
  std::shared_ptr<const Tokenizer> tokenizer;
  std::vector<ChoiceReader> choices;  // prompt index * num_sequences + sequence
  int64_t num_sequences = 1;          // of each prompt
  int64_t num_shown = 1;              // of those, the best; fewer only for best_of
  std::vector<std::vector<TokenId>> prompts;
  bool scores_prompts = false;
  std::vector<std::vector<TokenChoice>> prompt_scores;  // from the second token on; may be empty
  std::vector<int64_t> prompt_tokens;
  std::vector<std::string> prompt_texts;  // of prompts that were text; others are decoded
  uint64_t seed = 0;
  int64_t resume_tokens = 0;  // whoever takes more than this may have paused sequences
  bool ended = false;

  Poll digest(StreamQueue::Taken taken);
  void read(TokenRecord& record, Poll& poll);
  void hold(std::vector<TextEvent> events);
  std::vector<TextEvent> best_events();
  TokenText token_text(const TokenChoice& choice, std::string piece) const;
  void send(MailKind kind, const ChoiceReader& choice);
  void cancel_unfinished();
};

}  // namespace tidemill

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
  bool finished = false;
};

struct ResponseStream::State {
  std::shared_ptr<StreamQueue> queue;  // shared with the loop, which may outlive the reader
  std::shared_ptr<Mailbox> mailbox;    // shared with the loop and the executor's front
  std::shared_ptr<const Tokenizer> tokenizer;
  std::vector<ChoiceReader> choices;
  std::vector<std::vector<TokenId>> prompts;
  std::vector<int64_t> prompt_tokens;
  std::vector<std::string> prompt_texts;  // of prompts that were text; others are decoded
  uint64_t seed = 0;
  int64_t resume_tokens = 0;  // whoever takes more than this may have paused sequences
  bool ended = false;

  Poll digest(StreamQueue::Taken taken);
  void read(const TokenRecord& record, Poll& poll);
  TokenText token_text(const TokenChoice& choice, std::string piece) const;
  void send(MailKind kind, const ChoiceReader& choice);
  void cancel_unfinished();
};

}  // namespace tidemill

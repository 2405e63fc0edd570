#include "executor/response_stream.h"

#include <algorithm>
#include <iterator>
#include <new>
#include <utility>

#include "base/check.h"
#include "executor/stream_state.h"

namespace tidemill {
namespace {

FinishReason reason_of(EndReason reason) {
  switch (reason) {
    case EndReason::kEndToken:
      return FinishReason::kEndToken;
    case EndReason::kStopToken:
      return FinishReason::kStopToken;
    case EndReason::kLength:
      return FinishReason::kLength;
    case EndReason::kFailed:
      break;
  }
  CHECK(false, "a failed sequence has no finish reason");
}

}  // namespace

void ResponseStream::State::send(MailKind kind, const ChoiceReader& choice) {
  std::vector<Mail> mail;
  mail.push_back({.kind = kind, .sequence = choice.sequence});
  mailbox->push(std::move(mail));
}

void ResponseStream::State::cancel_unfinished() {
  for (ChoiceReader& choice : choices) {
    if (!choice.finished) send(MailKind::kCancel, choice);
    choice.finished = true;
  }
  ended = true;
}

TokenText ResponseStream::State::token_text(const TokenChoice& choice, std::string piece) const {
  TokenText text{.id = choice.token, .text = std::move(piece), .logprob = choice.logprob};
  if (!tokenizer) {
    for (const auto& [id, logprob] : choice.top) {
      text.top.push_back({.id = id, .text = "", .bytes = "", .logprob = logprob});
    }
    return text;
  }
  text.special = tokenizer->is_special(choice.token);
  std::string bytes = tokenizer->token_bytes(choice.token).value_or("");
  if (text.special) {
    text.text = std::move(bytes);
  } else {
    text.bytes = std::move(bytes);
  }
  for (const auto& [id, logprob] : choice.top) {
    const bool special = tokenizer->is_special(id);
    std::string raw = tokenizer->token_bytes(id).value_or("");
    const std::vector<TokenId> alone = {id};
    text.top.push_back({.id = id,
                        .text = special ? raw : tokenizer->decode(alone, false),
                        .bytes = special ? std::string() : raw,
                        .logprob = logprob});
  }
  return text;
}

// One record becomes (part of) an event. After a stop string nothing of its choice counts any more.
void ResponseStream::State::read(TokenRecord& record, Poll& poll) {
  ChoiceReader& choice = choices[static_cast<size_t>(record.choice)];
  if (choice.finished) return;
  if (!record.prompt.empty()) {
    const auto prompt = static_cast<size_t>(record.choice / num_sequences);
    prompt_scores[prompt] = std::move(record.prompt);
  }
  if (record.error) {
    choice.finished = true;
    if (!poll.error) poll.error = record.error;
    return;
  }
  if (poll.events.empty() || poll.events.back().choice != record.choice) {
    poll.events.push_back({.choice = record.choice});
  }
  TextEvent& event = poll.events.back();
  if (record.token) {
    ++choice.completion_tokens;
    choice.sum_logprobs += double{record.token->logprob};
    std::string piece;
    if (choice.detokenizer) piece = choice.detokenizer->push(record.token->token);
    event.text += choice.stop_strings.push(piece);
    event.tokens.push_back(token_text(*record.token, std::move(piece)));
  }
  if (record.end && choice.detokenizer) {
    event.text += choice.stop_strings.push(choice.detokenizer->finish());
  }
  if (choice.stop_strings.matched()) {
    event.finish = Finish{.reason = FinishReason::kStopString,
                          .stop_string = choice.stop_strings.matched(),
                          .completion_tokens = choice.completion_tokens};
    choice.finished = true;
    if (!record.end) send(MailKind::kStop, choice);
    return;
  }
  if (!record.end) return;
  event.text += choice.stop_strings.finish();
  event.finish = Finish{.reason = reason_of(record.end->reason),
                        .stop_id = record.end->stop_id,
                        .completion_tokens = choice.completion_tokens};
  choice.finished = true;
}

void ResponseStream::State::hold(std::vector<TextEvent> events) {
  for (TextEvent& event : events) {
    TextEvent& held = choices[static_cast<size_t>(event.choice)].held;
    held.text += event.text;
    std::move(event.tokens.begin(), event.tokens.end(), std::back_inserter(held.tokens));
    if (event.finish) held.finish = std::move(event.finish);
  }
}

// Of each prompt's sequences the best, one event each; the first of equal ones comes first.
std::vector<TextEvent> ResponseStream::State::best_events() {
  std::vector<TextEvent> events;
  for (auto begin = choices.begin(); begin != choices.end(); begin += num_sequences) {
    std::stable_sort(begin, begin + num_sequences,
                     [](const ChoiceReader& a, const ChoiceReader& b) {
                       return a.mean_logprob() > b.mean_logprob();
                     });
    for (int64_t shown = 0; shown < num_shown; ++shown) {
      TextEvent& held = begin[shown].held;
      held.choice = static_cast<int32_t>(events.size());
      events.push_back(std::move(held));
    }
  }
  return events;
}

ResponseStream::Poll ResponseStream::State::digest(StreamQueue::Taken taken) {
  Poll poll;
  if (ended) return Poll{.ended = true};
  if (static_cast<int64_t>(taken.records.size()) > resume_tokens) {
    for (const ChoiceReader& choice : choices) {
      if (!choice.finished) send(MailKind::kResume, choice);
    }
  }
  for (TokenRecord& record : taken.records) read(record, poll);
  const bool all_finished = std::all_of(choices.begin(), choices.end(),
                                        [](const ChoiceReader& choice) { return choice.finished; });
  if (!all_finished && !poll.error && taken.error) poll.error = *taken.error;
  if (num_shown < num_sequences) {
    hold(std::exchange(poll.events, {}));
    if (all_finished && !poll.error) poll.events = best_events();
  }
  poll.ended = all_finished || poll.error;
  if (poll.ended) cancel_unfinished();  // one choice's failure ends the request: the others stop
  return poll;
}

ResponseStream::ResponseStream(std::unique_ptr<State> state) : state_(std::move(state)) {}
ResponseStream::ResponseStream(ResponseStream&&) noexcept = default;

ResponseStream& ResponseStream::operator=(ResponseStream&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}

// Without memory for mail, the loop finds out at the next token.
ResponseStream::~ResponseStream() {
  if (!state_) return;
  try {
    cancel();
  } catch (const std::bad_alloc&) {
    state_->queue->leave();
  }
}

void ResponseStream::on_ready(std::function<void()> notify) {
  state_->queue->on_ready(std::move(notify));
}

ResponseStream::Poll ResponseStream::poll() { return state_->digest(state_->queue->take()); }

ResponseStream::Poll ResponseStream::wait() {
  if (state_->ended) return Poll{.ended = true};
  return state_->digest(state_->queue->wait());
}

void ResponseStream::cancel() {
  state_->queue->on_ready(nullptr);
  if (!state_->ended) state_->cancel_unfinished();
}

int64_t ResponseStream::num_choices() const {
  return static_cast<int64_t>(state_->choices.size()) / state_->num_sequences * state_->num_shown;
}

const std::vector<int64_t>& ResponseStream::prompt_tokens() const { return state_->prompt_tokens; }

int64_t ResponseStream::cached_tokens() const { return state_->queue->cached_tokens(); }

const std::vector<TokenId>& ResponseStream::prompt_ids(int64_t prompt) const {
  return state_->prompts[static_cast<size_t>(prompt)];
}

std::vector<TokenText> ResponseStream::prompt_logprobs(int64_t prompt) const {
  const auto index = static_cast<size_t>(prompt);
  if (!state_->scores_prompts) return {};
  const std::vector<TokenId>& ids = state_->prompts[index];
  const std::vector<TokenChoice>& scores = state_->prompt_scores[index];
  std::optional<Detokenizer> detokenizer;
  if (state_->tokenizer) {
    detokenizer.emplace(state_->tokenizer.get(), /*skip_special_tokens=*/false);
  }
  std::vector<TokenText> tokens;
  for (size_t i = 0; i < ids.size() && i <= scores.size(); ++i) {
    const TokenChoice first{.token = ids[i]};
    std::string piece = detokenizer ? detokenizer->push(ids[i]) : "";
    tokens.push_back(state_->token_text(i == 0 ? first : scores[i - 1], std::move(piece)));
  }
  return tokens;
}

int64_t ResponseStream::completion_tokens() const {
  int64_t count = 0;
  for (const ChoiceReader& choice : state_->choices) count += choice.completion_tokens;
  return count;
}

std::string ResponseStream::prompt_text(int64_t prompt) const {
  const auto index = static_cast<size_t>(prompt);
  if (!state_->prompt_texts[index].empty()) return state_->prompt_texts[index];
  if (!state_->tokenizer) return "";
  return state_->tokenizer->decode(state_->prompts[index], false);
}

uint64_t ResponseStream::seed() const { return state_->seed; }

RequestTimes ResponseStream::times() const { return state_->queue->times(); }

}  // namespace tidemill

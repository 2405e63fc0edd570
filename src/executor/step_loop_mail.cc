// What the loop's mail does: sequences come in, are dropped, go on.
#include <new>
#include <utility>

#include "executor/step_loop.h"

namespace tidemill {

// Whatever throws in between, fail_all() answers the rest of the batch.
void StepLoop::read_mail(std::chrono::milliseconds wait) {
  batch_ = mailbox_.take(wait);
  for (num_handled_ = 0; num_handled_ < batch_.size(); ++num_handled_) {
    handle(batch_[num_handled_]);
  }
}

void StepLoop::handle(Mail& mail) {
  switch (mail.kind) {
    case MailKind::kAdd:
      add(mail);
      break;
    case MailKind::kStop:
    case MailKind::kCancel:
      drop(mail.sequence, mail.kind);
      break;
    case MailKind::kResume:
      scheduler_.resume(mail.sequence, PauseReason::kSlowReader);
      break;
  }
}

// Whatever it lacks, it alone ends: the mail behind it is that of others.
void StepLoop::add(Mail& mail) {
  const StreamTable::Entry entry = streams_.find(mail.sequence);
  try {
    begin(mail, entry);
  } catch (const std::bad_alloc&) {
    scheduler_.cancel(mail.sequence);
    running_.forget(mail.sequence);
    refuse(mail, entry, outbox_.no_memory());
  }
}

void StepLoop::begin(Mail& mail, const StreamTable::Entry& entry) {
  running_.begin(mail, entry);
  scheduler_.add({.id = mail.sequence,
                  .prompt = std::move(mail.prompt),
                  .max_new_tokens = mail.max_new_tokens,
                  .min_new_tokens = mail.min_new_tokens,
                  .end_ids = std::move(mail.end_ids),
                  .stop_ids = std::move(mail.stop_ids),
                  .prefix_scope = std::move(mail.prefix_scope),
                  .same_prompt_as = mail.same_prompt_as,
                  .score_prompt = mail.num_prompt_logprobs >= 0,
                  .priority = mail.priority});
}

// A sequence that was on its way in. The scheduler knows nothing of it.
void StepLoop::refuse(const Mail& mail, const StreamTable::Entry& entry, const Error& error) {
  outbox_.tell_error(entry.stream, mail.stream_choice, error, {});
  streams_.remove(mail.sequence);
  running_.count_refused();
}

// The reader has what it wanted, or has left.
void StepLoop::drop(SequenceId id, MailKind kind) {
  const RunningSequence* running = running_.find(id);
  if (running == nullptr) return;  // its end crossed the mail
  if (kind == MailKind::kCancel) {
    metrics_.cancelled(running->has_begun(), running->has_spoken());
  }
  scheduler_.cancel(id);
  running_.finish(id, kind == MailKind::kStop ? EndKind::kStop : EndKind::kAbort);
}

// What is left of the batch. One that is in already ends with the others that run.
void StepLoop::fail_batch(const Error& error) {
  for (; num_handled_ < batch_.size(); ++num_handled_) {
    Mail& mail = batch_[num_handled_];
    if (mail.kind != MailKind::kAdd) {
      handle(mail);
    } else if (!running_.contains(mail.sequence)) {
      refuse(mail, streams_.find(mail.sequence), error);
    }
  }
}

}  // namespace tidemill

#include "executor/mailbox.h"

#include <iterator>

#include "executor/record_wire.h"
#include "executor/wire.h"

namespace tidemill {

template <typename Visitor>
void visit_members(Visitor& visit, Mail& mail) {
  visit(mail.kind);
  visit(mail.sequence);
  visit(mail.prompt);
  visit(mail.max_new_tokens);
  visit(mail.min_new_tokens);
  visit(mail.end_ids);
  visit(mail.stop_ids);
  visit(mail.prefix_scope);
  visit(mail.same_prompt_as);
  visit(mail.sampling);
  visit(mail.choice);
  visit(mail.stream_choice);
  visit(mail.allowed_ids);
  visit(mail.bias_ids);
  visit(mail.bias);
  visit(mail.bad_words);
  visit(mail.num_prompt_logprobs);
  visit(mail.priority);
}

std::string to_bytes(const Mail& mail) { return wire::to_bytes(mail); }

std::optional<Mail> mail_from_bytes(std::string_view bytes) {
  auto mail = wire::from_bytes<Mail>(bytes);
  if (mail && mail->kind > MailKind::kResume) return std::nullopt;
  return mail;
}

void Mailbox::push(std::vector<Mail> mail) {
  {
    const std::lock_guard lock(mutex_);
    // At once: without memory for all, none is there.
    mail_.insert(mail_.end(), std::make_move_iterator(mail.begin()),
                 std::make_move_iterator(mail.end()));
    has_come_.store(true);
  }
  arrived_.notify_one();
}

void Mailbox::wake() {
  {
    const std::lock_guard lock(mutex_);
    has_come_.store(true);
  }
  arrived_.notify_one();
}

std::vector<Mail> Mailbox::take(std::chrono::milliseconds wait) {
  if (wait.count() <= 0 && !has_come_.load()) return {};
  std::unique_lock lock(mutex_);
  if (wait.count() > 0) arrived_.wait_for(lock, wait, [this] { return has_come_.load(); });
  has_come_.store(false);
  return std::exchange(mail_, {});
}

}  // namespace tidemill

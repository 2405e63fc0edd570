// What crosses mailbox, stream and step as bytes: what is read is written as the same bytes, and
// malformed bytes are nothing.
#include "base/fuzz_target.h"
#include "executor/mailbox.h"
#include "executor/step_input.h"
#include "executor/stream_queue.h"

namespace tidemill {
namespace {

template <typename Record>
void check_same(const std::optional<Record>& record, std::string_view bytes) {
  if (record) CHECK(to_bytes(*record) == bytes, "the same record has other bytes");
}

template <typename T>
void check_lists(const RowLists<T>& lists, size_t num_rows) {
  size_t total = 0;
  for (size_t row = 0; row < num_rows; ++row) total += lists.of(row).size();
  CHECK(total == lists.items.size(), "{} of {} items belong to rows", total, lists.items.size());
}

void check_changes(const std::optional<StepInput>& input) {
  if (!input) return;
  const size_t num_rows = input->sampling.size();
  for (const auto* ids :
       {&input->allowed, &input->forbidden, &input->bias_ids, &input->prompt, &input->output}) {
    check_lists(*ids, num_rows);
  }
  check_lists(input->bias, num_rows);
  for (size_t row = 0; row < num_rows; ++row) {
    const LogitChanges changes = input->changes(row);
    CHECK(changes.bias.size() == changes.bias_ids.size(), "{} ids have {} numbers",
          changes.bias_ids.size(), changes.bias.size());
  }
}

}  // namespace

void fuzz_one(std::string_view input) {
  FuzzInput in(input);
  const uint8_t kind = in.byte();
  const std::string_view bytes = in.rest();
  switch (kind % 4) {
    case 0:
      return check_same(mail_from_bytes(bytes), bytes);
    case 1:
      return check_same(token_record_from_bytes(bytes), bytes);
    case 2:
      check_changes(step_input_from_bytes(bytes));
      return check_same(step_input_from_bytes(bytes), bytes);
    default:
      return check_same(step_result_from_bytes(bytes), bytes);
  }
}

std::vector<std::string> fuzz_seeds() {
  Mail mail{.kind = MailKind::kAdd, .sequence = 7, .prompt = {1, 2, 3}, .max_new_tokens = 4};
  mail.end_ids = {2};
  mail.prefix_scope = "scope";
  mail.same_prompt_as = 5;
  TokenRecord record{.choice = 1, .token = TokenChoice{.token = 5, .logprob = -0.5f}};
  record.token->top = {{1, -1.0f}};
  record.error = Error{.kind = ErrorKind::kDeadline, .field = "f", .message = "m"};
  StepInput step;
  step.plan.rows.push_back({.sequence = 3, .num_tokens = 2});
  step.forward.token_ids = {4, 5};
  step.forward.groups.push_back({.table_begins = {0, 1}, .block_ids = {5}});
  step.add_score_row({});
  const std::vector<TokenId> ids = {7, 8};
  const std::vector<float> numbers = {0.5f, -1.0f};
  step.add_score_row({}, {.allowed = ids,
                          .forbidden = ids,
                          .bias_ids = ids,
                          .bias = numbers,
                          .prompt = ids,
                          .output = ids});
  const StepResult result{.rows = {{.sequence = 4, .accepted = {{1, -0.5f, {{2, -1.0f}}}}},
                                   {.sequence = 5, .failure = RowFailure::kNotFinite}}};
  return {std::string(1, '\0') + to_bytes(mail),
          std::string(1, '\0') + to_bytes(Mail{}),
          "\x01" + to_bytes(record),
          "\x01" + to_bytes(TokenRecord{.end = SequenceEnd{}}),
          "\x02" + to_bytes(step),
          "\x03" + to_bytes(result)};
}

}  // namespace tidemill

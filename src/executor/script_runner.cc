#include "executor/script_runner.h"

#include <algorithm>
#include <chrono>
#include <initializer_list>
#include <stdexcept>
#include <thread>

#include "base/check.h"
#include "base/json.h"
#include "base/text_file.h"
#include "executor/byte_tokenizer.h"
#include "sampling/random.h"
#include "scheduler/prefix_cache.h"

namespace tidemill {
namespace {

constexpr size_t kMaxAnswers = 1 << 16;
constexpr TokenId kUnwritten = -1;

std::string joined(std::initializer_list<std::string_view> names) {
  std::string list;
  for (const std::string_view name : names) list += (list.empty() ? "" : ", ") + std::string(name);
  return list;
}

class ScriptReader {
 public:
  explicit ScriptReader(std::string file) : file_(std::move(file)) {}

  Script read(const JsonValue& json) {
    require(json.is_object(), "it must be a JSON object");
    know(json, {"max_model_len", "num_blocks", "step_ms", "tick_ms", "rules"});
    Script script;
    script.max_model_len = integer(json, "max_model_len").value_or(script.max_model_len);
    script.num_blocks = integer(json, "num_blocks").value_or(script.num_blocks);
    script.step_ms = integer(json, "step_ms").value_or(script.step_ms);
    script.tick_ms = integer(json, "tick_ms").value_or(script.tick_ms);
    require(script.max_model_len > 0 && script.num_blocks > 0, "lengths must be positive");
    if (const JsonValue* rules = json.find("rules")) {
      require(rules->is_array(), "rules must be a list");
      for (const JsonValue& rule : rules->array()) script.rules.push_back(read_rule(rule));
    }
    return script;
  }

 private:
  void require(bool condition, std::string_view what) {
    if (!condition) throw std::runtime_error(format("{}: {}.", file_, what));
  }

  // A member that is misspelt must not be one that does nothing.
  void know(const JsonValue& object, std::initializer_list<std::string_view> members) {
    for (const auto& [name, value] : object.object()) {
      const bool known = std::find(members.begin(), members.end(), name) != members.end();
      require(known, format("{} is not a member; there are {}", name, joined(members)));
    }
  }

  std::optional<int64_t> integer(const JsonValue& object, const char* key) {
    const JsonValue* value = object.find(key);
    if (value == nullptr) return std::nullopt;
    require(value->fits_int64() && value->integer() >= 0,
            format("{} must be an integer from 0", key));
    return value->integer();
  }

  ScriptRule read_rule(const JsonValue& json) {
    require(json.is_object(), "a rule must be an object");
    know(json, {"when", "reply", "tokens", "repeat", "delay_ms", "fail_at", "throw_at", "logprob"});
    ScriptRule rule;
    if (const JsonValue* when = json.find("when")) {
      require(when->is_string(), "when must be a string");
      rule.when = when->string();
    }
    std::vector<TokenId> reply = read_reply(json);
    for (int64_t i = integer(json, "repeat").value_or(1); i > 0; --i) {
      rule.reply.insert(rule.reply.end(), reply.begin(), reply.end());
    }
    rule.reply.push_back(kScriptEndId);
    rule.delay_ms = integer(json, "delay_ms").value_or(0);
    rule.fail_at = integer(json, "fail_at");
    rule.throw_at = integer(json, "throw_at");
    if (const JsonValue* logprob = json.find("logprob")) {
      require(logprob->is_number(), "logprob must be a number");
      rule.logprob = static_cast<float>(logprob->number());
    }
    return rule;
  }

  std::vector<TokenId> read_reply(const JsonValue& json) {
    std::vector<TokenId> reply;
    if (const JsonValue* text = json.find("reply")) {
      require(text->is_string(), "reply must be a string");
      for (const char c : text->string()) reply.push_back(static_cast<unsigned char>(c));
    } else if (const JsonValue* tokens = json.find("tokens")) {
      require(tokens->is_array(), "tokens must be a list");
      for (const JsonValue& token : tokens->array()) {
        require(token.fits_int64() && token.integer() >= 0 && token.integer() < kScriptVocabSize,
                "tokens must be ids of the vocabulary");
        reply.push_back(static_cast<TokenId>(token.integer()));
      }
    } else {
      require(false, "a rule needs reply or tokens");
    }
    return reply;
  }

  std::string file_;
};

std::string text_of(const std::vector<TokenId>& tokens) {
  std::string text;
  for (const TokenId token : tokens) {
    if (token < 256) text += static_cast<char>(token);
  }
  return text;
}

// A few words that depend on the prompt alone.
ScriptRule made_up(const std::vector<TokenId>& prompt) {
  constexpr const char* kWords[] = {"tide",  "mill",  "turns", "water",   "slow",  "wheel", "grain",
                                    "stone", "river", "night", "morning", "light", "é",     "😀"};
  uint64_t hash = prompt.size();
  for (const TokenId token : prompt) hash = mix(hash ^ static_cast<uint32_t>(token));
  std::string text;
  for (int i = 0; i < 8; ++i) {
    hash = mix(hash);
    text += std::string(i == 0 ? "" : " ") + kWords[hash % std::size(kWords)];
  }
  ScriptRule rule;
  for (const char c : text) rule.reply.push_back(static_cast<unsigned char>(c));
  rule.reply.push_back(kScriptEndId);
  return rule;
}

// Not the same for two tokens that stand together, so that a shift by one shows.
TokenChoice score_of(const SamplingRow& row) {
  const float logprob = -0.125f * static_cast<float>(1 + (row.scored + row.position) % 8);
  TokenChoice score{.token = row.scored, .logprob = logprob};
  for (int32_t i = 0; i < row.params.num_logprobs; ++i) {
    score.top.emplace_back((row.scored + i) % kScriptVocabSize, logprob - static_cast<float>(i));
  }
  return score;
}

void sleep_ms(int64_t milliseconds) {
  if (milliseconds > 0) std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

void wait_for_tick(int64_t tick_ms) {
  using Clock = std::chrono::steady_clock;
  if (tick_ms == 0) return;
  const Clock::duration tick = std::chrono::milliseconds(tick_ms);
  const auto now = Clock::now();
  std::this_thread::sleep_until(now + (tick - now.time_since_epoch() % tick));
}

}  // namespace

Script read_script(const std::filesystem::path& path) {
  const auto json = parse_json(read_text_file(path), kFileJsonLimits);
  if (!json) throw std::runtime_error(format("{}: {}.", path.string(), json.error().message));
  return ScriptReader(path.string()).read(*json);
}

ScriptRunner::ScriptRunner(Script script)
    : script_(std::move(script)),
      slots_(static_cast<size_t>(script_.num_blocks),
             std::vector<TokenId>(kBlockTokens, kUnwritten)),
      draft_slots_(slots_) {
  for (const ScriptRule& rule : script_.rules) {
    rules_.push_back(std::make_shared<const ScriptRule>(rule));
  }
}

int32_t ScriptRunner::vocab_size() const { return kScriptVocabSize; }

// As the network writes keys and values. The first token of a block begins it anew.
void ScriptRunner::write(const ForwardInput::Group& group, size_t token_row, int32_t position,
                         TokenId token, Slots& slots) {
  const auto entry = static_cast<size_t>(group.table_begins[token_row] + position / kBlockTokens);
  std::vector<TokenId>& block = slots.at(static_cast<size_t>(group.block_ids.at(entry)));
  const int32_t slot = position % kBlockTokens;
  if (slot == 0) block.assign(kBlockTokens, kUnwritten);
  block[static_cast<size_t>(slot)] = token;
}

void ScriptRunner::write_tokens(const ForwardInput& forward, Slots& slots) {
  for (size_t i = 0; i < forward.token_ids.size(); ++i) {
    write(forward.groups[0], i, forward.positions[i], forward.token_ids[i], slots);
  }
}

std::vector<TokenId> ScriptRunner::read_back(const ForwardInput& forward, size_t token_row,
                                             const Slots& slots) {
  const ForwardInput::Group& group = forward.groups[0];
  const int32_t last = forward.positions[token_row];
  std::vector<TokenId> tokens;
  tokens.reserve(static_cast<size_t>(last) + 1);
  for (int32_t position = 0; position <= last; ++position) {
    const auto entry = static_cast<size_t>(group.table_begins[token_row] + position / kBlockTokens);
    const auto block = static_cast<size_t>(group.block_ids.at(entry));
    const TokenId token = slots.at(block)[static_cast<size_t>(position % kBlockTokens)];
    if (token == kUnwritten) {
      throw std::logic_error(format("position {} of {} was never written", position, last));
    }
    tokens.push_back(token);
  }
  return tokens;
}

ScriptRunner::Answer& ScriptRunner::answer_for(SequenceId id, const std::vector<TokenId>& tokens) {
  if (const auto known = answers_.find(id); known != answers_.end()) return known->second;
  Answer answer{.prompt_length = static_cast<int32_t>(tokens.size())};
  const std::string text = text_of(tokens);
  for (const auto& rule : rules_) {
    if (rule->when != "*" && text.find(rule->when) == std::string::npos) continue;
    answer.rule = rule;
    break;
  }
  if (answer.rule == nullptr) answer.rule = std::make_shared<const ScriptRule>(made_up(tokens));
  oldest_.push_back(id);
  if (oldest_.size() > kMaxAnswers) {
    answers_.erase(oldest_.front());
    oldest_.pop_front();
  }
  return answers_.emplace(id, std::move(answer)).first->second;
}

TokenChoice ScriptRunner::choose(const Answer& answer, const SamplingRow& row,
                                 const std::vector<TokenId>& tokens) const {
  const auto index = tokens.size() - static_cast<size_t>(answer.prompt_length);
  const std::vector<TokenId>& reply = answer.rule->reply;
  size_t at = 0;  // in the reply
  for (size_t i = 0; i < index; ++i, at = at + 1 == reply.size() ? 0 : at + 1) {
    const TokenId said = tokens[static_cast<size_t>(answer.prompt_length) + i];
    // Behind the end of a reply the script starts again: end of sequence may be ignored.
    if (said != reply[at]) {
      throw std::logic_error(
          format("token {} of an answer is {}, and {} was chosen", i, said, reply[at]));
    }
  }
  TokenChoice choice{.token = reply[at], .logprob = answer.rule->logprob};
  for (int32_t i = 0; i < row.params.num_logprobs; ++i) {
    choice.top.emplace_back((choice.token + i) % kScriptVocabSize,
                            answer.rule->logprob - static_cast<float>(i));
  }
  return choice;
}

// The choice of one score row, into the result; false where it fails. What fails or throws behind
// tokens of the same step is the next step's.
bool ScriptRunner::says_next(const StepInput& input, const PlanRow& row, size_t score,
                             RowResult& result) {
  const auto token_row = static_cast<size_t>(input.forward.score_rows[score]);
  const std::vector<TokenId> tokens = read_back(input.forward, token_row, slots_);
  const Answer& answer = answer_for(row.sequence, tokens);
  const auto index = static_cast<int64_t>(tokens.size()) - answer.prompt_length;
  const bool is_first = result.accepted.empty();
  if (answer.rule->throw_at == index) {
    if (is_first) throw std::runtime_error("the script says throw");
    return false;
  }
  sleep_ms(answer.rule->delay_ms);
  if (answer.rule->fail_at == index) {
    if (is_first) result.failure = RowFailure::kNotFinite;
    return false;
  }
  result.accepted.push_back(choose(answer, input.sampling[score], tokens));
  return true;
}

std::span<const TokenId> ScriptRunner::draft(const DraftInput& input) {
  const ForwardInput& forward = input.forward;
  write_tokens(forward, draft_slots_);
  drafts_.clear();
  size_t score = 0;
  for (const DraftInput::Row& row : input.rows) {
    if (row.num_drafts == 0) continue;
    const auto last = static_cast<size_t>(forward.score_rows[score++]);
    std::vector<TokenId> tokens = read_back(forward, last, draft_slots_);
    const TokenId newest = tokens.back();  // which the step is still to write
    tokens.pop_back();
    ForwardInput before = forward;
    --before.positions[last];
    if (tokens != read_back(before, last, slots_)) {
      throw std::logic_error("the draft model has seen what the sequence does not hold");
    }
    const Answer& answer = answers_.at(row.sequence);
    const std::vector<TokenId>& reply = answer.rule->reply;
    const auto index = tokens.size() + 1 - static_cast<size_t>(answer.prompt_length);
    if (newest != reply[(index - 1) % reply.size()]) {
      throw std::logic_error(format("drafts behind token {}, which was not said", newest));
    }
    for (int32_t i = 0; i < row.num_drafts; ++i) {
      const int32_t position = row.sampling.position + i;
      const TokenId right = reply[(index + static_cast<size_t>(i)) % reply.size()];
      drafts_.push_back(position % 5 == 0 ? right ^ 1 : right);
      if (i + 1 == row.num_drafts) break;
      write(forward.groups[0], last, position, drafts_.back(), draft_slots_);
    }
  }
  return drafts_;
}

StepResult& ScriptRunner::run(const StepInput& input) {
  sleep_ms(script_.step_ms);
  write_tokens(input.forward, slots_);
  result_.rows.clear();
  size_t score = 0;
  for (const PlanRow& row : input.plan.rows) {
    if (row.num_score_rows == 0) continue;
    RowResult& of_row = result_.rows.emplace_back();
    of_row.sequence = row.sequence;
    const size_t end = score + static_cast<size_t>(row.num_score_rows);
    for (int32_t i = 0; i < row.num_prompt_rows; ++i) {
      of_row.prompt.push_back(score_of(input.sampling[score++]));
    }
    if (row.num_choice_rows() == 0) continue;
    for (; score < end && says_next(input, row, score, of_row); ++score) {
      // Behind it stands a draft, unless it is the last: the row goes on while it is what was said.
      if (score + 1 == end) continue;
      const auto draft = static_cast<size_t>(input.forward.score_rows[score + 1]);
      if (input.forward.token_ids[draft] != of_row.accepted.back().token) break;
    }
    score = end;
  }
  wait_for_tick(script_.tick_ms);
  return result_;
}

}  // namespace tidemill

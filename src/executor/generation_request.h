// What a client asked for, already valid: whoever holds a GenerationRequest holds one that can run.
// Made only by make(), which every API family uses; a parameter has one meaning, one range and one
// check, whatever name a dialect gives it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/token_id.h"
#include "text/chat_template.h"

namespace tidemill {

struct TextPrompt {
  std::string text;
  bool add_special_tokens = true;
};
struct TokenPrompt {
  std::vector<TokenId> ids;  // used as they are
};
struct ChatPrompt {
  JsonValue messages;  // already checked: an array of objects with a known role
  ChatTemplateOptions options;
};
using Prompt = std::variant<TextPrompt, TokenPrompt, ChatPrompt>;

// As a dialect read them; absent means the default. Values are unchecked.
struct GenerationFields {
  std::vector<Prompt> prompts;            // one choice list each, in order
  std::optional<int64_t> max_new_tokens;  // absent: all the context left
  int64_t min_new_tokens = 0;
  double temperature = 1.0;
  double max_temperature = 2.0;  // the dialect's bound
  int64_t top_k = 0;             // 0 or -1: off
  double top_p = 1.0;
  double min_p = 0.0;      // 0: off
  double typical_p = 1.0;  // 1: off
  double repetition_penalty = 1.0;
  double frequency_penalty = 0.0;
  double presence_penalty = 0.0;
  std::vector<std::pair<int64_t, double>> logit_bias;  // id, what is added to its logit
  std::vector<std::string> bad_words;                  // never generated
  std::optional<std::vector<int64_t>> allowed_token_ids;
  std::optional<uint64_t> seed;  // absent: random
  int64_t num_choices = 1;       // n: what the client sees
  // Generated per prompt; the num_choices with the highest mean log-probability are shown, best
  // first. Absent: num_choices. More than num_choices means events come only at the end.
  std::optional<int64_t> best_of;
  int64_t num_logprobs = -1;                      // -1 none, 0 the chosen token, N the N best
  int64_t num_prompt_logprobs = -1;               // the same of the prompt's tokens
  std::optional<int64_t> truncate_prompt_tokens;  // keeps the last so many
  int64_t priority = 0;                           // lower first
  std::optional<std::string> cache_salt;          // prefixes are shared under one salt only
  std::vector<std::string> stop_strings;
  std::vector<int64_t> stop_token_ids;
  bool ignore_end = false;  // go on after an end-of-sequence id
  bool keep_stop_text = false;
  bool skip_special_tokens = true;
  bool clamp_max_new_tokens = false;  // shorten instead of refusing when the context is full
};

// Names under which the dialect knows the fields, for errors ("max_tokens", "max_new_tokens").
struct FieldNames {
  std::string prompt = "prompt";
  std::string max_new_tokens = "max_tokens";
  std::string min_new_tokens = "min_tokens";
  std::string num_choices = "n";
  std::string num_logprobs = "logprobs";
  std::string stop_strings = "stop";
  std::string best_of = "best_of";
  std::string num_prompt_logprobs = "prompt_logprobs";
  std::string truncate_prompt_tokens = "truncate_prompt_tokens";
};

// Limits of the model and the server that requests are checked against.
struct RequestLimits {
  int64_t max_model_len = 0;
  int32_t vocab_size = 0;
  bool has_tokenizer = false;
  bool has_chat_template = false;
  int64_t max_prompt_bytes_per_token = 32;
  int64_t max_prompts = 32;
  int64_t max_choices = 8;
  int64_t max_logprobs = 20;
  int64_t max_stop_strings = 16;
  int64_t max_stop_string_bytes = 256;
  int64_t max_stop_token_ids = 64;
  int64_t max_logit_bias = 1024;

  // Of a prompt's text, or of all texts of a conversation; a longer one is refused unread.
  int64_t max_prompt_bytes() const { return max_prompt_bytes_per_token * max_model_len; }
};

class GenerationRequest {
 public:
  // The first problem in a fixed order: prompts, types and ranges, combinations. Lengths in tokens
  // are known only after encoding: Executor::submit checks those.
  static Result<GenerationRequest> make(GenerationFields fields, const FieldNames& names,
                                        const RequestLimits& limits);

  const GenerationFields& fields() const { return fields_; }
  const FieldNames& names() const { return names_; }
  uint64_t seed() const { return *fields_.seed; }  // drawn by make() when absent
  // Where the client gave no seed, each prompt draws numbers of its own.
  uint64_t seed_of_prompt(size_t index) const;
  // Generated for each prompt; those that best_of leaves out included.
  int64_t num_sequences() const { return fields_.best_of.value_or(fields_.num_choices); }

 private:
  GenerationRequest(GenerationFields fields, bool seed_given, FieldNames names)
      : fields_(std::move(fields)), seed_given_(seed_given), names_(std::move(names)) {}
  GenerationFields fields_;  // the seed is there, given or drawn
  bool seed_given_;
  FieldNames names_;
};

}  // namespace tidemill

#include "executor/generation_request.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "base/check.h"
#include "sampling/random.h"

namespace tidemill {
namespace {

constexpr int64_t kMaxTopK = 1 << 30;
constexpr int64_t kMaxPriority = 100;
constexpr int64_t kMaxSaltBytes = 128;

Error invalid(const std::string& field, std::string message) {
  return {.kind = ErrorKind::kInvalidParameter, .field = field, .message = std::move(message)};
}

// What a client wrote into its messages. A template shows nearly all of it, so the bound of a text
// prompt holds for it, and rendering and encoding begin only behind it.
int64_t string_bytes(const JsonValue& json) {
  int64_t bytes = 0;
  std::vector<const JsonValue*> left = {&json};
  while (!left.empty()) {
    const JsonValue* value = left.back();
    left.pop_back();
    if (value->is_string()) {
      bytes += static_cast<int64_t>(value->string().size());
    } else if (value->is_array()) {
      for (const JsonValue& item : value->array()) left.push_back(&item);
    } else if (value->is_object()) {
      for (const auto& [key, member] : value->object()) left.push_back(&member);
    }
  }
  return bytes;
}

// The checks of one request, in a fixed order; the first that fails is the answer.
class Checker {
 public:
  Checker(const GenerationFields& fields, const FieldNames& names, const RequestLimits& limits)
      : fields_(fields), names_(names), limits_(limits) {}

  std::optional<Error> first_problem() {
    check_prompts();
    check_lengths();
    check_sampling();
    check_penalties();
    check_token_lists();
    check_stops();
    check_words(fields_.bad_words, "bad_words", "bad word");
    check_place();
    return std::move(problem_);
  }

 private:
  void refuse(Error error) {
    if (!problem_) problem_ = std::move(error);
  }

  void check_range(const std::string& field, double value, double min, double max,
                   const char* hint = "") {
    if (std::isfinite(value) && value >= min && value <= max) return;
    refuse(invalid(field,
                   format("{} is {}; it must lie in {} to {}.{}", field, value, min, max, hint)));
  }

  void check_above_zero(const std::string& field, double value, double max) {
    if (std::isfinite(value) && value > 0.0 && value <= max) return;
    refuse(invalid(field,
                   format("{} is {}; it must be more than 0, and {} at most.", field, value, max)));
  }

  void check_count(const std::string& field, int64_t value, int64_t min, int64_t max) {
    if (value >= min && value <= max) return;
    refuse(invalid(field, format("{} is {}; it must lie in {} to {}.", field, value, min, max)));
  }

  void check_prompts() {
    const auto count = static_cast<int64_t>(fields_.prompts.size());
    if (count == 0) {
      refuse({.kind = ErrorKind::kMissingParameter,
              .field = names_.prompt,
              .message = format("{} is missing.", names_.prompt)});
    }
    if (count > limits_.max_prompts) {
      refuse(invalid(names_.prompt, format("{} holds {} prompts; {} are allowed in one request.",
                                           names_.prompt, count, limits_.max_prompts)));
    }
    for (const Prompt& prompt : fields_.prompts) {
      std::visit([this](const auto& kind) { check_prompt(kind); }, prompt);
    }
  }

  void check_prompt(const TextPrompt& prompt) {
    if (!limits_.has_tokenizer) {
      refuse({.kind = ErrorKind::kUnsupportedContent,
              .field = names_.prompt,
              .message = format("{} is text, and this model has no tokenizer. Send token ids.",
                                names_.prompt)});
    }
    check_bytes(static_cast<int64_t>(prompt.text.size()));
  }

  void check_bytes(int64_t bytes) {
    const int64_t limit = limits_.max_prompt_bytes();
    if (bytes <= limit) return;
    refuse({.kind = ErrorKind::kPromptTooLong,
            .field = names_.prompt,
            .message = format("the prompt has {} bytes; a model of {} tokens reads {} at most. "
                              "Shorten it, or start the server with a larger "
                              "max_prompt_bytes_per_token.",
                              bytes, limits_.max_model_len, limit)});
  }

  void check_prompt(const TokenPrompt& prompt) {
    if (prompt.ids.empty()) {
      refuse({.kind = ErrorKind::kEmptyPrompt,
              .field = names_.prompt,
              .message = "the prompt holds no token; at least one is needed."});
    }
    for (const TokenId id : prompt.ids) {
      if (id >= 0 && id < limits_.vocab_size) continue;
      refuse(invalid(names_.prompt, format("{} holds token id {}; ids go from 0 to {}.",
                                           names_.prompt, id, limits_.vocab_size - 1)));
      return;
    }
  }

  void check_prompt(const ChatPrompt& prompt) {
    if (limits_.has_chat_template && limits_.has_tokenizer) {
      check_bytes(string_bytes(prompt.messages));
      return;
    }
    refuse({.kind = ErrorKind::kTemplateError,
            .field = names_.prompt,
            .message = "this model has no chat template. Start the server with chat_template=FILE, "
                       "or send a prompt to /v1/completions."});
  }

  void check_lengths() {
    if (fields_.max_new_tokens) {
      check_count(names_.max_new_tokens, *fields_.max_new_tokens, 0, int64_t{1} << 31);
    }
    check_count(names_.min_new_tokens, fields_.min_new_tokens, 0,
                fields_.max_new_tokens.value_or(limits_.max_model_len));
    check_count(names_.num_choices, fields_.num_choices, 1, limits_.max_choices);
    if (fields_.best_of) {
      check_count(names_.best_of, *fields_.best_of, std::max<int64_t>(fields_.num_choices, 1),
                  limits_.max_choices);
    }
    if (fields_.truncate_prompt_tokens) {
      check_count(names_.truncate_prompt_tokens, *fields_.truncate_prompt_tokens, 1,
                  limits_.max_model_len);
    }
  }

  void check_sampling() {
    check_range("temperature", fields_.temperature, 0.0, fields_.max_temperature,
                " Use 0 for greedy decoding.");
    check_count("top_k", fields_.top_k, -1, kMaxTopK);
    check_range("top_p", fields_.top_p, 0.0, 1.0);
    check_range("min_p", fields_.min_p, 0.0, 1.0);
    check_above_zero("typical_p", fields_.typical_p, 1.0);
    check_count(names_.num_logprobs, fields_.num_logprobs, -1, limits_.max_logprobs);
    check_count(names_.num_prompt_logprobs, fields_.num_prompt_logprobs, -1, limits_.max_logprobs);
  }

  void check_penalties() {
    check_above_zero("repetition_penalty", fields_.repetition_penalty, 10.0);
    check_range("frequency_penalty", fields_.frequency_penalty, -2.0, 2.0);
    check_range("presence_penalty", fields_.presence_penalty, -2.0, 2.0);
  }

  void check_length(const std::string& field, size_t size, int64_t max, const char* of) {
    const auto count = static_cast<int64_t>(size);
    if (count <= max) return;
    refuse(invalid(field, format("{} holds {} {}; {} are allowed.", field, count, of, max)));
  }

  void check_token_lists() {
    check_length("logit_bias", fields_.logit_bias.size(), limits_.max_logit_bias, "entries");
    for (const auto& [id, bias] : fields_.logit_bias) {
      check_count("logit_bias", id, 0, limits_.vocab_size - 1);
      check_range("logit_bias", bias, -100.0, 100.0);
    }
    if (!fields_.allowed_token_ids) return;
    const std::vector<int64_t>& allowed = *fields_.allowed_token_ids;
    if (allowed.empty()) {
      refuse(invalid("allowed_token_ids",
                     "allowed_token_ids is empty, and no token could be generated. Name at least "
                     "one id, or leave it out."));
    }
    check_length("allowed_token_ids", allowed.size(), limits_.vocab_size, "ids");
    for (const int64_t id : allowed) {
      check_count("allowed_token_ids", id, 0, limits_.vocab_size - 1);
    }
  }

  // Stop strings and bad words: the same limits.
  void check_words(const std::vector<std::string>& words, const std::string& field,
                   const char* what) {
    check_length(field, words.size(), limits_.max_stop_strings, "strings");
    for (const std::string& word : words) {
      const auto bytes = static_cast<int64_t>(word.size());
      if (bytes >= 1 && bytes <= limits_.max_stop_string_bytes) continue;
      refuse(invalid(field, format("a {} has {} bytes; 1 to {} are allowed.", what, bytes,
                                   limits_.max_stop_string_bytes)));
    }
  }

  void check_place() {
    if (!fields_.bad_words.empty() && !limits_.has_tokenizer) {
      refuse({.kind = ErrorKind::kUnsupportedContent,
              .field = "bad_words",
              .message = "bad_words are text, and this model has no tokenizer. Forbid tokens with "
                         "logit_bias or allowed_token_ids."});
    }
    check_count("priority", fields_.priority, -kMaxPriority, kMaxPriority);
    if (!fields_.cache_salt) return;
    const auto bytes = static_cast<int64_t>(fields_.cache_salt->size());
    if (bytes >= 1 && bytes <= kMaxSaltBytes) return;
    refuse(invalid("cache_salt",
                   format("cache_salt has {} bytes; 1 to {} are allowed.", bytes, kMaxSaltBytes)));
  }

  void check_stops() {
    check_words(fields_.stop_strings, names_.stop_strings, "stop string");
    const auto num_ids = static_cast<int64_t>(fields_.stop_token_ids.size());
    if (num_ids > limits_.max_stop_token_ids) {
      refuse(invalid("stop_token_ids", format("stop_token_ids holds {} ids; {} are allowed.",
                                              num_ids, limits_.max_stop_token_ids)));
    }
    for (const int64_t id : fields_.stop_token_ids) {
      check_count("stop_token_ids", id, 0, limits_.vocab_size - 1);
    }
  }

  const GenerationFields& fields_;
  const FieldNames& names_;
  const RequestLimits& limits_;
  std::optional<Error> problem_;
};

uint64_t random_seed() {
  std::random_device device;
  // 53 bits: a client that reads it as a double reads it exactly.
  return ((uint64_t{device()} << 32) | device()) >> 11;
}

}  // namespace

Result<GenerationRequest> GenerationRequest::make(GenerationFields fields, const FieldNames& names,
                                                  const RequestLimits& limits) {
  if (auto problem = Checker(fields, names, limits).first_problem()) return std::move(*problem);
  const bool seed_given = fields.seed.has_value();
  if (!seed_given) fields.seed = random_seed();
  return GenerationRequest(std::move(fields), seed_given, names);
}

// The first prompt keeps the seed itself, so that the one that is reported repeats its answer.
uint64_t GenerationRequest::seed_of_prompt(size_t index) const {
  return seed_given_ || index == 0 ? seed() : mix(seed() ^ mix(index));
}

}  // namespace tidemill

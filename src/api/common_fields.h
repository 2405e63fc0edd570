// Rows that several schemas have word for word, with whoever reads them, and what their ranges and
// refusals share. Private to api/.
#pragma once

#include "api/field_table.h"
#include "api/fields.h"

namespace tidemill {

inline constexpr double kMaxCount = 2147483648.0;  // of tokens: more than any context
inline constexpr double kMaxTopK = 1073741824.0;
inline constexpr std::string_view kLeaveOut = "Leave it out.";
inline constexpr std::string_view kGrammarLater =
    "The form of the answer cannot be prescribed; say it in the prompt, and leave this out.";
inline constexpr FieldRange kLogprobs = up_to(0, &RequestLimits::max_logprobs, "max_logprobs (20)");
inline constexpr FieldRange kStops =
    up_to(0, &RequestLimits::max_stop_strings, "max_stop_sequences (16)");

// Every request that generates. No default comes from the model's generation_config.json.
inline constexpr std::array kCommonRows = std::to_array<FieldRow>({
    {.name = "frequency_penalty",
     .type = FieldType::kNumber,
     .fallback = "0",
     .range = from_to(-2, 2),
     .sentence = "Taken from a token's logit for each time that it stands in the answer."},
    {.name = "presence_penalty",
     .type = FieldType::kNumber,
     .fallback = "0",
     .range = from_to(-2, 2),
     .sentence = "Taken once from the logits of tokens that stand in the answer."},
    {.name = "logit_bias",
     .type = FieldType::kBias,
     .range = from_to(-100, 100),
     .sentence = "Token ids, spelled as strings, and what is added to their logits."},
    {.name = "seed",
     .type = FieldType::kBits,
     .sentence = "The same seed and request give the same answer. Default: a random one."},
    {.name = "stop_token_ids",
     .type = FieldType::kIntegers,
     .range = up_to(0, &RequestLimits::max_stop_token_ids, "max_stop_token_ids (64)"),
     .sentence = "Tokens that end an answer."},
    {.name = "ignore_eos",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "Goes on behind an end-of-sequence token."},
    {.name = "skip_special_tokens",
     .type = FieldType::kBoolean,
     .fallback = "true",
     .sentence = "Leaves special tokens out of the text."},
    refused("structured_outputs", "", kGrammarLater),
    refused("guided_json", "", kGrammarLater),
    refused("guided_regex", "", kGrammarLater),
    refused("guided_choice", "", kGrammarLater),
    refused("guided_grammar", "", kGrammarLater),
    refused("guided_decoding_backend", "", kLeaveOut),
});

// Requests with a plain prompt, and OpenAI's chats.
inline constexpr std::array kChoosingRows = std::to_array<FieldRow>({
    {.name = "typical_p",
     .type = FieldType::kNumber,
     .fallback = "1",
     .range = {.min = 0, .max = 1, .above_min = true},
     .sentence = "Draws from the most typical tokens that make up this probability; 1 means all."},
    {.name = "allowed_token_ids",
     .type = FieldType::kIntegers,
     .range = {.min = 1},
     .sentence = "Only these tokens are generated."},
    {.name = "bad_words",
     .type = FieldType::kTexts,
     .range = kStops,
     .sentence = "Texts that are never generated."},
    {.name = "include_stop_str_in_output",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "Keeps the text that ended the answer."},
    {.name = "spaces_between_special_tokens",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "Has no effect while special tokens are skipped; otherwise only false."},
});

// Chats.
inline constexpr std::array kConversationRows = std::to_array<FieldRow>({
    {.name = "messages",
     .type = FieldType::kList,
     .range = {.min = 1},
     .sentence = "The conversation, at least one message.",
     .required = true,
     .inner = "Message"},
    {.name = "top_logprobs",
     .type = FieldType::kInteger,
     .range = kLogprobs,
     .sentence = "Others to list at each token's place; only with logprobs: true."},
    {.name = "add_generation_prompt",
     .type = FieldType::kBoolean,
     .sentence = "Lets the template open the answer's message. Default: true, unless the final "
                 "message is continued."},
    {.name = "continue_final_message",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "Continues the last message, which is the assistant's."},
    {.name = "chat_template_kwargs",
     .type = FieldType::kObject,
     .sentence = "Variables for the template."},
});

// All of kCommonRows. Without ignore_eos, ignore_end stays as it is.
void read_common(Fields& fields, GenerationFields& out);
// All of kChoosingRows but spaces_between_special_tokens.
void read_choosing(Fields& fields, GenerationFields& out);

}  // namespace tidemill

// The tables of LMI's routes (serving-contract.md 4.3, 4.6; the column of today's vLLM).
#include "api/common_fields.h"

namespace tidemill {
namespace {

constexpr std::string_view kNoBeams = "There is no beam search: use best_of.";
constexpr std::string_view kByRoute = "The path or model_name chooses the model.";
constexpr std::string_view kSample = "Use do_sample, temperature, top_k and top_p.";

constexpr FieldRange kTokens = from_to(0, kMaxCount);
constexpr FieldRange kUpToContext = up_to(0, &RequestLimits::max_model_len, "the model's length");

// What `parameters` and a conversation's top level mean alike. Nothing here comes from the model's
// generation_config.json.
constexpr std::array kBoth = std::to_array<FieldRow>({
    {.name = "top_p",
     .type = FieldType::kNumber,
     .fallback = "1",
     .range = from_to(0, 1),
     .sentence = "Draws from the fewest tokens whose probabilities add up to it; 0 keeps one."},
    {.name = "top_k",
     .type = FieldType::kInteger,
     .fallback = "0",
     .range = from_to(-1, kMaxTopK),
     .sentence = "Draws from the so many most likely tokens; 0 and -1 mean all."},
    {.name = "min_p",
     .type = FieldType::kNumber,
     .fallback = "0",
     .range = from_to(0, 1),
     .sentence = "Drops tokens below this share of the most likely one's probability."},
    {.name = "repetition_penalty",
     .type = FieldType::kNumber,
     .fallback = "1",
     .range = {.min = 0, .max = 10, .above_min = true},
     .sentence = "Weakens tokens of the prompt and of the answer."},
});

constexpr std::array kOnlyParameters = std::to_array<FieldRow>({
    {.name = "max_new_tokens",
     .type = FieldType::kInteger,
     .fallback = "30",
     .range = kTokens,
     .sentence = "Tokens to generate."},
    {.name = "min_new_tokens",
     .type = FieldType::kInteger,
     .fallback = "0",
     .range = kUpToContext,
     .sentence = "Tokens before the answer may end; at most max_new_tokens."},
    {.name = "min_tokens",
     .type = FieldType::kInteger,
     .range = kUpToContext,
     .sentence = "Another name of min_new_tokens, which wins."},
    {.name = "do_sample",
     .type = FieldType::kBoolean,
     .sentence =
         "Draws tokens; false takes the most likely ones. Default: true where a temperature "
         "is given, else false."},
    {.name = "temperature",
     .type = FieldType::kNumber,
     .range = {.min = 0},
     .sentence = "Divides the logits; 0 takes the most likely token. Default when sampling: 1."},
    {.name = "stop_sequences",
     .type = FieldType::kTexts,
     .range = kStops,
     .sentence = "Texts that end an answer, of 1 to 256 bytes each."},
    {.name = "stop",
     .type = FieldType::kTexts,
     .range = kStops,
     .sentence = "Another name of stop_sequences, which wins."},
    {.name = "ignore_eos_token",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "Another name of ignore_eos, which wins."},
    {.name = "n",
     .type = FieldType::kInteger,
     .range = up_to(1, &RequestLimits::max_choices, "max_choices (8)"),
     .sentence = "Sequences to show: the best as the answer, the others in details. Default: 1; "
                 "with details, best_of. Not streamed."},
    {.name = "best_of",
     .type = FieldType::kInteger,
     .range = up_to(1, &RequestLimits::max_choices, "max_choices (8)"),
     .sentence = "Generates so many sequences, at least n, and answers with the most likely. Not "
                 "streamed."},
    {.name = "truncate",
     .type = FieldType::kInteger,
     .range = up_to(1, &RequestLimits::max_model_len, "the model's length"),
     .sentence = "Keeps so many tokens at the end of a prompt."},
    {.name = "details",
     .type = FieldType::kBoolean,
     .sentence = "Adds the tokens, their log-probabilities and why the answer ended. Default: "
                 "false; with tgi_compat true."},
    {.name = "return_full_text",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "Puts the prompt in front of the answer."},
    {.name = "decoder_input_details",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "Adds the prompt's tokens to the details."},
    {.name = "top_n_tokens",
     .type = FieldType::kInteger,
     .fallback = "0",
     .range = kLogprobs,
     .sentence = "So many of the most likely tokens beside each token."},
    {.name = "logprobs",
     .type = FieldType::kInteger,
     .fallback = "0",
     .range = kLogprobs,
     .sentence = "As top_n_tokens, and the larger one counts; 1 is the token's own, which is "
                 "always there."},
    {.name = "prompt_logprobs",
     .type = FieldType::kInteger,
     .range = kLogprobs,
     .sentence = "The prompt's tokens in the details, and so many others at each place."},
    {.name = "output_formatter",
     .type = FieldType::kText,
     .sentence = "json, jsonlines, sse or none: the form of the answer, which wins over stream. "
                 "3p and 3p_stream are refused; other names are ignored and named in "
                 "x-ignored-parameters. Default: the setting output_formatter."},
    no_effect("streaming", "The member stream beside parameters decides."),
    no_effect("use_lru_kv_cache", "The cache always forgets what was used least recently."),
    refused("num_beams", "1", kNoBeams),
    refused("beam_width", "1", kNoBeams),
    refused("length_penalty", "1", kNoBeams),
    refused("use_beam_search", "false", kNoBeams),
    refused("early_stopping", "false", kNoBeams),
    refused("watermark", "false", kLeaveOut),
    refused("min_length", "0", "It counts the prompt, too: use min_new_tokens."),
    refused("penalty_alpha", "", kSample),
    refused("decoding_strategy", "", kSample),
    refused("cached_prompt", "", "The prefix cache needs no hint. Leave it out."),
    refused("response_format", "", kGrammarLater),
    refused("grammar", "", kGrammarLater),
});

constexpr std::array kInvocation = std::to_array<FieldRow>({
    {.name = "inputs",
     .type = FieldType::kTexts,
     .range = {.limit = &RequestLimits::max_prompts, .limit_name = "max_inputs (32)"},
     .sentence = "The text to continue, not empty. A list, even of one, is answered by a list, and "
                 "is not streamed.",
     .required = true},
    {.name = "parameters",
     .type = FieldType::kObject,
     .sentence = "How to generate.",
     .inner = "InvocationParameters"},
    {.name = "stream",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "Answers with a record for each token."},
    no_effect("model", kByRoute),
    refused("adapters", "", "Serve the merged model instead."),
    refused("cached_prompt", "", "The prefix cache needs no hint."),
});

constexpr std::string_view kToolChoices[] = {"none", "auto"};

constexpr std::array kOnlyChat = std::to_array<FieldRow>({
    {.name = "max_tokens",
     .type = FieldType::kInteger,
     .fallback = "30",
     .range = kTokens,
     .sentence = "Tokens to generate."},
    {.name = "max_new_tokens",
     .type = FieldType::kInteger,
     .range = kTokens,
     .sentence = "Another name of max_tokens, which wins."},
    {.name = "min_tokens",
     .type = FieldType::kInteger,
     .fallback = "0",
     .range = kUpToContext,
     .sentence = "Tokens before the answer may end; at most max_tokens."},
    {.name = "temperature",
     .type = FieldType::kNumber,
     .fallback = "1",
     .range = from_to(0, 2),
     .sentence = "Divides the logits; 0 takes the most likely token."},
    {.name = "n",
     .type = FieldType::kInteger,
     .fallback = "1",
     .range = up_to(1, &RequestLimits::max_choices, "max_choices (8)"),
     .sentence = "Answers to the conversation."},
    {.name = "stop",
     .type = FieldType::kTexts,
     .range = kStops,
     .sentence = "Texts that end an answer, of 1 to 256 bytes each."},
    {.name = "logprobs",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "The log-probability of each token."},
    {.name = "tool_choice",
     .type = FieldType::kText,
     .sentence = "There are no tool calls: both mean none.",
     .values = kToolChoices},
    {.name = "stream",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "Answers with a record for each token."},
    {.name = "parameters",
     .type = FieldType::kObject,
     .sentence = "Only output_formatter: everything else stands beside messages.",
     .inner = "InvocationChatParameters"},
    no_effect("model", kByRoute),
    no_effect("user", "Nothing here depends on it."),
    refused("tools", "[]", "Leave it out, and describe the tools in a message."),
    refused("functions", "", "Leave it out, and describe the functions in a message."),
    refused("function_call", "", kLeaveOut),
    refused("response_format", R"({"type":"text"})", "Only {\"type\": \"text\"} is answered."),
});

constexpr std::array kChatParameters = std::to_array<FieldRow>({
    {.name = "output_formatter",
     .type = FieldType::kText,
     .sentence = "json, jsonlines, sse (each also with _chat) or none: the form of the answer, "
                 "which wins over stream. 3p and 3p_stream are refused; other names are ignored "
                 "and named in x-ignored-parameters. Default: the setting output_formatter."},
});

constexpr auto kParametersRows =
    joined(joined(kOnlyParameters, kChoosingRows), joined(kBoth, kCommonRows));
constexpr auto kInvocationChatRows =
    joined(joined(kOnlyChat, kConversationRows), joined(kBoth, kCommonRows));

}  // namespace

const FieldTable kInvocationTable = {"InvocationRequest", kInvocation};
const FieldTable kInvocationParametersTable = {"InvocationParameters", kParametersRows};
const FieldTable kInvocationChatTable = {"InvocationChatRequest", kInvocationChatRows};
const FieldTable kInvocationChatParametersTable = {"InvocationChatParameters", kChatParameters};

}  // namespace tidemill

// The tables of the OpenAI routes (apis.md 5, 8, 9, 13).
#include "api/common_fields.h"

namespace tidemill {
namespace {

constexpr std::string_view kNoUse = "Nothing here depends on it.";

// What both routes mean alike.
constexpr std::array kShared = std::to_array<FieldRow>({
    {.name = "model",
     .type = FieldType::kText,
     .sentence = "A served name; with one model loaded it may be left out. Empty, `dummy` and "
                 "`tgi` name none."},
    {.name = "temperature",
     .type = FieldType::kNumber,
     .fallback = "1",
     .range = from_to(0, 2),
     .sentence = "Divides the logits; 0 takes the most likely token. Default: the model's "
                 "generation_config.json, else 1."},
    {.name = "top_p",
     .type = FieldType::kNumber,
     .fallback = "1",
     .range = from_to(0, 1),
     .sentence = "Draws from the fewest tokens whose probabilities add up to it; 0 keeps one. "
                 "Default: generation_config.json, else 1."},
    {.name = "top_k",
     .type = FieldType::kInteger,
     .fallback = "0",
     .range = from_to(-1, kMaxTopK),
     .sentence = "Draws from the so many most likely tokens; 0 and -1 mean all. Default: "
                 "generation_config.json, else 0."},
    {.name = "min_p",
     .type = FieldType::kNumber,
     .fallback = "0",
     .range = from_to(0, 1),
     .sentence = "Drops tokens below this share of the most likely one's probability. Default: "
                 "generation_config.json, else 0."},
    {.name = "repetition_penalty",
     .type = FieldType::kNumber,
     .fallback = "1",
     .range = {.min = 0, .max = 10, .above_min = true},
     .sentence = "Weakens tokens of the prompt and of the answer. Default: "
                 "generation_config.json, else 1."},
    {.name = "n",
     .type = FieldType::kInteger,
     .fallback = "1",
     .range = up_to(1, &RequestLimits::max_choices, "max_choices (8)"),
     .sentence = "Answers to each prompt."},
    {.name = "stop",
     .type = FieldType::kTexts,
     .range = kStops,
     .sentence = "Texts that end an answer, of 1 to 256 bytes each."},
    {.name = "min_tokens",
     .type = FieldType::kInteger,
     .fallback = "0",
     .range = up_to(0, &RequestLimits::max_model_len, "the model's length"),
     .sentence = "Tokens before the answer may end; at most as many as may be generated."},
    {.name = "clamp_max_tokens",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "Shortens the answer to what the context leaves instead of refusing."},
    {.name = "truncate_prompt_tokens",
     .type = FieldType::kInteger,
     .range = up_to(1, &RequestLimits::max_model_len, "the model's length"),
     .sentence = "Keeps so many tokens at the end of a prompt."},
    {.name = "prompt_logprobs",
     .type = FieldType::kInteger,
     .range = kLogprobs,
     .sentence = "The log-probabilities of the prompt's tokens and of so many others at each "
                 "place. Not with stream."},
    {.name = "return_token_ids",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "Adds the ids of prompt and answer: prompt_token_ids, token_ids."},
    {.name = "return_tokens_as_token_ids",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "Spells the tokens of log-probabilities `token_id:N`."},
    {.name = "priority",
     .type = FieldType::kInteger,
     .fallback = "0",
     .range = from_to(-100, 100),
     .sentence = "Lower comes first."},
    {.name = "cache_salt",
     .type = FieldType::kText,
     .range = from_to(1, 128),
     .sentence = "Prefixes are shared only with requests of the same salt."},
    {.name = "stream",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "Answers with server-sent events."},
    {.name = "stream_options",
     .type = FieldType::kObject,
     .sentence = "Of a stream: include_usage, continuous_usage_stats.",
     .inner = "StreamOptions"},
    no_effect("user", kNoUse),
    no_effect("metadata", kNoUse),
    no_effect("store", kNoUse),
    no_effect("service_tier", kNoUse),
    no_effect("safety_identifier", kNoUse),
    no_effect("prompt_cache_key", "Prefixes are found without a key."),
    no_effect("prompt_cache_retention", kNoUse),
    no_effect("prediction", kNoUse),
    no_effect("verbosity", kNoUse),
    refused("response_format", R"({"type":"text"})", "Only {\"type\": \"text\"} is answered."),
    refused("use_beam_search", "false", "Sample with n instead, and leave it out."),
    refused("length_penalty", "1", "It belongs to beam search. Leave it out or send 1."),
    refused("early_stopping", "false", "It belongs to beam search. Leave it out."),
    refused("logits_processors", "[]", kLeaveOut),
    refused("parse_special", "true", "Control tokens in a prompt's text are always read."),
    refused("kv_transfer_params", "", kLeaveOut),
    refused("mm_processor_kwargs", "", "This model takes text. Leave it out."),
    refused("vllm_xargs", "", kLeaveOut),
    refused("request_id", "", "Send the header x-request-id."),
});

constexpr std::array kCompletion = std::to_array<FieldRow>({
    {.name = "prompt",
     .type = FieldType::kPrompt,
     .sentence = "The text to continue, or its token ids; a list of either gives that many "
                 "prompts.",
     .required = true},
    {.name = "max_tokens",
     .type = FieldType::kInteger,
     .range = from_to(0, kMaxCount),
     .sentence = "Tokens to generate. Default: 16, or what the context leaves if that is less."},
    {.name = "logprobs",
     .type = FieldType::kInteger,
     .range = kLogprobs,
     .sentence = "The log-probability of each token and of so many others at its place; with echo "
                 "of the prompt's tokens, too. top_logprobs names tokens by their texts, and those "
                 "without a text of their own token_id:N."},
    {.name = "echo",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "Puts the prompt in front of the answer."},
    {.name = "best_of",
     .type = FieldType::kInteger,
     .range = up_to(0, &RequestLimits::max_choices, "max_choices (8)"),
     .sentence = "Generates so many answers to each prompt and shows the n most likely. 0 and 1 "
                 "mean n. Not with stream."},
    {.name = "add_special_tokens",
     .type = FieldType::kBoolean,
     .fallback = "true",
     .sentence = "Encodes a text with the tokens that the tokenizer adds around it."},
    refused("suffix", R"("")", "Text is continued, not filled in. Leave it out."),
});

constexpr std::array kChatOnly = std::to_array<FieldRow>({
    {.name = "max_completion_tokens",
     .type = FieldType::kInteger,
     .range = from_to(1, kMaxCount),
     .sentence = "Tokens to generate. Default: what the context leaves."},
    {.name = "max_tokens",
     .type = FieldType::kInteger,
     .range = from_to(1, kMaxCount),
     .sentence = "The former name of max_completion_tokens, which wins."},
    {.name = "logprobs",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "The log-probability of each token. A switch here; top_logprobs is the number."},
    no_effect("parallel_tool_calls", "There are no tool calls."),
    no_effect("include_reasoning", "Reasoning is not told apart from the answer."),
    refused("tools", "", "Leave it out, and describe the tools in a message."),
    refused("tool_choice", R"("none")", "Leave it out or send \"none\"."),
    refused("functions", "", "Its successor tools comes later, too. Leave it out."),
    refused("function_call", "", "Its successor tool_choice comes later, too. Leave it out."),
    refused("modalities", R"(["text"])", "Only text is answered."),
    refused("audio", "", "Only text is answered. Leave it out."),
    refused("web_search_options", "", kLeaveOut),
    refused("reasoning_effort", "",
            "Send chat_template_kwargs if the template knows such a "
            "variable."),
    refused("documents", "[]", "Put them into a message."),
    refused("chat_template", "", "The server's template is used; its setting is chat_template."),
    refused("echo", "false", "Send the text to /v1/completions, which has echo."),
    refused("best_of", "1", "Send the text to /v1/completions, which has best_of."),
    refused("add_special_tokens", "false", "The template writes them."),
});

constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool"};

// Members that nobody here knows reach the template as they are.
constexpr std::array kMessage = std::to_array<FieldRow>({
    {.name = "role",
     .type = FieldType::kText,
     .sentence = "Who says it.",
     .values = kRoles,
     .required = true},
    {.name = "content",
     .type = FieldType::kContent,
     .sentence = "A string, or a list of parts of type text (and of the assistant's, refusal). "
                 "Only the assistant's and a tool's may be missing."},
    {.name = "name", .type = FieldType::kText, .sentence = "Given to the template."},
    {.name = "tool_calls",
     .type = FieldType::kList,
     .sentence = "Of the assistant: calls that it made before, given to the template.",
     .inner = "ToolCall"},
    {.name = "tool_call_id",
     .type = FieldType::kText,
     .sentence = "Of a tool's message, which needs it: the call that it answers."},
    refused("function_call", "", "Send tool_calls."),
});

constexpr std::array kStreamOptions = std::to_array<FieldRow>({
    {.name = "include_usage",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "One more event before the end holds the usage."},
    {.name = "continuous_usage_stats",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "With include_usage, each event holds the usage so far."},
    no_effect("include_obfuscation", "Events are not padded."),
});

constexpr FieldRow kModel = {.name = "model",
                             .type = FieldType::kText,
                             .sentence =
                                 "A served name; with one model loaded it may be left "
                                 "out."};

constexpr std::array kTokenize = std::to_array<FieldRow>({
    kModel,
    {.name = "prompt", .type = FieldType::kText, .sentence = "A text to encode."},
    {.name = "messages",
     .type = FieldType::kList,
     .range = {.min = 1},
     .sentence = "Or a conversation, as /v1/chat/completions takes it.",
     .inner = "Message"},
    {.name = "inputs",
     .type = FieldType::kText,
     .sentence = "Or a text, answered as a list of tokens with their places in it."},
    {.name = "add_special_tokens",
     .type = FieldType::kBoolean,
     .sentence = "Encodes with the tokens that the tokenizer adds. Default: true; of messages, "
                 "only false."},
    {.name = "return_token_strs",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "Adds each token's text."},
    {.name = "add_generation_prompt",
     .type = FieldType::kBoolean,
     .sentence = "Of messages: as /v1/chat/completions."},
    {.name = "continue_final_message",
     .type = FieldType::kBoolean,
     .fallback = "false",
     .sentence = "Of messages: as /v1/chat/completions."},
    {.name = "chat_template_kwargs",
     .type = FieldType::kObject,
     .sentence = "Of messages: as /v1/chat/completions."},
    refused("tools", "", "Leave it out, and describe the tools in a message."),
    refused("documents", "[]", "Put them into a message."),
    refused("chat_template", "", "The server's template is used; its setting is chat_template."),
});

constexpr std::array kDetokenize = std::to_array<FieldRow>({
    kModel,
    {.name = "tokens", .type = FieldType::kIntegers, .sentence = "Token ids.", .required = true},
});

constexpr auto kBothRoutes = joined(kShared, joined(kChoosingRows, kCommonRows));
constexpr auto kCompletionRows = joined(kCompletion, kBothRoutes);
constexpr auto kChatRows = joined(joined(kChatOnly, kConversationRows), kBothRoutes);

}  // namespace

const FieldTable kCompletionTable = {"CompletionRequest", kCompletionRows};
const FieldTable kChatTable = {"ChatRequest", kChatRows};
const FieldTable kMessageTable = {"Message", kMessage};
const FieldTable kStreamOptionsTable = {"StreamOptions", kStreamOptions};
const FieldTable kTokenizeTable = {"TokenizeRequest", kTokenize};
const FieldTable kDetokenizeTable = {"DetokenizeRequest", kDetokenize};

}  // namespace tidemill

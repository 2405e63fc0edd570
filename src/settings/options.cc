#include "settings/options.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "settings/inherited_options.h"

namespace tidemill {
namespace {

constexpr std::string_view kDtypes[] = {"auto", "bf16", "fp16", "fp32"};
constexpr std::string_view kIsas[] = {"auto", "reference", "avx2", "avx512", "amx"};
constexpr std::string_view kQuantizations[] = {
    "none",     "int8",         "int8_g32",     "int8_g64",      "int8_g128",
    "w8a8",     "dynamic_int8", "bitsandbytes", "bitsandbytes8", "int4",
    "int4_g32", "int4_g64",     "int4_g128",    "bitsandbytes4"};
constexpr std::string_view kActivations[] = {"int8", "int16"};
constexpr std::string_view kCacheTypes[] = {"auto", "int8"};
constexpr std::string_view kWeightMemories[] = {"auto", "mapped", "huge_pages"};
constexpr std::string_view kFormatters[] = {"json",      "jsonlines",      "sse",     "none",
                                            "json_chat", "jsonlines_chat", "sse_chat"};
constexpr std::string_view kCompat[] = {"0.25.0"};
constexpr std::string_view kDegrees[] = {"1", "max"};
constexpr std::string_view kEndpoints[] = {"/v1/completions", "/v1/chat/completions",
                                           "/invocations"};
constexpr std::string_view kGenerationConfigs[] = {"auto", "none"};
constexpr std::string_view kLogprobsModes[] = {"raw", "processed"};
constexpr std::string_view kSpeculations[] = {"auto", "ngram", "off"};
constexpr std::string_view kLogLevels[] = {"debug", "info", "warning", "error", "off"};
constexpr std::string_view kLogFormats[] = {"text", "json"};

constexpr double kDaySeconds = 24 * 3600;

constexpr OptionScope kModel = OptionScope::kModel;
constexpr OptionScope kServer = OptionScope::kServer;
constexpr OptionScope kVerb = OptionScope::kVerb;
constexpr OptionClass kDoesIt = OptionClass::kDoesIt;

// Which verbs have a row as a flag.
constexpr std::string_view kServe = "serve";
constexpr std::string_view kTalks = "serve generate chat";                        // answer prompts
constexpr std::string_view kPlans = "serve generate chat bench inspect";          // plan memory
constexpr std::string_view kComputes = "serve generate chat bench eval inspect";  // need kernels
constexpr std::string_view kWorks =
    "serve compile generate chat bench eval inspect";  // start workers

// Every setting of the product, once; inherited_options.h has those that do nothing here.
// serving.properties spells a model row `option.NAME` and a server row `NAME`; the environment
// `OPTION_NAME` and `SERVING_NAME`; the command line `--name`. Defaults are in the module's own
// struct.
#define IN(member) [](Settings& s) -> Slot { return &s.member; }
#define SECONDS(member) [](Settings& s) -> Slot { return SecondsSlot{&s.member}; }
constexpr Option kOptions[] = {
    // Which model.
    {"model_id", kModel, kDoesIt, IN(model.model_id), any(),
     "Folder of a checkpoint, GGUF file, engine directory, or script:FILE.", "", "HF_MODEL_ID"},
    {"model_name", kServer, kDoesIt, IN(model.model_name), any(),
     "Name on /predictions/{name} and in /ping; default: the folder's name.", kServe},
    {"served_model_name", kModel, kDoesIt, IN(model.served_names), any(),
     "Names under which the model answers, the canonical one first.", kServe},
    {"model_store", kServer, kDoesIt, IN(model_store), any(),
     "Folder that is the model's, or holds the model's folder; default /opt/ml/model."},
    {"load_models", kServer, kDoesIt, IN(load_models), any(),
     "NAME::ENGINE=FOLDER of the one model to load, as the original spells it."},
    {"dtype", kModel, kDoesIt, IN(model.dtype), one_of(kDtypes),
     "fp32 computes everything in f32; bf16 and fp16 store weights and KV in bf16; so does auto, "
     "but it keeps the integers of a GGUF file."},
    {"data_type", kModel, kDoesIt, IN(model.dtype), one_of(kDtypes), "Old name of dtype."},
    {"quantize", kModel, kDoesIt, IN(model.quantize), one_of(kQuantizations),
     "Rounds the layers' weights to nearest: int8 (groups of 128), int4 (groups of 64, zero "
     "points), w8a8 or dynamic_int8 (one scale for each channel and each token); bitsandbytes and "
     "bitsandbytes8 are int8 here, bitsandbytes4 is int4. Activations are rounded with them, as "
     "activations says; the head is int8 with 16-bit activations."},
    {"activations", kModel, kDoesIt, IN(model.activations), one_of(kActivations),
     "What products with int8 and int4 weights read: int8 is fast; int16 is more exact than bf16 "
     "and takes twice the arithmetic of int8.",
     kComputes},
    {"kv_cache_dtype", kModel, kDoesIt, IN(model.kv_cache_dtype), one_of(kCacheTypes),
     "What keys and values are kept in: auto has the type of dtype; int8 takes half of bf16's "
     "memory and reading, with a scale for each token and head. Of 8 bits there is int8 alone, not "
     "fp8.",
     kComputes},
    {"weight_memory", kModel, kDoesIt, IN(model.weight_memory), one_of(kWeightMemories),
     "Where weights are while the model is served: mapped, in the page cache, which programs "
     "share; huge_pages, in a copy of this process's own, which steps of a few rows read a tenth "
     "faster; auto copies them where the system gives huge pages and the engine was not compiled "
     "into memory.",
     "serve generate chat bench"},
    {"chat_template", kModel, kDoesIt, IN(model.chat_template), any(),
     "File with a chat template that replaces the checkpoint's.", kTalks},
    {"generation_config", kModel, kDoesIt, IN(model.generation_config), one_of(kGenerationConfigs),
     "none: /v1 ignores the sampling defaults of the model's generation_config.json.", kServe},
    {"output_formatter", kModel, kDoesIt, IN(model.output_formatter), one_of(kFormatters),
     "Form of answers on /invocations, whatever a request's stream says; without it, json, or "
     "jsonlines where stream is true. Answers to messages have the same framing, with or without "
     "_chat.",
     kServe},
    {"lmi_compat", kModel, kDoesIt, IN(server.lmi.compat), one_of(kCompat),
     "Answers on /invocations have the bytes of that version: always streamed, errors of the model "
     "behind status 200. Default: today's.",
     kServe},
    {"tgi_compat", kModel, kDoesIt, IN(server.lmi.tgi_compat), any(),
     "Answers on /invocations as TGI's clients read them: a list around the answer, details, "
     "logprob and special; event streams where stream is true.",
     kServe},
    {"tensor_parallel_degree", kModel, kDoesIt, IN(model.tensor_parallel_degree), one_of(kDegrees),
     "Ranks that share one copy of the model. One rank uses all cores, and more ranks come with a "
     "later release: use 1 or max.",
     "", "TENSOR_PARALLEL_DEGREE"},
    // How it runs.
    {"max_rolling_batch_size", kModel, kDoesIt, IN(executor.scheduler.max_sequences),
     between(1, 1024), "Most sequences that run in one step.", kPlans},
    {"max_preemptions", kServer, kDoesIt, IN(executor.scheduler.max_preemptions), between(0, 16),
     "So often a sequence may lose its KV blocks to older ones; then all it may need is set aside "
     "for it.",
     kServe},
    {"max_rolling_batch_prefill_tokens", kModel, kDoesIt, IN(executor.scheduler.max_step_tokens),
     between(1, 65536), "Token budget of a step: decodes first, then chunks of prompts.", kPlans},
    {"mixed_step_tokens", kModel, kDoesIt, IN(executor.scheduler.mixed_step_tokens),
     between(0, 65536),
     "Token budget of a step that has decodes, whose next tokens wait for the prompts in it; 64, "
     "or 32 of less than 128, go to a prompt however many decodes there are. 0: what the "
     "calibration found free, from 128 to 512; from 160 where 32 are free; where 128 tokens take "
     "longer than 0.05 s, 96 if 8 to 31 are free and 64 if fewer; 64 where they take longer than "
     "0.25 s, 48 where 64 take longer than 0.5 s.",
     kTalks},
    {"max_step_ms", kModel, kDoesIt, IN(executor.max_step_ms), between(0, 60000),
     "Milliseconds of a step that prompts are cut into chunks for: what decodes leave of it, at "
     "least 32 tokens. Steps aim at it and may take longer where times vary; 0: "
     "mixed_step_tokens and max_rolling_batch_prefill_tokens decide.",
     kTalks},
    {"busy_log_interval", kServer, kDoesIt, SECONDS(executor.busy_log_ms), between(0, kDaySeconds),
     "Between two lines of the log that say how much was computed, while there is something; 0: "
     "none.",
     kServe},
    {"max_model_len", kModel, kDoesIt, IN(executor.max_model_len), between(1, 134217728),
     "Most tokens of prompt and answer together; default: what the model was made for.", kPlans},
    {"kv_cache_bytes", kModel, kDoesIt, IN(model.kv_cache_bytes), between(1, 1e15),
     "Memory for keys and values; default: what the running sequences can use, at most 0.9 of what "
     "is left after the weights.",
     kPlans},
    {"enable_prefix_caching", kModel, kDoesIt, IN(executor.scheduler.prefix_cache), any(),
     "Keeps computed blocks for prompts that begin alike.", kTalks},
    {"speculative", kModel, kDoesIt, IN(executor.scheduler.speculative), one_of(kSpeculations),
     "ngram: where the last tokens of a text have stood in it before, those behind them are "
     "computed with the next one, and kept where they are what would have been said; the text is "
     "the same. auto: as many as cannot make an answer more than 3 % slower even where all are "
     "wrong, by what steps took in the calibration.",
     kTalks},
    {"speculative_length", kModel, kDoesIt, IN(executor.scheduler.speculative_length),
     between(1, 15), "Most tokens that a step computes ahead of a sequence.", kTalks},
    {"speculative_draft_model", kModel, kDoesIt, IN(model.draft_model), any(),
     "Folder, GGUF file or engine directory of a smaller model with the same tokens, which guesses "
     "what comes next; the guesses are computed with the next token and kept where they are what "
     "would have been said: the text is the same. How many of them, up to speculative_length, by "
     "what they were worth lately.",
     kTalks},
    {"speculative_draft_quantize", kModel, kDoesIt, IN(model.draft_quantize),
     one_of(kQuantizations), "As quantize, for the draft model; default: as quantize.", kTalks},
    {"logprobs_mode", kModel, kDoesIt, IN(executor.logprobs_mode), one_of(kLogprobsModes),
     "raw: log-probabilities of generated tokens are of the model's own logits; processed: of what "
     "was drawn from, behind bias, masks, penalties, temperature and cuts. A prompt's are raw.",
     kTalks},
    {"model_loading_timeout", kModel, kDoesIt, SECONDS(model.loading_timeout_ms),
     between(0.001, kDaySeconds), "A model that is not ready by then has failed.", kServe,
     "MODEL_LOADING_TIMEOUT"},
    {"isa", kModel, kDoesIt, IN(model.isa), one_of(kIsas),
     "Kernel variant; auto takes the fastest that runs here.", kComputes},
    {"threads", kServer, kDoesIt, IN(workers.num_threads), between(0, 1024),
     "Workers that compute; 0: one per usable core."},
    {"pin_threads", kServer, kDoesIt, IN(workers.pin), any(), "Each worker stays on its core.",
     kWorks},
    {"cache_dir", kServer, kDoesIt, IN(model.cache_dir), any(),
     "Where compiled models are kept; default $XDG_CACHE_HOME/tidemill, else "
     "$HOME/.cache/tidemill, else /tmp/tidemill-cache. Must be yours alone to write.",
     kWorks},
    {"calibration", kModel, kDoesIt, IN(model.calibration), any(),
     "What this machine can do, in half a second once: auto measures it and keeps it in "
     "CACHE_DIR/calibration; off; or such a file, which then holds whatever the machine does.",
     kPlans},
    // The server.
    {"inference_address", kServer, kDoesIt, IN(inference_address), any(),
     "http://HOST:PORT or https://HOST:PORT to listen on; default http://0.0.0.0:8080.", kServe},
    {"port", kServer, kDoesIt, IN(server.port), between(0, 65535),
     "Port to listen on; 0 takes a free one and prints it.", kServe, "SAGEMAKER_BIND_TO_PORT"},
    {"host", kServer, kDoesIt, IN(server.host), any(), "Address to listen on.", kServe},
    {"job_queue_size", kServer, kDoesIt, IN(executor.job_queue_size), between(1, 100000),
     "Sequences that may wait; the next request is refused.", kServe},
    {"certificate_file", kServer, kDoesIt, IN(server.tls.certificate_file), any(),
     "PEM file with the server's certificate and those that it hangs on. With private_key_file, "
     "the port speaks TLS 1.2 and later, and nothing else.",
     kServe},
    {"private_key_file", kServer, kDoesIt, IN(server.tls.private_key_file), any(),
     "PEM file with the key of that certificate, without a password.", kServe},
    // Who may ask.
    {"api_key", kServer, kDoesIt, IN(server.gate.api_key), any(),
     "Key that every request needs, but for health. Others see a command line: set it in the "
     "environment, or use api_key_file.",
     kServe},
    {"api_key_file", kServer, kDoesIt, IN(server.gate.api_key_file), any(),
     "File with one `name key` a line, each of which is let in; read again when it changes. The "
     "log shows the names.",
     kServe},
    {"metrics_open", kServer, kDoesIt, IN(server.gate.metrics_open), any(),
     "/metrics needs no key.", kServe},
    {"cors_allowed_origin", kServer, kDoesIt, IN(server.gate.cors_allowed_origin), any(),
     "Origin whose pages may ask from a browser, or *; default: no answer speaks of origins.",
     kServe},
    {"cors_allowed_methods", kServer, kDoesIt, IN(server.gate.cors_allowed_methods), any(),
     "Methods that those pages may use.", kServe},
    {"cors_allowed_headers", kServer, kDoesIt, IN(server.gate.cors_allowed_headers), any(),
     "Headers that those pages may send.", kServe},
    // What one client may take. Sizes are bytes, times seconds.
    {"max_request_line_size", kServer, kDoesIt, IN(server.head.request_line), between(16, 65536),
     "Most bytes of a request's first line; a longer one is answered 414.", kServe},
    {"max_header_size", kServer, kDoesIt, IN(server.max_head_bytes), between(64, 262144),
     "Most bytes of a request's head, its first line included; a longer one is answered 431.",
     kServe},
    {"max_header_count", kServer, kDoesIt, IN(server.head.num_fields), between(1, 1000),
     "Most fields of a head; more are answered 431.", kServe},
    {"max_header_field_size", kServer, kDoesIt, IN(server.head.field), between(16, 262144),
     "Most bytes of one field of a head, its name included; a longer one is answered 431.", kServe},
    {"header_timeout", kServer, kDoesIt, SECONDS(server.header_timeout_ms), between(1, 60),
     "A head that has not arrived by then is answered 408.", kServe},
    {"max_request_size", kServer, kDoesIt, IN(server.max_request_size), between(1, 1073741824),
     "Most bytes of a request's body; a longer one is answered 413.", kServe},
    {"max_body_chunks", kServer, kDoesIt, IN(server.body.num_chunks), between(1, 1048576),
     "Most chunks of a body; more are answered 400.", kServe},
    {"max_chunk_extension_size", kServer, kDoesIt, IN(server.body.chunk_extension),
     between(0, 4096), "Most bytes behind the size of a chunk; more are answered 400.", kServe},
    {"max_trailer_size", kServer, kDoesIt, IN(server.body.trailers), between(0, 65536),
     "Most bytes of the fields behind a body; more are answered 400.", kServe},
    {"body_timeout", kServer, kDoesIt, SECONDS(server.body_timeout_ms), between(1, 600),
     "A body of which nothing comes for so long is answered 408.", kServe},
    {"body_grace_time", kServer, kDoesIt, SECONDS(server.body_grace_ms), between(1, 600),
     "So long a body may be slower than body_min_rate; then it is answered 408.", kServe},
    {"body_min_rate", kServer, kDoesIt, IN(server.body_min_rate), between(1, 1048576),
     "Bytes a second that a body brings, on the average.", kServe},
    {"keep_alive_timeout", kServer, kDoesIt, SECONDS(server.keep_alive_ms), between(1, 3600),
     "A connection that is idle for so long between two requests is closed.", kServe},
    {"max_pipelined_requests", kServer, kDoesIt, IN(server.max_pipelined_requests), between(1, 64),
     "Requests of a connection that are read ahead while one is answered.", kServe},
    {"max_connections", kServer, kDoesIt, IN(server.max_connections), between(16, 1048576),
     "Connections that are open at once, at most 128 less than files may be; further ones wait "
     "until one is closed.",
     kServe},
    {"reserved_connections", kServer, kDoesIt, IN(server.reserved_connections), between(1, 64),
     "The last of max_connections, which are kept for health.", kServe},
    {"heap_budget", kServer, kDoesIt, IN(server.heap_budget), between(1048576, 1e15),
     "Bytes that requests may take beside the model; at 98 % new ones are answered 503; default: "
     "what the memory plan leaves, at least 256 MiB.",
     kServe},
    {"max_json_depth", kServer, kDoesIt, IN(server.max_json_depth), between(1, 256),
     "Deepest nesting of a body.", kServe},
    {"max_json_values", kServer, kDoesIt, IN(server.max_json_values), between(1, 10000000),
     "Most values of a body, those of lists and objects included.", kServe},
    {"max_inputs", kServer, kDoesIt, IN(executor.request.max_prompts), between(1, 1024),
     "Most prompts of a request.", kServe},
    {"max_prompt_bytes_per_token", kServer, kDoesIt,
     IN(executor.request.max_prompt_bytes_per_token), between(1, 1048576),
     "Most bytes of a prompt, times the tokens of max_model_len; a longer one is refused before it "
     "is read as tokens. No prompt is longer than max_request_size.",
     kServe},
    {"max_choices", kServer, kDoesIt, IN(executor.request.max_choices), between(1, 64),
     "Most answers to one prompt: n and best_of.", kServe},
    {"max_stop_sequences", kServer, kDoesIt, IN(executor.request.max_stop_strings), between(0, 64),
     "Most stop strings of a request.", kServe},
    {"max_stop_sequence_size", kServer, kDoesIt, IN(executor.request.max_stop_string_bytes),
     between(1, 4096), "Most bytes of a stop string.", kServe},
    {"max_stop_token_ids", kServer, kDoesIt, IN(executor.request.max_stop_token_ids),
     between(0, 1024), "Most stop_token_ids of a request.", kServe},
    {"max_logit_bias", kServer, kDoesIt, IN(executor.request.max_logit_bias), between(0, 1000000),
     "Most entries of logit_bias.", kServe},
    {"max_template_steps", kServer, kDoesIt, IN(model.template_limits.max_steps),
     between(1, 100000000), "Most instructions that the chat template may take for a conversation.",
     kServe},
    {"max_template_depth", kServer, kDoesIt, IN(model.template_limits.max_depth), between(1, 500),
     "Deepest nesting of calls inside the chat template.", kServe},
    {"max_template_output_size", kServer, kDoesIt, IN(model.template_limits.max_output_bytes),
     between(1, 67108864), "Most bytes that the chat template may make of a conversation.", kServe},
    {"stream_pause_size", kServer, kDoesIt, IN(executor.stream_pause_bytes), between(1024, 4194304),
     "Bytes of a stream that may lie unread, or wait for its socket; beyond them its sequence "
     "pauses.",
     kServe},
    {"stream_resume_size", kServer, kDoesIt, IN(executor.stream_resume_bytes), between(0, 4194304),
     "Unread bytes at which it goes on; at most stream_pause_size.", kServe},
    {"queue_timeout", kServer, kDoesIt, SECONDS(executor.queue_timeout_ms), between(1, kDaySeconds),
     "A request that has not begun by then ends.", kServe},
    {"request_timeout", kServer, kDoesIt, SECONDS(executor.request_timeout_ms),
     between(1, kDaySeconds), "A request that has not ended by then ends.", kServe},
    {"step_watchdog", kServer, kDoesIt, SECONDS(executor.step_watchdog_ms), between(1, 600),
     "When no step has completed for so long, and for 20 times the longest, health says 503.",
     kServe},
    {"predict_timeout", kModel, kDoesIt, SECONDS(executor.predict_timeout_ms),
     between(1, kDaySeconds), "The most that a step may take before health says 503.", kServe,
     "PREDICT_TIMEOUT"},
    {"stalled_step_exit", kServer, kDoesIt, SECONDS(executor.stalled_step_exit_ms),
     between(0, kDaySeconds),
     "The program ends with code 1 when a step has not come back for so long; 0: never.", kServe},
    {"stall_timeout", kServer, kDoesIt, SECONDS(server.stall_timeout_ms), between(1, 600),
     "A stream whose reader takes nothing for so long is cancelled.", kServe},
    {"sse_ping_interval", kServer, kDoesIt, SECONDS(server.sse_ping_interval_ms), between(0, 3600),
     "A comment keeps quiet event streams open; 0: none.", kServe},
    {"drain_time", kServer, kDoesIt, SECONDS(server.drain_time_ms), between(0, 600),
     "After SIGTERM running requests may take so long.", kServe},
    {"bad_request_http_code", kServer, kDoesIt, IN(server.lmi.codes.bad_request), between(400, 599),
     "Status of bad requests on /invocations; default: 400 from the front, 424 from the model's "
     "side.",
     kServe},
    {"wlm_error_http_code", kServer, kDoesIt, IN(server.lmi.codes.not_ready), between(400, 599),
     "Status on /invocations while a model is loading, failed or draining.", kServe},
    {"throttle_error_http_code", kServer, kDoesIt, IN(server.lmi.codes.queue_full),
     between(400, 599), "Status on /invocations when the queue is full.", kServe},
    {"timeout_http_code", kServer, kDoesIt, IN(server.lmi.codes.timeout), between(400, 599),
     "Status on /invocations when queue_timeout or request_timeout ended a request; the original's "
     "was 400.",
     kServe},
    {"server_error_http_code", kServer, kDoesIt, IN(server.lmi.codes.server_error),
     between(400, 599), "Status on /invocations of an internal error.", kServe},
    {"rolling_batch_buffer", kServer, kDoesIt, IN(server.lmi.rolling_batch_buffer),
     between(0, 1024),
     "With lmi_compat: token events in one HTTP chunk, behind a first one of its own.", kServe},
    {"wait_model_loading", kServer, kDoesIt, IN(server.wait_model_loading), any(),
     "true: the port opens only when the model is ready, as the original does.", kServe},
    {"strict_parameters", kServer, kDoesIt, IN(model.strict_parameters), any(),
     "Unknown fields of a request are refused instead of ignored.", kServe},
    {"strict", kServer, kDoesIt, IN(strict), any(), "An unknown setting is an error."},
    {"log_level", kServer, kDoesIt, IN(verb.log_level), one_of(kLogLevels), "What is logged."},
    {"log_format", kServer, kDoesIt, IN(verb.log_format), one_of(kLogFormats),
     "Log lines as text or JSON."},
    // What only a verb reads.
    {"out", kVerb, kDoesIt, IN(verb.out), any(), "Engine directory to write.", "compile"},
    {"prompt", kVerb, kDoesIt, IN(verb.prompt), any(), "Text to continue.", "generate"},
    {"file", kVerb, kDoesIt, IN(verb.file), any(),
     "generate: a JSONL file; a line is {\"prompt\": TEXT}, {\"ids\": [ID, ...]} or "
     "{\"messages\": [...]}, with max_new_tokens where it differs. eval: text for perplexity.",
     "generate eval"},
    {"reference", kVerb, kDoesIt, IN(verb.reference), any(),
     "Folder with a reference implementation's outputs to compare with: expected.json and "
     "expected.safetensors, or greedy.json and logits.safetensors.",
     "eval"},
    {"window", kVerb, kDoesIt, IN(verb.window), between(2, 1048576),
     "Tokens of one window of perplexity.", "eval"},
    {"windows", kVerb, kDoesIt, IN(verb.num_windows), between(0, 1e9),
     "Most windows to score; 0: all.", "eval"},
    {"chat", kVerb, kDoesIt, IN(verb.chat), any(),
     "The prompt is a user's message for the chat template.", "generate"},
    {"system", kVerb, kDoesIt, IN(verb.system), any(), "System message.", "chat generate"},
    {"max_new_tokens", kVerb, kDoesIt, IN(verb.max_new_tokens), between(1, 1e9),
     "Most tokens of an answer.", "generate chat"},
    {"temperature", kVerb, kDoesIt, IN(verb.temperature), between(0, 100), "0: greedy.",
     "generate chat bench"},
    {"top_k", kVerb, kDoesIt, IN(verb.top_k), between(-1, 1e9), "0: off.", "generate chat"},
    {"top_p", kVerb, kDoesIt, IN(verb.top_p), between(0, 1), "1: off.", "generate chat"},
    {"typical_p", kVerb, kDoesIt, IN(verb.typical_p), between(0, 1), "1: off.", "generate chat"},
    {"min_p", kVerb, kDoesIt, IN(verb.min_p), between(0, 1), "0: off.", "generate chat"},
    {"repetition_penalty", kVerb, kDoesIt, IN(verb.repetition_penalty), between(0, 10),
     "More than 1 against tokens of prompt and answer; 1: off.", "generate chat"},
    {"frequency_penalty", kVerb, kDoesIt, IN(verb.frequency_penalty), between(-2, 2),
     "Against tokens of the answer, as often as they are there; 0: off.", "generate chat"},
    {"presence_penalty", kVerb, kDoesIt, IN(verb.presence_penalty), between(-2, 2),
     "Against tokens of the answer, once; 0: off.", "generate chat"},
    {"seed", kVerb, kDoesIt, IN(verb.seed), any(),
     "Equal seeds give equal text, and to bench equal prompts and arrivals.",
     "generate chat bench"},
    {"logprobs", kVerb, kDoesIt, IN(verb.num_logprobs), between(-1, 20),
     "Log-probabilities beside each token.", "generate"},
    {"ignore_end", kVerb, kDoesIt, IN(verb.ignore_end), any(),
     "Go on after an end-of-sequence token.", "generate"},
    {"prompt_tokens", kVerb, kDoesIt, IN(verb.prompt_tokens), between(1, 1e6),
     "Length of the prompts.", "bench"},
    {"decode_tokens", kVerb, kDoesIt, IN(verb.decode_tokens), between(1, 1e6),
     "Tokens that each sequence decodes while it is measured, in rounds.", "bench"},
    {"grid", kVerb, kDoesIt, IN(verb.grid), any(),
     "Measure prefill of 128 to 8192 tokens and decode of 1 to 64 sequences at contexts of 128 to "
     "4096.",
     "bench"},
    {"kernels", kVerb, kDoesIt, IN(verb.kernels), any(),
     "Measure what a step is made of, each kernel by itself on the model's own weights.", "bench"},
    {"cell_seconds", kVerb, kDoesIt, IN(verb.cell_seconds), between(0, 86400),
     "Each line of a bench is measured for so many seconds, but for three rounds at least; of the "
     "grid, what takes longer before its first round is left out.",
     "bench"},
    {"concurrency", kVerb, kDoesIt, IN(verb.concurrency), any(),
     "Numbers of sequences to measure with, separated by commas; default 1,4,16. With url: "
     "requests in flight, default 16; with request_rate a bound, default none.",
     "bench"},
    // bench with a running server.
    {"url", kVerb, kDoesIt, IN(verb.load.url), any(),
     "http://HOST:PORT or https://HOST:PORT of a running server to measure; the model is then a "
     "name to send, default "
     "the first of /v1/models.",
     "bench"},
    {"cacert", kVerb, kDoesIt, IN(verb.load.cacert), any(),
     "PEM file that the certificate of an https:// server hangs on, or the certificate itself; it "
     "is trusted beside those of this machine.",
     "bench"},
    {"endpoint", kVerb, kDoesIt, IN(verb.load.endpoint), one_of(kEndpoints),
     "Route that is measured.", "bench"},
    {"api_key", kVerb, kDoesIt, IN(verb.load.api_key), any(), "Key to send as a bearer.", "bench"},
    {"stream", kVerb, kDoesIt, IN(verb.load.stream), any(), "Ask for streams.", "bench"},
    {"ignore_eos", kVerb, kDoesIt, IN(verb.load.ignore_eos), any(),
     "Ask for the full length of every answer.", "bench"},
    {"num_prompts", kVerb, kDoesIt, IN(verb.load.num_prompts), between(1, 1e7), "Requests to send.",
     "bench"},
    {"duration", kVerb, kDoesIt, SECONDS(verb.load.duration_ms), between(0, kDaySeconds),
     "Send for so many seconds instead of a number of requests, then wait for what runs.", "bench"},
    {"request_rate", kVerb, kDoesIt, IN(verb.load.request_rate), between(0, 1e5),
     "Requests that arrive per second, whatever the server does; 0: a closed loop.", "bench"},
    {"burstiness", kVerb, kDoesIt, IN(verb.load.burstiness), between(0.01, 1e4),
     "Shape of the gamma distribution of the gaps between arrivals; 1: a Poisson process.",
     "bench"},
    {"num_warmups", kVerb, kDoesIt, IN(verb.load.num_warmups), between(0, 1e5),
     "Requests that are sent before the clock starts, and not counted.", "bench"},
    {"random_input_len", kVerb, kDoesIt, IN(verb.load.random_input_len), between(1, 1e6),
     "Token ids of a made-up prompt for /v1/completions; words for the other routes.", "bench"},
    {"random_output_len", kVerb, kDoesIt, IN(verb.load.random_output_len), between(1, 1e6),
     "Most tokens of an answer.", "bench"},
    {"random_range_ratio", kVerb, kDoesIt, IN(verb.load.random_range_ratio), between(0, 1),
     "Made-up lengths lie within this share of the two above.", "bench"},
    {"random_vocab_size", kVerb, kDoesIt, IN(verb.load.random_vocab_size), between(33, 1e7),
     "Made-up token ids lie between 32 and this.", "bench"},
    {"dataset", kVerb, kDoesIt, IN(verb.load.dataset), any(),
     "File with one prompt or one JSON body a line, taken in turn.", "bench"},
    {"goodput", kVerb, kDoesIt, IN(verb.load.goodput), any(),
     "Bounds in milliseconds that make a request good: ttft:200,tpot:50,e2el:5000.", "bench"},
    {"metric_percentiles", kVerb, kDoesIt, IN(verb.load.metric_percentiles), any(),
     "Percentiles to print, separated by commas.", "bench"},
    {"save_result", kVerb, kDoesIt, IN(verb.load.save_result), any(),
     "File for the results, one JSON object for each number of concurrency.", "bench"},
    {"answer_timeout", kVerb, kDoesIt, SECONDS(verb.load.answer_timeout_ms),
     between(1, kDaySeconds), "Seconds for one whole answer.", "bench"},
    {"json", kVerb, kDoesIt, IN(verb.json), any(), "Print JSON.", "bench eval inspect generate"},
    {"print_settings", kVerb, kDoesIt, IN(verb.print_settings), any(),
     "Print the reference page of all settings.", "inspect"},
    {"print_api", kVerb, kDoesIt, IN(verb.print_api), any(),
     "Print the reference page of all routes and their fields.", "inspect"},
};
#undef SECONDS
#undef IN

}  // namespace

std::span<const Option> all_options() {
  static constexpr auto kAll = [] {
    std::array<Option, std::size(kOptions) + std::size(inherited::kOptions)> all{};
    std::ranges::copy(inherited::kOptions, std::ranges::copy(kOptions, all.begin()).out);
    return all;
  }();
  return kAll;
}

}  // namespace tidemill

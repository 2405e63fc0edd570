#include "settings/options.h"

#include "base/check.h"

namespace tidemill {
namespace {

constexpr std::string_view kDtypes[] = {"auto", "bf16", "fp16", "fp32"};
constexpr std::string_view kIsas[] = {"auto", "reference", "avx2", "avx512"};
constexpr std::string_view kFormatters[] = {"json",      "jsonlines",      "sse",     "none",
                                            "json_chat", "jsonlines_chat", "sse_chat"};
constexpr std::string_view kCompat[] = {"0.25.0"};
constexpr std::string_view kDegrees[] = {"1", "max"};
constexpr std::string_view kEndpoints[] = {"/v1/completions", "/v1/chat/completions",
                                           "/invocations"};
constexpr std::string_view kGenerationConfigs[] = {"auto", "none"};
constexpr std::string_view kLogprobsModes[] = {"raw", "processed"};
constexpr std::string_view kLogLevels[] = {"debug", "info", "warning", "error", "off"};
constexpr std::string_view kLogFormats[] = {"text", "json"};

constexpr std::string_view kPlanSays =
    "what does not fit is refused when the model is loaded; kv_cache_bytes sets the KV cache";
constexpr std::string_view kJava = "it concerns the Java engines of the original";
constexpr std::string_view kOneThread = "one thread moves bytes";
constexpr std::string_view kTlsProxy = "Put a proxy that speaks TLS in front of the server.";
constexpr std::string_view kCorsProxy =
    "Put a proxy that sends these headers in front of the server.";
constexpr std::string_view kNoPython = "no Python runs here";

constexpr double kDaySeconds = 24 * 3600;

constexpr OptionScope kModel = OptionScope::kModel;
constexpr OptionScope kServer = OptionScope::kServer;
constexpr OptionScope kVerb = OptionScope::kVerb;
constexpr OptionClass kDoesIt = OptionClass::kDoesIt;
constexpr OptionClass kNoEffect = OptionClass::kNoEffect;
constexpr OptionClass kNotYet = OptionClass::kNotYet;

// Which verbs have a row as a flag.
constexpr std::string_view kServe = "serve";
constexpr std::string_view kTalks = "serve generate chat";                        // answer prompts
constexpr std::string_view kPlans = "serve generate chat bench inspect";          // plan memory
constexpr std::string_view kComputes = "serve generate chat bench eval inspect";  // need kernels
constexpr std::string_view kWorks = "serve compile generate chat bench eval";     // start workers

// Every setting of the product, once. serving.properties spells a model row `option.NAME` and a
// server row `NAME`; the environment `OPTION_NAME` and `SERVING_NAME`; the command line `--name`.
// Defaults are in the module's own struct.
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
     "fp32 computes everything in f32; bf16, auto and fp16 store weights and KV in bf16."},
    {"data_type", kModel, kDoesIt, IN(model.dtype), one_of(kDtypes), "Old name of dtype."},
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
    {"max_rolling_batch_prefill_tokens", kModel, kDoesIt, IN(executor.scheduler.max_step_tokens),
     between(1, 65536), "Token budget of a step: decodes first, then chunks of prompts.", kPlans},
    {"max_model_len", kModel, kDoesIt, IN(executor.max_model_len), between(1, 134217728),
     "Most tokens of prompt and answer together; default: what the model was made for.", kPlans},
    {"kv_cache_bytes", kModel, kDoesIt, IN(model.kv_cache_bytes), between(1, 1e15),
     "Memory for keys and values; default: what the running sequences can use, at most 0.9 of what "
     "is left after the weights.",
     kPlans},
    {"enable_prefix_caching", kModel, kDoesIt, IN(executor.scheduler.prefix_cache), any(),
     "Keeps computed blocks for prompts that begin alike.", kTalks},
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
    // The server.
    {"inference_address", kServer, kDoesIt, IN(inference_address), any(),
     "http://HOST:PORT to listen on; default http://0.0.0.0:8080.", kServe},
    {"port", kServer, kDoesIt, IN(server.port), between(0, 65535),
     "Port to listen on; 0 takes a free one and prints it.", kServe, "SAGEMAKER_BIND_TO_PORT"},
    {"host", kServer, kDoesIt, IN(server.host), any(), "Address to listen on.", kServe},
    {"job_queue_size", kServer, kDoesIt, IN(executor.job_queue_size), between(1, 100000),
     "Sequences that may wait; the next request is refused.", kServe},
    {"max_request_size", kServer, kDoesIt, IN(server.max_request_size), between(1, 1073741824),
     "Most bytes of a request's body.", kServe},
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
    {"header_timeout", kServer, kDoesIt, SECONDS(server.header_timeout_ms), between(1, 60),
     "A head that has not arrived by then closes the connection.", kServe},
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
    // Accepted, without effect here.
    {"engine", kServer, kNoEffect, nullptr, any(), "there is one engine, and no process launcher",
     "", "OPTION_ENGINE"},
    {"rolling_batch", kModel, kNoEffect, nullptr, any(), "batching is always continuous"},
    {"use_custom_all_reduce", kModel, kNoEffect, nullptr, any(), "one rank has nothing to reduce"},
    {"paged_attention", kModel, kNoEffect, nullptr, any(), "the KV cache is always paged"},
    {"multi_block_mode", kModel, kNoEffect, nullptr, any(),
     "attention is always split into partitions"},
    {"gpu_memory_utilization", kModel, kNoEffect, nullptr, any(),
     "no GPU is used; kv_cache_bytes sets the memory of the KV cache"},
    {"enforce_eager", kModel, kNoEffect, nullptr, any(), "there are no graphs to capture"},
    {"enable_chunked_prefill", kModel, kNoEffect, nullptr, any(),
     "long prompts are always computed in chunks"},
    {"waiting_steps", kModel, kNoEffect, nullptr, any(),
     "a step admits whoever fits; waiting gains nothing"},
    {"parallel_loading", kModel, kNoEffect, nullptr, any(), "there is one worker to load"},
    {"mpi_mode", kModel, kNoEffect, nullptr, any(), "one rank needs no launcher"},
    {"async_mode", kModel, kNoEffect, nullptr, any(), "requests are always independent"},
    {"trust_remote_code", kModel, kNoEffect, nullptr, any(),
     "no code of a checkpoint is ever executed", "", "HF_TRUST_REMOTE_CODE"},
    {"enable_streaming", kModel, kNoEffect, nullptr, any(),
     "each request chooses with its field stream"},
    {"load_format", kModel, kNoEffect, nullptr, any(), "the files say what they are"},
    {"device_map", kModel, kNoEffect, nullptr, any(), "there is one device"},
    {"low_cpu_mem_usage", kModel, kNoEffect, nullptr, any(), "weights are always mapped"},
    {"batch_size", kServer, kNoEffect, nullptr, any(), "batching is continuous, never static"},
    {"max_batch_delay", kServer, kNoEffect, nullptr, any(), "no request waits for others"},
    {"max_idle_time", kServer, kNoEffect, nullptr, any(), "workers are not scaled"},
    {"max_dynamic_batch_size", kServer, kNoEffect, nullptr, any(), "batching is continuous"},
    {"minWorkers", kServer, kNoEffect, nullptr, any(), "one worker serves all requests", "",
     "SERVING_MIN_WORKERS"},
    {"maxWorkers", kServer, kNoEffect, nullptr, any(), "one worker serves all requests", "",
     "SERVING_MAX_WORKERS"},
    {"cpu.minWorkers", kServer, kNoEffect, nullptr, any(), "one worker serves all requests"},
    {"cpu.maxWorkers", kServer, kNoEffect, nullptr, any(), "one worker serves all requests"},
    {"gpu.minWorkers", kServer, kNoEffect, nullptr, any(), "one worker serves all requests"},
    {"gpu.maxWorkers", kServer, kNoEffect, nullptr, any(), "one worker serves all requests"},
    {"required_memory_mb", kServer, kNoEffect, nullptr, any(), kPlanSays},
    {"reserved_memory_mb", kServer, kNoEffect, nullptr, any(), kPlanSays},
    {"gpu.required_memory_mb", kServer, kNoEffect, nullptr, any(), "no GPU is used"},
    {"gpu.reserved_memory_mb", kServer, kNoEffect, nullptr, any(), "no GPU is used"},
    {"load_on_devices", kServer, kNoEffect, nullptr, any(), "there is one device"},
    {"retry_threshold", kServer, kNoEffect, nullptr, any(), "there is no worker to restart"},
    {"log_model_metric", kServer, kNoEffect, nullptr, any(), "metrics are at /metrics"},
    {"log_request_metric", kServer, kNoEffect, nullptr, any(), "metrics are at /metrics"},
    {"metrics_aggregation", kServer, kNoEffect, nullptr, any(), "metrics are at /metrics"},
    {"allow_multi_status", kServer, kNoEffect, nullptr, any(),
     "/ping answers 503 while the model is loaded"},
    {"chunked_read_timeout", kServer, kNoEffect, nullptr, any(),
     "request_timeout bounds an answer, and comments keep quiet streams open"},
    {"number_of_netty_threads", kServer, kNoEffect, nullptr, any(), kOneThread},
    {"use_native_io", kServer, kNoEffect, nullptr, any(), kOneThread},
    {"io_ratio", kServer, kNoEffect, nullptr, any(), kOneThread},
    {"features", kServer, kNoEffect, nullptr, any(), "there is one engine"},
    {"translatorFactory", kServer, kNoEffect, nullptr, any(), kJava},
    {"translator", kServer, kNoEffect, nullptr, any(), kJava},
    {"application", kServer, kNoEffect, nullptr, any(), kJava},
    {"env", kModel, kNoEffect, nullptr, any(), kNoPython},
    {"enable_venv", kModel, kNoEffect, nullptr, any(), kNoPython},
    {"pythonExecutable", kModel, kNoEffect, nullptr, any(), kNoPython, "", "PYTHON_EXECUTABLE"},
    {"modelName", kModel, kNoEffect, nullptr, any(), "the files of a model have fixed names"},
    // Not yet.
    {"s3url", kModel, kNotYet, nullptr, any(),
     "Name a local folder in model_id; downloads come with a later release."},
    {"stop_sequence", kModel, kNotYet, nullptr, any(),
     "Send parameters.stop_sequences with each request.", "", "", "[]"},
    {"quantize", kModel, kNotYet, nullptr, any(),
     "Leave it out: weights keep the checkpoint's precision.", "", "", "none"},
    {"revision", kModel, kNotYet, nullptr, any(),
     "Name a local folder in model_id; downloads come with a later release.", "",
     "HF_MODEL_REVISION HF_REVISION", "main"},
    {"entryPoint", kModel, kNotYet, nullptr, any(),
     "Remove it: handler scripts come with a later release.", "", "DJL_ENTRY_POINT"},
    {"handler", kModel, kNotYet, nullptr, any(),
     "Remove it: handler scripts come with a later release.", "", "", "handle"},
    {"adapters", kModel, kNotYet, nullptr, any(), "Remove it: serve the merged model instead."},
    {"enable_lora", kModel, kNotYet, nullptr, any(), "Remove it: serve the merged model instead.",
     "", "", "false"},
    {"smoothquant_alpha", kModel, kNotYet, nullptr, any(),
     "Remove it: weights keep the checkpoint's precision."},
    {"kv_cache_dtype", kModel, kNotYet, nullptr, any(),
     "Remove it: keys and values have the type of dtype.", "", "", "auto"},
    {"speculative_draft_model", kModel, kNotYet, nullptr, any(), "Remove it."},
    {"speculative_config", kModel, kNotYet, nullptr, any(), "Remove it."},
    {"pipeline_parallel_degree", kModel, kNotYet, nullptr, any(), "Use 1: one rank uses all cores.",
     "", "PIPELINE_PARALLEL_DEGREE", "1"},
    {"bedrock_compat", kModel, kNotYet, nullptr, any(), "Remove it.", "", "", "false"},
    {"enable_auto_tool_choice", kModel, kNotYet, nullptr, any(),
     "Remove it: tools come with a later release.", "", "", "false"},
    {"tool_call_parser", kModel, kNotYet, nullptr, any(),
     "Remove it: tools come with a later release."},
    {"task", kModel, kNotYet, nullptr, any(), "Only text generation is served.", "", "HF_TASK",
     "text-generation auto"},
    {"api_key", kServer, kNotYet, nullptr, any(),
     "Put a proxy that checks keys in front of the server."},
    {"api_key_file", kServer, kNotYet, nullptr, any(),
     "Put a proxy that checks keys in front of the server."},
    {"cors_allowed_origin", kServer, kNotYet, nullptr, any(), kCorsProxy},
    {"cors_allowed_methods", kServer, kNotYet, nullptr, any(), kCorsProxy},
    {"cors_allowed_headers", kServer, kNotYet, nullptr, any(), kCorsProxy},
    {"keystore", kServer, kNotYet, nullptr, any(), kTlsProxy},
    {"private_key_file", kServer, kNotYet, nullptr, any(), kTlsProxy},
    {"certificate_file", kServer, kNotYet, nullptr, any(), kTlsProxy},
    {"model_url_pattern", kServer, kNotYet, nullptr, any(),
     "Remove it: models are not loaded on demand."},
    {"plugin_folder", kServer, kNotYet, nullptr, any(), "Remove it: there are no plugins.", "", "",
     "plugins /opt/djl/plugins"},
    {"management_address", kServer, kNotYet, nullptr, any(),
     "Remove it: models are not managed while the server runs."},
    // What only a verb reads.
    {"out", kVerb, kDoesIt, IN(verb.out), any(), "Engine directory to write.", "compile"},
    {"prompt", kVerb, kDoesIt, IN(verb.prompt), any(), "Text to continue.", "generate"},
    {"file", kVerb, kDoesIt, IN(verb.file), any(),
     "generate: a JSONL file with one prompt a line. eval: text for perplexity.", "generate eval"},
    {"reference", kVerb, kDoesIt, IN(verb.reference), any(),
     "Folder with expected outputs to compare with.", "eval"},
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
     "Tokens that each sequence decodes.", "bench"},
    {"concurrency", kVerb, kDoesIt, IN(verb.concurrency), any(),
     "Numbers of sequences to measure with, separated by commas; default 1,4,16. With url: "
     "requests in flight, default 16; with request_rate a bound, default none.",
     "bench"},
    // bench with a running server.
    {"url", kVerb, kDoesIt, IN(verb.load.url), any(),
     "http://HOST:PORT of a running server to measure; the model is then a name to send, default "
     "the first of /v1/models.",
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

std::span<const Option> all_options() { return kOptions; }

}  // namespace tidemill

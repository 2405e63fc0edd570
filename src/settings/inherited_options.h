// Settings of the original that do nothing here: accepted, because what they ask for is so anyway
// or concerns nobody, or refused by name with the way out. The other part of the table in
// options.cc, which alone includes this.
#pragma once

#include <string_view>

#include "settings/options.h"

namespace tidemill::inherited {

constexpr std::string_view kPlanSays =
    "what does not fit is refused when the model is loaded; kv_cache_bytes sets the KV cache";
constexpr std::string_view kJava = "it concerns the Java engines of the original";
constexpr std::string_view kOneThread = "one thread moves bytes";
constexpr std::string_view kNoPython = "no Python runs here";

constexpr OptionScope kModel = OptionScope::kModel;
constexpr OptionScope kServer = OptionScope::kServer;

constexpr Option no_effect(std::string_view name, OptionScope scope, std::string_view why,
                           std::string_view environment = {}) {
  return {name, scope, OptionClass::kNoEffect, nullptr, any(), why, {}, environment};
}
constexpr Option not_yet(std::string_view name, OptionScope scope, std::string_view way_out,
                         std::string_view off = {}, std::string_view environment = {}) {
  return {name, scope, OptionClass::kNotYet, nullptr, any(), way_out, {}, environment, off};
}

constexpr Option kOptions[] = {
    // Accepted, without effect here.
    no_effect("engine", kServer, "there is one engine, and no process launcher", "OPTION_ENGINE"),
    no_effect("rolling_batch", kModel, "batching is always continuous"),
    no_effect("use_custom_all_reduce", kModel, "one rank has nothing to reduce"),
    no_effect("paged_attention", kModel, "the KV cache is always paged"),
    no_effect("multi_block_mode", kModel, "attention is always split into partitions"),
    no_effect("gpu_memory_utilization", kModel,
              "no GPU is used; kv_cache_bytes sets the memory of the KV cache"),
    no_effect("enforce_eager", kModel, "there are no graphs to capture"),
    no_effect("enable_chunked_prefill", kModel, "long prompts are always computed in chunks"),
    no_effect("waiting_steps", kModel, "a step admits whoever fits; waiting gains nothing"),
    no_effect("parallel_loading", kModel, "there is one worker to load"),
    no_effect("mpi_mode", kModel, "one rank needs no launcher"),
    no_effect("async_mode", kModel, "requests are always independent"),
    no_effect("trust_remote_code", kModel, "no code of a checkpoint is ever executed",
              "HF_TRUST_REMOTE_CODE"),
    no_effect("enable_streaming", kModel, "each request chooses with its field stream"),
    no_effect("load_format", kModel, "the files say what they are"),
    no_effect("device_map", kModel, "there is one device"),
    no_effect("low_cpu_mem_usage", kModel, "weight_memory says where weights are"),
    no_effect("batch_size", kServer, "batching is continuous, never static"),
    no_effect("max_batch_delay", kServer, "no request waits for others"),
    no_effect("max_idle_time", kServer, "workers are not scaled"),
    no_effect("max_dynamic_batch_size", kServer, "batching is continuous"),
    no_effect("minWorkers", kServer, "one worker serves all requests", "SERVING_MIN_WORKERS"),
    no_effect("maxWorkers", kServer, "one worker serves all requests", "SERVING_MAX_WORKERS"),
    no_effect("cpu.minWorkers", kServer, "one worker serves all requests"),
    no_effect("cpu.maxWorkers", kServer, "one worker serves all requests"),
    no_effect("gpu.minWorkers", kServer, "one worker serves all requests"),
    no_effect("gpu.maxWorkers", kServer, "one worker serves all requests"),
    no_effect("required_memory_mb", kServer, kPlanSays),
    no_effect("reserved_memory_mb", kServer, kPlanSays),
    no_effect("gpu.required_memory_mb", kServer, "no GPU is used"),
    no_effect("gpu.reserved_memory_mb", kServer, "no GPU is used"),
    no_effect("load_on_devices", kServer, "there is one device"),
    no_effect("retry_threshold", kServer, "there is no worker to restart"),
    no_effect("log_model_metric", kServer, "metrics are at /metrics"),
    no_effect("log_request_metric", kServer, "metrics are at /metrics"),
    no_effect("metrics_aggregation", kServer, "metrics are at /metrics"),
    no_effect("allow_multi_status", kServer, "/ping answers 503 while the model is loaded"),
    no_effect("chunked_read_timeout", kServer,
              "request_timeout bounds an answer, and comments keep quiet streams open"),
    no_effect("number_of_netty_threads", kServer, kOneThread),
    no_effect("use_native_io", kServer, kOneThread),
    no_effect("io_ratio", kServer, kOneThread),
    no_effect("features", kServer, "there is one engine"),
    no_effect("translatorFactory", kServer, kJava),
    no_effect("translator", kServer, kJava),
    no_effect("application", kServer, kJava),
    no_effect("env", kModel, kNoPython),
    no_effect("enable_venv", kModel, kNoPython),
    no_effect("pythonExecutable", kModel, kNoPython, "PYTHON_EXECUTABLE"),
    no_effect("modelName", kModel, "the files of a model have fixed names"),
    // Not yet.
    not_yet("s3url", kModel,
            "Name a local folder in model_id; downloads come with a later release."),
    not_yet("stop_sequence", kModel, "Send parameters.stop_sequences with each request.", "[]"),
    not_yet("revision", kModel,
            "Name a local folder in model_id; downloads come with a later release.", "main",
            "HF_MODEL_REVISION HF_REVISION"),
    not_yet("entryPoint", kModel, "Remove it: handler scripts come with a later release.", "",
            "DJL_ENTRY_POINT"),
    not_yet("handler", kModel, "Remove it: handler scripts come with a later release.", "handle"),
    not_yet("adapters", kModel, "Remove it: serve the merged model instead."),
    not_yet("enable_lora", kModel, "Remove it: serve the merged model instead.", "false"),
    not_yet("smoothquant_alpha", kModel, "Remove it: weights keep the checkpoint's precision."),
    not_yet("draft_model_tp_size", kModel, "Use 1: one rank uses all cores.", "1"),
    not_yet("speculative_config", kModel,
            "Remove it; for its method ngram set speculative=ngram, for its model set "
            "speculative_draft_model, and for num_speculative_tokens speculative_length."),
    not_yet("pipeline_parallel_degree", kModel, "Use 1: one rank uses all cores.", "1",
            "PIPELINE_PARALLEL_DEGREE"),
    not_yet(
        "bedrock_compat", kModel,
        "Remove it: answers have no Bedrock form. output_formatter chooses among those there are.",
        "false"),
    not_yet("enable_auto_tool_choice", kModel, "Remove it: tools come with a later release.",
            "false"),
    not_yet("tool_call_parser", kModel, "Remove it: tools come with a later release."),
    not_yet("task", kModel, "Only text generation is served.", "text-generation auto", "HF_TASK"),
    not_yet(
        "keystore", kServer,
        "Name PEM files in certificate_file and private_key_file: openssl pkcs12 -in KEYSTORE "
        "-clcerts -nokeys -out CERTIFICATE, and openssl pkcs12 -in KEYSTORE -nocerts -nodes -out "
        "KEY."),
    not_yet("model_url_pattern", kServer, "Remove it: models are not loaded on demand."),
    not_yet("plugin_folder", kServer, "Remove it: there are no plugins.",
            "plugins /opt/djl/plugins"),
    not_yet("management_address", kServer,
            "Remove it: models are not managed while the server runs."),
};

}  // namespace tidemill::inherited

// Every setting of the product, and where its value comes from.
//
// One table (options.cc) gives each setting its outside name, its class, its range and its
// sentence. serving.properties, the environment and the command line are spellings of the same row;
// help, checks, docs/reference/settings.md and the start-up printout are loops over the table.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/option_table.h"
#include "executor/executor.h"
#include "load/load_options.h"
#include "parallel/worker_pool.h"
#include "server/server.h"

namespace tidemill {

// Which model, and how it is computed.
struct ModelSettings {
  std::string model_id;  // folder, GGUF file, engine directory or script:FILE
  std::vector<std::string> served_names;
  std::string model_name;  // the DJL name: /predictions/{name} and /ping
  std::string dtype = "auto";
  std::string quantize = "none";
  std::string activations = "int8";
  std::string kv_cache_dtype = "auto";
  std::string weight_memory = "auto";
  std::string isa = "auto";
  std::string draft_model;           // as model_id; empty: none
  std::string draft_quantize;        // as quantize; empty: what quantize says
  std::string cache_dir;             // empty: default_cache_dir() of engine_cache.h
  std::string calibration = "auto";  // or "off", or a file: machine_calibration.h
  std::string chat_template;         // file that replaces the checkpoint's
  TemplateLimits template_limits;
  std::string generation_config = "auto";
  std::string output_formatter;  // empty: `stream` decides
  std::string tensor_parallel_degree = "max";
  int64_t kv_cache_bytes = 0;  // 0: from what memory is left
  int64_t loading_timeout_ms = 240'000;
  bool strict_parameters = false;
};

// What only one verb reads, from the command line.
struct VerbArguments {
  std::string out;
  std::string prompt;
  std::string file;
  std::string reference;
  std::string system;
  std::string concurrency;
  std::string log_level = "info";
  std::string log_format = "text";
  bool chat = false;
  bool json = false;
  bool print_settings = false;
  bool print_api = false;
  bool ignore_end = false;
  bool grid = false;
  bool kernels = false;
  double cell_seconds = 120.0;
  int64_t max_new_tokens = 256;
  int64_t num_logprobs = -1;
  int64_t window = 1024;
  int64_t num_windows = 0;
  int64_t prompt_tokens = 512;
  int64_t decode_tokens = 64;
  double temperature = 0.0;
  int64_t top_k = 0;
  double top_p = 1.0;
  double min_p = 0.0;
  double typical_p = 1.0;
  double repetition_penalty = 1.0;
  double frequency_penalty = 0.0;
  double presence_penalty = 0.0;
  std::string seed;
  LoadOptions load;  // bench --url
};

struct Settings {
  ModelSettings model;
  WorkerPoolOptions workers;
  ExecutorOptions executor;
  ServerOptions server;
  VerbArguments verb;
  std::string inference_address;  // http://HOST:PORT, taken apart into server.host and .port
  std::string inference_scheme;   // of the address that counts; empty: none was given
  std::string model_store;
  std::string load_models;
  bool strict = false;  // an unknown setting is an error
};

// How a row's value is treated. Every setting is of exactly one class.
enum class OptionClass {
  kDoesIt,
  kNoEffect,  // accepted; one start-up line says why it changes nothing here
  kNotYet,    // refused by name with the way out, unless it is off
};

// How a row is spelled.
enum class OptionScope {
  kModel,   // option.NAME, OPTION_NAME, --name
  kServer,  // NAME, SERVING_NAME, --name
  kVerb,    // --name alone
};

struct Option {
  std::string_view name;
  OptionScope scope;
  OptionClass option_class;
  Slot (*slot)(Settings&);  // null unless kDoesIt
  Allowed allowed;
  std::string_view sentence;  // what it does; why it has no effect; or the way out
  // Words separated by blanks:
  std::string_view verbs = {};        // whose flag it is; empty: all
  std::string_view environment = {};  // names of its own, beside OPTION_NAME or SERVING_NAME
  std::string_view off = {};          // kNotYet: values that ask for nothing
};

std::span<const Option> all_options();

using Environment = std::map<std::string, std::string>;
Environment process_environment();

struct GivenOption {
  std::string name;
  std::string value;
};

struct CommandLine {
  std::string verb;
  std::string model;               // the argument that is no flag; may be empty
  std::vector<GivenOption> given;  // flags, in the table's order
};

struct SettingsReport {
  Settings settings;
  std::vector<std::string> notes;      // settings without effect, and why
  std::vector<std::string> warnings;   // unknown settings
  std::filesystem::path model_folder;  // where serving.properties was, or would have been
  std::vector<std::string> flags;      // names that the command line gave
};

// All sources, in the order of precedence: command line, serving.properties, OPTION_*, variables
// with names of their own, SERVING_*, defaults. Throws std::runtime_error naming the source (file
// and line, or variable) for whatever cannot be obeyed.
//
// The command line's model may be a folder with a serving.properties: what that says counts, and a
// model_id of it names the model. For verbs other than serve the limits that protect a server
// (queue, times) are lifted.
SettingsReport read_settings(const CommandLine& command_line, const Environment& environment,
                             const std::filesystem::path& working_folder);

// "limits: max_request_size 67108864, header_timeout 10, ...": every bound on what clients may
// take, for the start-up log.
std::string limits_line(const Settings& settings);

// docs/reference/settings.md.
std::string settings_page();

}  // namespace tidemill

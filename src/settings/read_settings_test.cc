#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "settings/options.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class ReadSettingsTest : public testing::Test {
 protected:
  ReadSettingsTest() {
    fs::remove_all(root_);
    fs::create_directories(root_ / "work");
  }
  ~ReadSettingsTest() override { fs::remove_all(root_); }

  // A folder below the root with a serving.properties of that text.
  std::string folder(const std::string& name, const std::string& properties) const {
    fs::create_directories(root_ / name);
    std::ofstream(root_ / name / "serving.properties") << properties;
    return (root_ / name).string();
  }
  // A folder that holds a checkpoint, as far as its names tell.
  std::string checkpoint(const std::string& name) const {
    fs::create_directories(root_ / name);
    std::ofstream(root_ / name / "config.json") << "{}";
    return (root_ / name).string();
  }

  SettingsReport read(const CommandLine& command = {.verb = "serve"},
                      const Environment& environment = {}) const {
    return read_settings(command, environment, root_ / "work");
  }
  static std::string model_of(const SettingsReport& report) {
    return report.settings.model.model_id;
  }
  std::string refusal(const CommandLine& command, const Environment& environment = {}) const {
    try {
      read(command, environment);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  }

  const fs::path root_ =
      fs::path(testing::TempDir()) / ("tidemill-read-settings-test-" + std::to_string(::getpid()));
};

TEST_F(ReadSettingsTest, TheFileOfANamedFolderNamesTheModel) {
  const std::string named = folder("named", "option.model_id=/models/x\njob_queue_size=7\n");
  const SettingsReport report = read({.verb = "serve", .model = named});
  EXPECT_EQ(model_of(report), "/models/x");
  EXPECT_EQ(report.settings.executor.job_queue_size, 7);
  EXPECT_EQ(report.settings.model.model_name, "named");
}

TEST_F(ReadSettingsTest, ANamedFolderIsTheModelWhenItsFileNamesNone) {
  const std::string named = folder("named", "job_queue_size=7\n");
  const SettingsReport report =
      read({.verb = "serve", .model = named}, {{"HF_MODEL_ID", "/models/of-environment"}});
  EXPECT_EQ(model_of(report), named);
}

TEST_F(ReadSettingsTest, TheFlagBeatsTheFileOfTheNamedFolder) {
  const std::string named = folder("named", "option.model_id=/models/x\n");
  EXPECT_EQ(model_of(read({.verb = "serve", .model = named, .given = {{"model_id", "/models/y"}}})),
            "/models/y");
}

TEST_F(ReadSettingsTest, ARelativeModelOfAFileIsBesideTheFile) {
  const std::string named = folder("named", "option.model_id=weights\n");
  checkpoint("named/weights");
  EXPECT_EQ(model_of(read({.verb = "serve", .model = named})), named + "/weights");
}

TEST_F(ReadSettingsTest, AStoreHasTheModelWhereverItIsNamed) {
  const std::string model = checkpoint("store/llama");
  const std::string store = (root_ / "store").string();
  checkpoint("work");  // who names a store does not mean the folder that he is in
  EXPECT_EQ(model_of(read({.verb = "serve", .given = {{"model_store", store}}})), model);
  EXPECT_EQ(model_of(read({.verb = "serve"}, {{"SERVING_MODEL_STORE", store}})), model);
  folder("work", "model_store=" + store + "\n");
  const SettingsReport report = read();
  EXPECT_EQ(model_of(report), model);
  EXPECT_EQ(report.settings.model.model_name, "llama");
}

TEST_F(ReadSettingsTest, AStoreWithSeveralModelsIsRefusedWithTheWayOut) {
  checkpoint("store/a");
  checkpoint("store/b");
  checkpoint("store/.hidden");
  EXPECT_THAT(refusal({.verb = "serve", .given = {{"model_store", (root_ / "store").string()}}}),
              HasSubstr("holds 2 models"));
}

TEST_F(ReadSettingsTest, WhoNamesTheModelIsNotAskedWhichOfAStore) {
  checkpoint("store/a");
  checkpoint("store/b");
  checkpoint("work");
  const std::string model = checkpoint("llama");
  const Environment store = {{"SERVING_MODEL_STORE", (root_ / "store").string()}};
  const CommandLine flag = {.verb = "serve", .given = {{"model_id", model}}};
  EXPECT_EQ(model_of(read(flag, store)), model);
  EXPECT_EQ(model_of(read({.verb = "serve"}, {{"HF_MODEL_ID", model}, *store.begin()})), model);
  EXPECT_EQ(model_of(read(flag, {{"SERVING_LOAD_MODELS", "NONE"}})), model);
  EXPECT_EQ(read(flag).settings.model.model_name, "llama");  // not that of the folder around
}

TEST_F(ReadSettingsTest, LoadModelsIsReadInEverySpelling) {
  const std::string model = folder("llama", "job_queue_size=7\n");
  const std::string store = root_.string();
  for (const std::string& item :
       {model, "file:" + model, "file://" + model, "test::MPI=" + model, "[test::MPI]=" + model,
        "[test:v1:MPI:*]=file:" + model, "test=" + model, std::string("llama")}) {
    const SettingsReport report =
        read({.verb = "serve", .given = {{"load_models", item}, {"model_store", store}}});
    EXPECT_EQ(model_of(report), model) << item;
    EXPECT_EQ(report.settings.executor.job_queue_size, 7) << item;
    EXPECT_EQ(report.settings.model.model_name,
              item.find("test") == 0 || item[0] == '[' ? "test" : "llama")
        << item;
  }
}

TEST_F(ReadSettingsTest, LoadModelsOfAFileIsObeyed) {
  const std::string model = checkpoint("llama");
  folder("work", "load_models=test::MPI=file:" + model + "\n");
  EXPECT_EQ(model_of(read()), model);
  EXPECT_EQ(read().settings.model.model_name, "test");
}

TEST_F(ReadSettingsTest, LoadModelsAllMeansTheStore) {
  const std::string model = checkpoint("store/llama");
  EXPECT_EQ(
      model_of(read({.verb = "serve"}, {{"SERVING_LOAD_MODELS", "ALL"},
                                        {"SERVING_MODEL_STORE", (root_ / "store").string()}})),
      model);
}

TEST_F(ReadSettingsTest, LoadModelsThatCannotBeObeyedIsRefused) {
  EXPECT_THAT(refusal({.verb = "serve"}, {{"SERVING_LOAD_MODELS", "NONE"}}), HasSubstr("NONE"));
  EXPECT_THAT(refusal({.verb = "serve"}, {{"SERVING_LOAD_MODELS", "a=/x,b=/y"}}),
              HasSubstr("several"));
}

TEST_F(ReadSettingsTest, ServeAloneTakesTheModelOfItsFolderAndTheSettingsBesideIt) {
  checkpoint("work");
  EXPECT_EQ(model_of(read()), (root_ / "work").string());
  folder("work", "job_queue_size=7\n");
  EXPECT_EQ(model_of(read()), (root_ / "work").string());
  EXPECT_EQ(read().settings.executor.job_queue_size, 7);
}

TEST_F(ReadSettingsTest, ADotInAFoldersNameIsNoExtension) {
  const std::string dotted = checkpoint("Qwen2.5-0.5B");
  const auto name_of = [&](const std::string& model) {
    return read({.verb = "serve", .model = model}).settings.model.model_name;
  };
  EXPECT_EQ(name_of(dotted), "Qwen2.5-0.5B");
  EXPECT_EQ(name_of(dotted + "/"), "Qwen2.5-0.5B");
  EXPECT_EQ(name_of("Qwen/Qwen2.5-0.5B"), "Qwen2.5-0.5B");
  std::ofstream(root_ / "SmolLM2.Q4_1.gguf") << "GGUF";
  EXPECT_EQ(name_of((root_ / "SmolLM2.Q4_1.gguf").string()), "SmolLM2.Q4_1");
  EXPECT_EQ(name_of("script:" + (root_ / "hello.json").string()), "hello");
}

TEST_F(ReadSettingsTest, AnAddressIsTakenApart) {
  const SettingsReport report = read({.verb = "serve", .model = "x"},
                                     {{"SERVING_INFERENCE_ADDRESS", "http://127.0.0.1:9000"}});
  EXPECT_EQ(report.settings.server.host, "127.0.0.1");
  EXPECT_EQ(report.settings.server.port, 9000);
  for (const char* bad : {"127.0.0.1:9000", "ftp://127.0.0.1:9000", "http://127.0.0.1",
                          "http://:9000", "http://127.0.0.1:70000", "http://127.0.0.1:9000/x"}) {
    EXPECT_THAT(refusal({.verb = "serve", .model = "x"}, {{"SERVING_INFERENCE_ADDRESS", bad}}),
                HasSubstr("http://HOST:PORT"))
        << bad;
  }
}

TEST_F(ReadSettingsTest, TheDegreeHasAVariableOfItsOwn) {
  EXPECT_EQ(read({.verb = "serve", .model = "x"}, {{"TENSOR_PARALLEL_DEGREE", "1"}})
                .settings.model.tensor_parallel_degree,
            "1");
  EXPECT_THAT(refusal({.verb = "serve", .model = "x"}, {{"TENSOR_PARALLEL_DEGREE", "8"}}),
              HasSubstr("TENSOR_PARALLEL_DEGREE is 8"));
}

TEST_F(ReadSettingsTest, SettingsOfTheOriginalAreKnown) {
  const std::string named = folder("named",
                                   "engine=MPI\n"
                                   "minWorkers=1\ngpu.minWorkers=1\ngpu.maxWorkers=1\n"
                                   "cpu.minWorkers=1\ncpu.maxWorkers=1\n"
                                   "required_memory_mb=1\nreserved_memory_mb=500\n"
                                   "gpu.required_memory_mb=1\ngpu.reserved_memory_mb=500\n"
                                   "max_dynamic_batch_size=1\nlog_request_metric=true\n"
                                   "translatorFactory=x\ntranslator=x\napplication=x\n"
                                   "option.env=A=1\noption.enable_venv=true\n"
                                   "option.pythonExecutable=python3\noption.modelName=x\n"
                                   "option.predict_timeout=240\noption.data_type=fp32\n");
  const Environment environment = {
      {"OPTION_ENGINE", "MPI"},          {"PYTHON_EXECUTABLE", "python3"},
      {"PREDICT_TIMEOUT", "240"},        {"SERVING_MIN_WORKERS", "1"},
      {"SERVING_MAX_WORKERS", "1"},      {"HF_REVISION", "main"},
      {"SERVING_FEATURES", "trtllm"},    {"SERVING_PLUGIN_FOLDER", "plugins"},
      {"SAGEMAKER_BIND_TO_PORT", "9001"}};
  const SettingsReport report = read({.verb = "serve", .model = named}, environment);
  EXPECT_THAT(report.warnings, testing::IsEmpty());
  EXPECT_EQ(report.settings.model.dtype, "fp32");
  EXPECT_EQ(report.settings.server.port, 9001);
  EXPECT_EQ(report.notes.size(), 19u + 5u);
  for (const char* variable : {"HF_REVISION", "HF_MODEL_REVISION"}) {
    EXPECT_THAT(refusal({.verb = "serve", .model = "x"}, {{variable, "v2"}}),
                HasSubstr(std::string(variable) + " is not supported yet"));
  }
  EXPECT_THAT(refusal({.verb = "serve", .model = folder("b", "option.s3url=s3://x/y\n")}),
              HasSubstr("option.s3url is not supported yet"));
  EXPECT_THAT(refusal({.verb = "serve", .model = folder("c", "option.stop_sequence=['a']\n")}),
              HasSubstr("parameters.stop_sequences"));
}

TEST_F(ReadSettingsTest, OfflineVerbsAreFreeOfTheServersLimits) {
  const Environment environment = {{"SERVING_JOB_QUEUE_SIZE", "1"}, {"SERVING_QUEUE_TIMEOUT", "1"}};
  const auto of = [&](const char* verb) {
    return read({.verb = verb, .model = "x"}, environment).settings.executor;
  };
  EXPECT_EQ(of("serve").job_queue_size, 1);
  EXPECT_EQ(of("serve").queue_timeout_ms, 1000);
  for (const char* verb : {"generate", "chat", "bench"}) {
    EXPECT_GE(of(verb).job_queue_size, 1'000'000) << verb;
    EXPECT_GE(of(verb).queue_timeout_ms, int64_t{30} * 24 * 3600 * 1000) << verb;
    EXPECT_GE(of(verb).request_timeout_ms, int64_t{30} * 24 * 3600 * 1000) << verb;
  }
}

TEST_F(ReadSettingsTest, BenchWithAnAddressAsksNoFolder) {
  const std::string broken = folder("broken", "option.max_rolling_batch_size=many\n");
  const SettingsReport report =
      read({.verb = "bench", .model = broken, .given = {{"url", "http://x"}, {"api_key", "k"}}});
  EXPECT_EQ(report.settings.model.model_id, broken);  // a name to send
  EXPECT_EQ(report.settings.verb.load.api_key, "k");
  EXPECT_THAT(report.flags, testing::ElementsAre("url", "api_key"));
  EXPECT_THAT(refusal({.verb = "bench", .model = broken}), HasSubstr("max_rolling_batch_size"));
}

// robustness.md 1: the limits that there are, their defaults and their hard maxima.
struct LimitRow {
  const char* name;
  const char* fallback;
  int64_t most;
};
constexpr LimitRow kLimitRows[] = {
    {"max_request_line_size", "8192", 65'536},
    {"max_header_size", "32768", 262'144},
    {"max_header_count", "100", 1000},
    {"max_header_field_size", "16384", 262'144},
    {"max_request_size", "67108864", 1 << 30},
    {"max_body_chunks", "65536", 1 << 20},
    {"max_chunk_extension_size", "256", 4096},
    {"max_trailer_size", "8192", 65'536},
    {"header_timeout", "10", 60},
    {"body_timeout", "60", 600},
    {"body_grace_time", "10", 600},
    {"body_min_rate", "1024", 1 << 20},
    {"keep_alive_timeout", "75", 3600},
    {"max_pipelined_requests", "8", 64},
    {"max_connections", "4096", 1 << 20},
    {"reserved_connections", "8", 64},
    {"max_json_depth", "64", 256},
    {"max_json_values", "100000", 10'000'000},
    {"job_queue_size", "1000", 100'000},
    {"max_rolling_batch_size", "32", 1024},
    {"max_rolling_batch_prefill_tokens", "512", 65'536},
    {"max_inputs", "32", 1024},
    {"max_choices", "8", 64},
    {"max_prompt_bytes_per_token", "32", 1 << 20},
    {"max_stop_sequences", "16", 64},
    {"max_stop_sequence_size", "256", 4096},
    {"max_stop_token_ids", "64", 1024},
    {"max_logit_bias", "1024", 1'000'000},
    {"max_template_steps", "1000000", 100'000'000},
    {"max_template_depth", "100", 500},
    {"max_template_output_size", "16777216", 64 << 20},
    {"stream_pause_size", "262144", 4 << 20},
    {"stream_resume_size", "131072", 4 << 20},
    {"stall_timeout", "30", 600},
    {"predict_timeout", "120", 86'400},
    {"queue_timeout", "120", 86'400},
    {"request_timeout", "600", 86'400},
    {"model_loading_timeout", "240", 86'400},
    {"step_watchdog", "10", 600},
    {"stalled_step_exit", "0", 86'400},
    {"sse_ping_interval", "15", 3600},
    {"drain_time", "25", 600},
    {"max_preemptions", "3", 16},
};

TEST_F(ReadSettingsTest, EveryLimitIsSaidAtTheStart) {
  const SettingsReport report = read({.verb = "serve"});
  std::string line = limits_line(report.settings);
  ASSERT_TRUE(line.starts_with("limits: "));
  line = ',' + line.substr(7) + ',';
  for (const LimitRow& row : kLimitRows) {
    EXPECT_THAT(line, HasSubstr(format(", {} {},", row.name, row.fallback)));
  }
  EXPECT_EQ(std::ranges::count(line, ','), std::ssize(kLimitRows) + 1) << "a limit has no row here";
  const auto said = read({.verb = "serve", .given = {{"header_timeout", "2.5"}}});
  EXPECT_THAT(limits_line(said.settings), HasSubstr(" header_timeout 2.5,"));
}

TEST_F(ReadSettingsTest, NoLimitGoesBeyondItsHardMaximum) {
  for (const auto& [name, fallback, most] : kLimitRows) {
    for (const int64_t value : {most - 1, most}) {
      EXPECT_EQ(refusal({.verb = "serve", .given = {{name, std::to_string(value)}}}), "") << name;
    }
    EXPECT_THAT(refusal({.verb = "serve", .given = {{name, std::to_string(most + 1)}}}),
                HasSubstr(name));
  }
}

TEST_F(ReadSettingsTest, AddressesThatAreNotSupportedAreRefusedWithTheWayOut) {
  const auto refused = [&](const char* address) {
    return refusal({.verb = "serve", .given = {{"inference_address", address}}});
  };
  EXPECT_THAT(refused("unix:/tmp/djl.sock"), HasSubstr("listen on 127.0.0.1"));
  EXPECT_THAT(refused("https://0.0.0.0:8443"), HasSubstr("name certificate_file"));
  EXPECT_THAT(refused("ftp://0.0.0.0:8443"), HasSubstr("must be http://HOST:PORT"));
  EXPECT_EQ(refused("http://0.0.0.0:8080"), "");
}

TEST_F(ReadSettingsTest, TlsNeedsItsTwoFilesAndAnAddressThatSaysSo) {
  const GivenOption certificate{"certificate_file", "c.pem"}, key{"private_key_file", "k.pem"};
  const GivenOption https{"inference_address", "https://127.0.0.1:8443"};
  const GivenOption http{"inference_address", "http://127.0.0.1:8080"};
  EXPECT_EQ(refusal({.verb = "serve", .given = {certificate, key, https}}), "");
  EXPECT_EQ(refusal({.verb = "serve", .given = {certificate, key}}), "");
  EXPECT_EQ(read({.verb = "serve", .given = {certificate, key, https}}).settings.server.port, 8443);
  EXPECT_THAT(refusal({.verb = "serve", .given = {certificate}}), HasSubstr("belong together"));
  EXPECT_THAT(refusal({.verb = "serve", .given = {key}}), HasSubstr("belong together"));
  EXPECT_THAT(refusal({.verb = "serve", .given = {certificate, key, http}}), HasSubstr("https"));
  EXPECT_THAT(refusal({.verb = "serve"}, {{"SERVING_KEYSTORE", "k.p12"}}), HasSubstr("openssl"));
}

}  // namespace
}  // namespace tidemill

// For tests: the catalogue of hostile models. Whole folders and files as a stranger may publish
// them, each with one lie that has hurt a loader somewhere, opened as a start would open them.
// Every row is refused with a message that says what is wrong, within a second
// (robustness.md 3.5, 6.2). What a format forbids in detail is in checkpoint/*_test.cc; here is
// what reaches a user.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <functional>

#include "checkpoint/test_files.h"
#include "compiler/test_checkpoint.h"
#include "compiler/text_files.h"
#include "compiler/weight_map.h"
#include "model/engine_dir.h"
#include "text/chat_template.h"
#include "text/text_library.h"
#include "text/tokenizer.h"

namespace tidemill::hostile {

namespace fs = std::filesystem;

inline constexpr double kMaxSeconds = 1.0;
#if defined(__SANITIZE_ADDRESS__)
inline constexpr double kSlowness = 10.0;
#else
inline constexpr double kSlowness = 1.0;
#endif

// A folder that is whole until a row makes it lie.
struct Model {
  fs::path folder;
  TestCheckpoint made{};
  fs::path opened{};  // what a start names; the folder by default

  void write(std::string_view name, std::string_view text) const {
    fs::create_directories((folder / name).parent_path());
    std::ofstream(folder / name, std::ios::binary) << text;
  }
  void weights(std::string_view header, size_t buffer_bytes = 4) const {
    write("model.safetensors", safetensors_file(header, std::string(buffer_bytes, '\0')));
  }
  void gguf(const GgufMaker& maker) {
    fs::remove(folder / "model.safetensors");
    write("m.gguf", maker.file());
    opened = folder / "m.gguf";
  }
  void config(const char* key, std::string_view json) {
    made.config.set(key, *parse_json(json, kFileJsonLimits));
    std::ofstream(folder / "config.json") << to_json(made.config);
  }
  void index(std::string_view file) const {
    fs::rename(folder / "model.safetensors", folder / "good.safetensors");
    write("model.safetensors.index.json",
          format(R"({{"weight_map":{{"model.norm.weight":"{}"}}}})", file));
  }
};

struct Row {
  const char* name;  // with the id that it proves
  std::function<void(Model&)> lie;
  const char* message;
};

inline std::function<void(Model&)> header(std::string text, size_t buffer_bytes = 4) {
  return [text = std::move(text), buffer_bytes](Model& m) { m.weights(text, buffer_bytes); };
}

inline std::function<void(Model&)> config(const char* key, std::string json) {
  return [key, json = std::move(json)](Model& m) { m.config(key, json); };
}

inline std::function<void(Model&)> file(const char* name, std::string text) {
  return [name, text = std::move(text)](Model& m) { m.write(name, text); };
}

inline std::function<void(Model&)> tokenizer(std::string model, std::string more = "") {
  return file("tokenizer.json", R"({"version":"1.0","model":)" + model + more + "}");
}

inline std::function<void(Model&)> only_pickle(const char* name) {
  return [name](Model& m) {
    fs::remove(m.folder / "model.safetensors");
    m.write(name, "\x80\x02}q\x01cposix\nsystem\n.");
  };
}

inline std::string repeated(std::string_view text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

// What a start says that names this model, or "accepted": checkpoint, configuration, tensors,
// texts, tokenizer and template, in that order.
inline std::string refusal_of_start(const fs::path& path) {
  try {
    const Checkpoint checkpoint = Checkpoint::open(path);
    const WeightMap map = map_weights(checkpoint, PackedFormat::kF32);
    const CheckpointText text = collect_text(checkpoint, map.architecture);
    if (text.files.tokenizer_json) Tokenizer(*text.files.tokenizer_json);
    if (text.files.chat_template) {
      const ChatTemplate chat(*text.files.chat_template, text.files.special_tokens);
      const JsonValue messages = JsonArray{JsonObject{{"role", "user"}, {"content", "x"}}};
      const auto rendered = chat.render(messages, {});
      if (!rendered) return rendered.error().message;
    }
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "accepted";
}

inline double cpu_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

class HostileModel : public testing::TestWithParam<Row> {
 protected:
  HostileModel() : model_{.folder = dir_.path() / "model"} {
    model_.made.write(model_.folder);
    model_.opened = model_.folder;
  }

  void expect_refusal() {
    const std::string name = GetParam().name;
    const bool needs_text = name.starts_with("C_") || name.find("Token") != std::string::npos ||
                            name.starts_with("M_5_");
    if (needs_text && !kHasTextLibrary) GTEST_SKIP() << "this build has no text library";
    ASSERT_EQ(refusal_of_start(model_.opened), "accepted") << "before it lies";
    GetParam().lie(model_);
    const double begin = cpu_seconds();
    EXPECT_THAT(refusal_of_start(model_.opened), testing::HasSubstr(GetParam().message));
    EXPECT_LT(cpu_seconds() - begin, kMaxSeconds * kSlowness);
  }

 private:
  TemporaryDir dir_;
  Model model_;
};

inline const auto kRowName = [](const testing::TestParamInfo<Row>& row) {
  return std::string(row.param.name);
};

}  // namespace tidemill::hostile

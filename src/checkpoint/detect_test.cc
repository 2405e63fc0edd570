// What lies at a path, and the way out for everything that is not read.
#include "checkpoint/detect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/test_files.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr const char* kLlamaConfig = R"({"architectures": ["LlamaForCausalLM"]})";

class Detect : public testing::Test {
 protected:
  // Empty files, but for those with a text.
  void files(std::initializer_list<std::pair<const char*, const char*>> entries) {
    for (const auto& [name, text] : entries) folder_.write(name, text);
  }
  std::string refusal() const {
    return refusal_of([&] { Checkpoint::open(folder_.path()); });
  }
  // Each refusal names the folder and what it is.
  void expect_refused(const char* reason) const {
    EXPECT_THAT(refusal(), AllOf(StartsWith(folder_.path().string()), HasSubstr(reason)));
  }

  ScratchFolder folder_;
};

TEST_F(Detect, AGgufFileIsKnownByItsFirstBytesNotItsName) {
  const fs::path file = folder_.write("model.data", "GGUF....");
  EXPECT_EQ(detect_format(file).gguf, file);
  const fs::path other = folder_.write("model.gguf", "GGML....");
  EXPECT_THAT(refusal_of([&] { detect_format(other); }), HasSubstr("this file is no GGUF"));
  EXPECT_THAT(refusal_of([&] { detect_format(folder_.write("empty", "")); }),
              HasSubstr("this file is no GGUF"));
}

TEST_F(Detect, AFolderWithOneGgufModelIsThatModel) {
  files(
      {{"m-00002-of-00002.gguf", "GGUF"}, {"m-00001-of-00002.gguf", "GGUF"}, {"config.json", ""}});
  EXPECT_EQ(detect_format(folder_.path()).gguf, folder_.path() / "m-00001-of-00002.gguf");
  files({{"other.gguf", "GGUF"}});
  EXPECT_THAT(refusal(), AllOf(HasSubstr("several GGUF models. Name one of:"),
                               HasSubstr(" m-00001-of-00002.gguf other.gguf")));
}

TEST_F(Detect, SafetensorsWinOverGguf) {
  files({{"model.safetensors", ""}, {"model.gguf", "GGUF"}, {"config.json", kLlamaConfig}});
  EXPECT_EQ(detect_format(folder_.path()).gguf, "");
}

TEST_F(Detect, NothingThereIsSaid) {
  EXPECT_THAT(refusal_of([&] { detect_format(folder_.path() / "absent"); }),
              HasSubstr("there is no such file or folder"));
  expect_refused("there is no config.json and no *.gguf");
  files({{"config.json", kLlamaConfig}});
  expect_refused("it holds no weights");
}

TEST_F(Detect, M_7_PicklesAreRefusedWithTheWayOut) {
  files({{"config.json", kLlamaConfig}, {"pytorch_model.bin", ""}});
  expect_refused("its weights are pickles");
  EXPECT_THAT(refusal(), HasSubstr("save_pretrained(NEW_FOLDER, safe_serialization=True)"));
}

TEST_F(Detect, OriginalWeightsAreRefusedByName) {
  files({{"consolidated.00.pth", ""}, {"params.json", "{}"}});
  expect_refused("original pickled weights are not read");
}

TEST_F(Detect, PicklesBesideSafetensorsAreLeftAlone) {
  files({{"config.json", kLlamaConfig}, {"pytorch_model.bin", ""}, {"model.safetensors", ""}});
  EXPECT_EQ(detect_format(folder_.path()).gguf, "");
}

TEST_F(Detect, AdaptersAreRefusedByName) {
  files({{"adapter_config.json", "{}"}, {"adapter_model.safetensors", ""}});
  expect_refused("this is an adapter");
  files({{"config.json", kLlamaConfig}});
  expect_refused("this is an adapter");
}

TEST_F(Detect, AnAdapterBesideItsWholeModelIsLeftAlone) {
  files({{"config.json", kLlamaConfig}, {"adapter_config.json", "{}"}, {"model.safetensors", ""}});
  EXPECT_THAT(refusal(), Not(HasSubstr("adapter")));
}

TEST_F(Detect, TritonRepositoriesAreRefusedByName) {
  for (const char* name : {"tensorrt_llm/config.pbtxt", "ensemble/config.pbtxt", "config.pbtxt"}) {
    const ScratchFolder folder;
    folder.write(name, "");
    EXPECT_THAT(refusal_of([&] { Checkpoint::open(folder.path()); }),
                HasSubstr("Triton model repositories are not read yet"))
        << name;
  }
}

TEST_F(Detect, TensorRtCheckpointsAndEnginesAreRefusedByName) {
  files({{"config.json", R"({"architecture": "LlamaForCausalLM", "mapping": {},
                             "quantization": {"quant_algo": null}})"},
         {"rank0.safetensors", ""}});
  expect_refused("TensorRT-LLM");
  const ScratchFolder engine;
  engine.write("config.json", R"({"builder_config": {}, "pretrained_config": {}})");
  engine.write("rank0.engine", "");
  EXPECT_THAT(refusal_of([&] { Checkpoint::open(engine.path()); }), HasSubstr("TensorRT-LLM"));
}

TEST_F(Detect, CTranslate2IsRefusedByName) {
  for (const char* vocabulary : {"vocabulary.json", "vocabulary.txt", "shared_vocabulary.json"}) {
    const ScratchFolder folder;
    folder.write("model.bin", "");
    folder.write("config.json", "{}");
    folder.write(vocabulary, "");
    EXPECT_THAT(refusal_of([&] { Checkpoint::open(folder.path()); }), HasSubstr("CTranslate2"))
        << vocabulary;
  }
}

TEST_F(Detect, FasterTransformerIsRefusedByName) {
  files({{"config.ini", ""}, {"model.wte.bin", ""}});
  expect_refused("FasterTransformer");
}

TEST_F(Detect, M_7_HandlerScriptsAreRefusedByNameWhateverLiesBesideThem) {
  files({{"model.py", ""}});
  expect_refused("handler scripts (model.py) are not supported yet");
  files({{"config.json", kLlamaConfig}, {"model.safetensors", ""}});
  expect_refused("handler scripts (model.py) are not supported yet. Take model.py out of");
  fs::remove(folder_.path() / "config.json");
  fs::remove(folder_.path() / "model.safetensors");
  files({{"model.gguf", "GGUF"}});
  expect_refused("handler scripts (model.py)");
}

TEST_F(Detect, M_7_RequirementsAreNotInstalledAndThatIsSaid) {
  files({{"config.json", kLlamaConfig}, {"model.safetensors", ""}, {"requirements.txt", "torch"}});
  testing::internal::CaptureStderr();
  detect_format(folder_.path());
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("requirements.txt is not installed"));
}

struct Quantised {
  const char* config;
  const char* shown;
};

class DetectQuantised : public Detect, public testing::WithParamInterface<Quantised> {};

TEST_P(DetectQuantised, IsRefusedByName) {
  files({{"model.safetensors", ""}, {"config.json", GetParam().config}});
  expect_refused(GetParam().shown);
}

INSTANTIATE_TEST_SUITE_P(
    Methods, DetectQuantised,
    testing::Values(
        Quantised{R"({"quantization_config": {"quant_method": "gptq"}})", "quantised with GPTQ"},
        Quantised{R"({"quantization_config": {"quant_method": "awq"}})", "quantised with AWQ"},
        Quantised{R"({"quantization_config": {"quant_method": "fp8"}})", "quantised with FP8"},
        Quantised{R"({"quantization_config": {"quant_method": "fbgemm_fp8"}})", "with FP8"},
        Quantised{R"({"quantization_config": {"quant_method": "compressed-tensors"}})",
                  "with compressed-tensors"},
        Quantised{R"({"compression_config": {"format": "pack-quantized"}})",
                  "with compressed-tensors"},
        Quantised{R"({"quantization_config": {"quant_method": "bitsandbytes"}})",
                  "with bitsandbytes"},
        Quantised{R"({"quantization_config": {"quant_method": "exl2"}})", "with exl2"},
        Quantised{R"({"quantization_config": {"quant_method": "mxfp4"}})", "with mxfp4"},
        Quantised{R"({"quantization_config": {}})", "with an unknown method"},
        Quantised{R"({"quantization_config": {"quant_method": 4}})", "with an unknown method"},
        Quantised{R"({"quantization": {"group_size": 64, "bits": 4}})", "quantised with MLX"}));

TEST_F(Detect, SideFilesOfQuantisersCount) {
  for (const char* name : {"quantize_config.json", "quant_config.json"}) {
    const ScratchFolder folder;
    folder.write("config.json", kLlamaConfig);
    folder.write("model.safetensors", "");
    folder.write(name, "{}");
    EXPECT_THAT(refusal_of([&] { Checkpoint::open(folder.path()); }),
                AllOf(HasSubstr(name), HasSubstr("GPTQ or AWQ")));
  }
}

TEST_F(Detect, NoQuantisationIsNone) {
  files({{"model.safetensors", ""}, {"config.json", R"({"quantization_config": null})"}});
  EXPECT_THAT(refusal(), Not(HasSubstr("quantised")));
}

TEST_F(Detect, OfSeveralFilesWithoutAnIndexNoneIsGuessed) {
  files({{"config.json", kLlamaConfig}, {"a.safetensors", ""}, {"b.safetensors", ""}});
  EXPECT_THAT(refusal(), AllOf(HasSubstr("several safetensors files and no index"),
                               HasSubstr(" a.safetensors b.safetensors")));
  files({{"model.safetensors", ""}});
  EXPECT_EQ(only_safetensors(folder_.path()), folder_.path() / "model.safetensors");
}

TEST_F(Detect, TheConfigurationMustBeAnObject) {
  for (const char* text : {"", "[]", "{", "7", R"({"a": 1, "a": 2})"}) {
    files({{"model.safetensors", ""}, {"config.json", text}});
    EXPECT_THAT(refusal(), HasSubstr("config.json: ")) << text;
  }
}

}  // namespace
}  // namespace tidemill

#include "compiler/compile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <fstream>
#include <functional>
#include <thread>
#include <utility>

#include "base/digest.h"
#include "compiler/check_engine.h"
#include "compiler/test_checkpoint.h"
#include "kernels/test_tensors.h"
#include "model/load.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;
using test::unpack_at;
using testing::ElementsAre;
using testing::HasSubstr;

class Compile : public testing::Test {
 protected:
  fs::path folder() const { return dir_.path() / "checkpoint"; }
  fs::path target() const { return dir_.path() / "engine"; }

  CompileOutcome compile(const std::string& digest = "digest",
                         PackedFormat format = PackedFormat::kF32) {
    made_.write(folder());
    const Checkpoint checkpoint = Checkpoint::open(folder());
    return compile_model(checkpoint,
                         {.format = format, .source_digest = digest, .source_name = "made up"},
                         target(), pool_, [](const std::string&, int) {});
  }
  std::string refusal() {
    try {
      compile();
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "accepted";
  }
  float stored(const std::string& name, size_t index) const {
    return made_.tensors.at(name).values[index];
  }
  std::vector<std::string> names() const {
    std::vector<std::string> list;
    for (const auto& entry : fs::directory_iterator(dir_.path())) {
      list.push_back(entry.path().filename().string());
    }
    return list;
  }

  TemporaryDir dir_;
  TestCheckpoint made_;
  WorkerPool pool_{{.num_threads = 2}};
};

TEST_F(Compile, EveryNumberArrivesWhereTheKernelsReadIt) {
  EXPECT_EQ(compile(), CompileOutcome::kCompiled);
  check_engine(target(), {});
  const Model model(target());
  const LayerWeights& layer = model.layers()[1];
  for (int64_t row = 0; row < 8; ++row) {
    for (int64_t k = 0; k < 24; ++k) {
      const auto index = static_cast<size_t>(row * 24 + k);
      const std::string attention = "model.layers.1.self_attn.";
      EXPECT_EQ(unpack_at(layer.qkv, row, k), stored(attention + "q_proj.weight", index));
      EXPECT_EQ(unpack_at(layer.qkv, 24 + row, k), stored(attention + "k_proj.weight", index));
      EXPECT_EQ(unpack_at(layer.qkv, 32 + row, k), stored(attention + "v_proj.weight", index));
      EXPECT_EQ(unpack_at(layer.gate_up, row, k),
                stored("model.layers.1.mlp.gate_proj.weight", index));
      EXPECT_EQ(unpack_at(layer.gate_up, 16 + row, k),
                stored("model.layers.1.mlp.up_proj.weight", index));
    }
  }
  EXPECT_EQ(unpack_at(layer.gate_up, 36, 3), 0.0f) << "padding of gate";
  EXPECT_EQ(unpack_at(layer.down, 5, 19),
            stored("model.layers.1.mlp.down_proj.weight", 5 * 20 + 19));
  EXPECT_EQ(unpack_at(layer.down, 5, 20), 0.0f) << "padding of down's inputs";
  EXPECT_EQ(unpack_at(model.head(), 16, 23), stored("lm_head.weight", 16 * 24 + 23));
  EXPECT_EQ(layer.mlp_norm[7], stored("model.layers.1.post_attention_layernorm.weight", 7));
}

TEST_F(Compile, BiasesFollowTheOrderOfTheirChannels) {
  made_.config.set("attention_bias", true);
  made_.config.set("mlp_bias", true);
  for (const std::string prefix : {"model.layers.0.", "model.layers.1."}) {
    for (const char* name : {"self_attn.q_proj.bias", "self_attn.o_proj.bias"}) {
      made_.add(prefix + name, {24});
    }
    for (const char* name : {"self_attn.k_proj.bias", "self_attn.v_proj.bias"}) {
      made_.add(prefix + name, {8});
    }
    for (const char* name : {"mlp.gate_proj.bias", "mlp.up_proj.bias"}) {
      made_.add(prefix + name, {20});
    }
    made_.add(prefix + "mlp.down_proj.bias", {24});
  }
  compile();
  const Model model(target());
  const LayerWeights& layer = model.layers()[0];
  EXPECT_EQ(layer.qkv_bias[25], stored("model.layers.0.self_attn.k_proj.bias", 1));
  EXPECT_EQ(layer.gate_up_bias[15], stored("model.layers.0.mlp.gate_proj.bias", 15));
  EXPECT_EQ(layer.gate_up_bias[16], stored("model.layers.0.mlp.up_proj.bias", 0));
  EXPECT_EQ(layer.gate_up_bias[32], stored("model.layers.0.mlp.gate_proj.bias", 16));
  EXPECT_EQ(layer.gate_up_bias[36], 0.0f);
  EXPECT_EQ(layer.down_bias[23], stored("model.layers.0.mlp.down_proj.bias", 23));
}

TEST_F(Compile, Bf16RoundsToNearest) {
  made_.tensors.at("lm_head.weight").values[0] = 1.0f + 0x1p-8f + 0x1p-20f;
  compile("digest", PackedFormat::kBf16);
  EXPECT_EQ(unpack_at(Model(target()).head(), 0, 0), 1.0f + 0x1p-7f);
}

TEST_F(Compile, NumbersThatBf16CannotHoldAreSaidAloudAndBecomeInfinite) {
  made_.tensors.at("lm_head.weight").values[0] = 3.4e38f;
  made_.tensors.at("lm_head.weight").values[1] = NAN;
  testing::internal::CaptureStderr();
  compile("digest", PackedFormat::kBf16);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("head: 1 numbers are NaN or infinite in the checkpoint"));
  EXPECT_THAT(log, HasSubstr("head: 1 numbers are too large for bf16"));
  EXPECT_TRUE(std::isinf(unpack_at(Model(target()).head(), 0, 0)));
  EXPECT_TRUE(std::isnan(unpack_at(Model(target()).head(), 0, 1)));
}

TEST_F(Compile, TheManifestSaysWhatItWasMadeFrom) {
  made_.config.set("bos_token_id", 1);
  compile("abc");
  const Manifest manifest = read_manifest(target());
  EXPECT_EQ(manifest.source_digest, "abc");
  EXPECT_EQ(manifest.source_name, "made up");
  EXPECT_EQ(manifest.weights_digest, sha256_of_file(target() / kWeightsFileName));
  EXPECT_EQ(manifest.architecture.bos_token_id, 1);
  EXPECT_THAT(manifest.architecture.eos_token_ids, ElementsAre(2));
}

TEST_F(Compile, AnEngineOfTheSameDigestIsKept) {
  compile("abc");
  EXPECT_EQ(compile("abc"), CompileOutcome::kAlreadyThere);
  EXPECT_TRUE(find_engine(target(), "abc", {}).whole);
  EXPECT_FALSE(find_engine(target(), "abd", {}).whole);
}

TEST_F(Compile, AnEngineOfAnotherDigestIsReplaced) {
  compile("abc");
  EXPECT_EQ(compile("abd"), CompileOutcome::kCompiled);
  EXPECT_TRUE(find_engine(target(), "abd", {}).whole);
  EXPECT_THAT(names(), testing::UnorderedElementsAre("checkpoint", "engine"));
}

TEST_F(Compile, X_3_ADamagedEngineIsMadeAnew) {
  compile("abc");
  fs::resize_file(target() / kWeightsFileName, 4096);
  EXPECT_FALSE(find_engine(target(), "abc", {}).whole);
  EXPECT_EQ(compile("abc"), CompileOutcome::kCompiled);
  EXPECT_NO_THROW(check_engine(target(), {}));
}

TEST_F(Compile, AFolderOfSomebodyElseIsNotTouched) {
  fs::create_directories(target());
  std::ofstream(target() / "thesis.tex") << "chapter one";
  EXPECT_THAT(refusal(), HasSubstr("is not an engine directory"));
  EXPECT_TRUE(fs::exists(target() / "thesis.tex"));
}

TEST_F(Compile, AFailureLeavesNothing) {
  made_.remove("lm_head.weight");
  EXPECT_THAT(refusal(), HasSubstr("lm_head.weight"));
  EXPECT_THAT(names(), ElementsAre("checkpoint"));
}

TEST_F(Compile, ConcurrentCompilersMakeOneEngine) {
  made_.write(folder());
  std::atomic<int> compiled{0};
  std::vector<std::thread> compilers;
  for (int i = 0; i < 4; ++i) {
    compilers.emplace_back([&] {
      WorkerPool pool({.num_threads = 1, .pin = false});
      const Checkpoint checkpoint = Checkpoint::open(folder());
      const CompileOutcome outcome = compile_model(
          checkpoint, {.format = PackedFormat::kF32, .source_digest = "abc", .source_name = ""},
          target(), pool, [](const std::string&, int) {});
      compiled += outcome == CompileOutcome::kCompiled;
    });
  }
  for (std::thread& compiler : compilers) compiler.join();
  EXPECT_EQ(compiled, 1);
  EXPECT_NO_THROW(check_engine(target(), {}));
}

// What compile_model says when `change` happens to the sources after the first weights were packed.
std::string refusal_when_changed(const fs::path& folder, const fs::path& target, WorkerPool& pool,
                                 const std::function<void()>& change) {
  try {
    const Checkpoint checkpoint = Checkpoint::open(folder);
    bool done = false;
    compile_model(checkpoint,
                  {.format = PackedFormat::kF32, .source_digest = "", .source_name = ""}, target,
                  pool, [&](const std::string& phase, int percent) {
                    if (phase != "pack" || percent == 0 || std::exchange(done, true)) return;
                    change();
                  });
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "accepted";
}

TEST_F(Compile, M_2_ASourceThatShrinksWhileItIsPackedIsAnErrorAndNotTheEnd) {
  made_.write(folder());
  const fs::path file = folder() / "model.safetensors";
  EXPECT_THAT(refusal_when_changed(folder(), target(), pool_, [&] { fs::resize_file(file, 4096); }),
              testing::ContainsRegex("model.safetensors: at byte .* cut off"));
  EXPECT_THAT(names(), ElementsAre("checkpoint"));
}

TEST_F(Compile, ASourceThatIsReplacedWhileItIsPackedIsNotStoredUnderTheNewDigest) {
  made_.write(folder());
  made_.write(dir_.path() / "newer");
  EXPECT_THAT(refusal_when_changed(folder(), target(), pool_,
                                   [&] {
                                     fs::rename(dir_.path() / "newer" / "model.safetensors",
                                                folder() / "model.safetensors");
                                   }),
              HasSubstr("model.safetensors: was written or replaced"));
  EXPECT_FALSE(fs::exists(target()));
}

TEST_F(Compile, ProgressOnlyRises) {
  made_.write(folder());
  const Checkpoint checkpoint = Checkpoint::open(folder());
  std::vector<std::string> phases;
  int last = 0;
  compile_model(checkpoint, {.format = PackedFormat::kF32, .source_digest = "", .source_name = ""},
                target(), pool_, [&](const std::string& phase, int percent) {
                  if (phases.empty() || phases.back() != phase) {
                    phases.push_back(phase);
                    last = 0;
                  }
                  EXPECT_GE(percent, last);
                  EXPECT_LE(percent, 100);
                  last = percent;
                });
  EXPECT_THAT(phases, ElementsAre("map", "pack", "write to disk"));
}

}  // namespace
}  // namespace tidemill

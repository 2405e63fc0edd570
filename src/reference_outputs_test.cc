#include "reference_outputs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <stdexcept>
#include <string>

#include "base/check.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// A model of four ids and eight positions, and a folder that claims to describe it.
class ReferenceOutputsTest : public testing::Test {
 protected:
  ReferenceOutputsTest() {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    tensors("expected.safetensors", "prompt0.logits", "[2,4]", 2 * 4);
  }
  ~ReferenceOutputsTest() override { fs::remove_all(folder_); }

  void json(const std::string& text, const char* name = "expected.json") const {
    std::ofstream(folder_ / name) << text;
  }
  void tensors(const char* file, const std::string& name, const std::string& shape,
               size_t count) const {
    const std::string header =
        format(R"({{"{}":{{"dtype":"F32","shape":{},"data_offsets":[0,{}]}}}})", name, shape,
               count * sizeof(float));
    std::ofstream out(folder_ / file, std::ios::binary);
    const uint64_t size = header.size();
    out.write(reinterpret_cast<const char*>(&size), sizeof size);
    out << header << std::string(count * sizeof(float), '\0');
  }
  ReferenceOutputs read() const {
    return read_reference_outputs(folder_, {.vocab_size = 4, .max_positions = 8});
  }
  std::string refusal() const {
    try {
      read();
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  }

  const fs::path folder_ = fs::path(testing::TempDir()) /
                           ("tidemill-reference-outputs-test-" + std::to_string(::getpid()));
};

TEST_F(ReferenceOutputsTest, BothFormsAreRead) {
  json(R"({"prompts":[{"ids":[0,1],"greedy_ids":[2,3]}],"largest_logit":9.5})");
  const ReferenceOutputs precise = read();
  EXPECT_TRUE(precise.precise);
  EXPECT_EQ(precise.prompts.front().rows, 2u);
  EXPECT_EQ(precise.longest(), 3);
  EXPECT_EQ(precise.largest_logit, 9.5);

  fs::remove(folder_ / "expected.json");
  tensors("logits.safetensors", "sea", "[4]", 4);
  json(R"([{"name":"sea","ids":[0,1],"greedy_ids":[2],"logprobs":[-0.5]}])", "greedy.json");
  EXPECT_EQ(read().prompts.front().rows, 1u);
  EXPECT_FALSE(read().precise);
}

TEST_F(ReferenceOutputsTest, MissingMembersAreNamed) {
  const struct {
    const char* text;
    const char* words;
  } cases[] = {
      {"{}", "prompts must be a list"},
      {R"({"prompts":[]})", "prompts must be a list"},
      {R"({"prompts":3})", "prompts must be a list"},
      {R"({"prompts":[{}]})", "prompt0 has no ids"},
      {R"({"prompts":[3]})", "prompt0 has no ids"},
      {R"({"prompts":[{"ids":3}]})", "ids of prompt0 must be a list"},
      {R"({"prompts":[{"ids":["a"]}]})", "ids of prompt0 must hold ids"},
      {R"({"prompts":[{"ids":[0,1],"logprobs":["a"]}]})", "logprobs of prompt0"},
      {R"({"prompts":[{"ids":[0,1],"greedy_ids":[2]},{"ids":[1]}]})", "prompt1 has neither"},
      {"{", "expected.json"},
  };
  for (const auto& c : cases) {
    json(c.text);
    EXPECT_THAT(refusal(), HasSubstr(c.words)) << c.text;
  }
  fs::remove(folder_ / "expected.json");
  tensors("logits.safetensors", "sea", "[4]", 4);
  json(R"([{"ids":[0]}])", "greedy.json");
  EXPECT_THAT(refusal(), HasSubstr("has no name"));
}

TEST_F(ReferenceOutputsTest, AnotherModelsReferenceIsRefused) {
  for (const char* ids : {"[0,4]", "[0,-1]", "[0,4294967296]", "[0,18446744073709551615]"}) {
    json(format(R"({{"prompts":[{{"ids":{}}}]}})", ids));
    EXPECT_THAT(refusal(), HasSubstr("0 to 3")) << ids;
  }
  json(R"({"prompts":[{"ids":[0,1,2,3,0,1,2,3],"greedy_ids":[1,2]}]})");
  EXPECT_THAT(refusal(), HasSubstr("takes 9 tokens"));

  json(R"({"prompts":[{"ids":[0,1]}]})");
  tensors("expected.safetensors", "prompt0.logits", "[2,5]", 10);
  EXPECT_THAT(refusal(), HasSubstr("must have 4 columns"));
  tensors("expected.safetensors", "prompt0.logits", "[3,4]", 12);
  EXPECT_THAT(refusal(), HasSubstr("the prompt's 2 ids"));
  tensors("expected.safetensors", "prompt0.logits", "[1,2,4]", 8);
  EXPECT_THAT(refusal(), HasSubstr("must have 4 columns"));
}

}  // namespace
}  // namespace tidemill

#include "sampling_arguments.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace tidemill {
namespace {

TEST(SamplingArguments, EveryFlagIsItsFieldOfTheRequest) {
  VerbArguments arguments;
  arguments.temperature = 0.5;
  arguments.top_k = 7;
  arguments.top_p = 0.9;
  arguments.min_p = 0.1;
  arguments.typical_p = 0.8;
  arguments.repetition_penalty = 1.2;
  arguments.frequency_penalty = -0.5;
  arguments.presence_penalty = 1.5;
  arguments.num_logprobs = 3;
  arguments.seed = "18446744073709551615";
  const GenerationFields fields = generation_fields(arguments);
  EXPECT_EQ(fields.temperature, 0.5);
  EXPECT_EQ(fields.top_k, 7);
  EXPECT_EQ(fields.top_p, 0.9);
  EXPECT_EQ(fields.min_p, 0.1);
  EXPECT_EQ(fields.typical_p, 0.8);
  EXPECT_EQ(fields.repetition_penalty, 1.2);
  EXPECT_EQ(fields.frequency_penalty, -0.5);
  EXPECT_EQ(fields.presence_penalty, 1.5);
  EXPECT_EQ(fields.num_logprobs, 3);
  EXPECT_EQ(fields.seed, ~uint64_t{0});
}

TEST(SamplingArguments, WithoutFlagsNothingIsChangedOfTheLogits) {
  const GenerationFields fields = generation_fields({});
  const GenerationFields none;
  EXPECT_EQ(fields.min_p, none.min_p);
  EXPECT_EQ(fields.typical_p, none.typical_p);
  EXPECT_EQ(fields.repetition_penalty, none.repetition_penalty);
  EXPECT_EQ(fields.frequency_penalty, none.frequency_penalty);
  EXPECT_EQ(fields.presence_penalty, none.presence_penalty);
}

TEST(SamplingArguments, ASeedThatIsNoNumberIsRefused) {
  VerbArguments arguments;
  for (const char* seed : {"-1", "x", "1x", "18446744073709551616"}) {
    arguments.seed = seed;
    EXPECT_THROW(generation_fields(arguments), std::runtime_error) << seed;
  }
}

}  // namespace
}  // namespace tidemill

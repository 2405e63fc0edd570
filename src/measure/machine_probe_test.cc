#include "measure/machine_probe.h"

#include <gtest/gtest.h>

namespace tidemill {
namespace {

TEST(MachineProbe, AttentionIsProbedByTheInstructionsOfItsKeysAndValues) {
  EXPECT_EQ(attention_format({.floats = DType::kF32}), PackedFormat::kF32);
  EXPECT_EQ(attention_format({.floats = DType::kBf16}), PackedFormat::kBf16);
  for (const DType floats : {DType::kF32, DType::kBf16}) {
    EXPECT_EQ(attention_format({.floats = floats, .int8_cache = true}).numbers, Numbers::kInt8);
  }
}

}  // namespace
}  // namespace tidemill

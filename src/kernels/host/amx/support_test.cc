#include "kernels/host/amx/support.h"

#include <errno.h>
#include <gtest/gtest.h>

namespace tidemill {
namespace {

int num_asked = 0;
int granted() {
  ++num_asked;
  return 0;
}
int refused() {
  ++num_asked;
  return EPERM;
}

// Sapphire Rapids, as far as it matters here.
constexpr ProcessorAnswers kAllThere{.leaf7_ecx = 1u << 11,
                                     .leaf7_edx = (1u << 22) | (1u << 24) | (1u << 25),
                                     .leaf7_1_eax = 1u << 5,
                                     .saved_states = 0x602e7};

class TileSupport : public testing::Test {
 protected:
  void SetUp() override { num_asked = 0; }
};

TEST_F(TileSupport, NothingIsMissingWhenTheSystemGivesLeave) {
  EXPECT_EQ(missing_for_tiles(kAllThere, granted), "");
  EXPECT_EQ(num_asked, 1);
}

TEST_F(TileSupport, TheSystemsRefusalIsSaid) {
  EXPECT_EQ(missing_for_tiles(kAllThere, refused),
            "the system gives this process no leave to use AMX tiles (arch_prctl: Operation not "
            "permitted)");
}

TEST_F(TileSupport, EachMissingFeatureIsNamedAndNobodyIsAsked) {
  ProcessorAnswers answers = kAllThere;
  answers.leaf7_edx &= ~(1u << 25);
  EXPECT_EQ(missing_for_tiles(answers, granted), "the processor has no AMX-INT8");
  answers.leaf7_edx &= ~(1u << 22);
  EXPECT_EQ(missing_for_tiles(answers, granted), "the processor has no AMX-BF16, AMX-INT8");
  answers = kAllThere;
  answers.leaf7_edx &= ~(1u << 24);
  EXPECT_EQ(missing_for_tiles(answers, granted), "the processor has no AMX-TILE");
  answers = kAllThere;
  answers.leaf7_ecx = 0;
  EXPECT_EQ(missing_for_tiles(answers, granted), "the processor has no AVX512_VNNI");
  answers = kAllThere;
  answers.leaf7_1_eax = 0;
  EXPECT_EQ(missing_for_tiles(answers, granted), "the processor has no AVX512_BF16");
  EXPECT_EQ(num_asked, 0);
}

TEST_F(TileSupport, BothTileStatesMustBeSaved) {
  for (const uint64_t state : {uint64_t{1} << 17, uint64_t{1} << 18}) {
    ProcessorAnswers answers = kAllThere;
    answers.saved_states &= ~state;
    EXPECT_EQ(missing_for_tiles(answers, granted), "the system does not save AMX tiles");
  }
  EXPECT_EQ(num_asked, 0);
}

}  // namespace
}  // namespace tidemill

#include "kernels/arithmetic_probe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <string>

#include "kernels/host/amx/tiles.h"
#include "kernels/host/amx/trapped_tiles.h"
#include "kernels/host/peak/peak_amx.h"
#include "kernels/test_tensors.h"

namespace tidemill {
namespace {

constexpr Numbers kAllNumbers[] = {Numbers::kF32, Numbers::kBf16, Numbers::kInt8, Numbers::kInt4};

class MultiplyPeak : public testing::TestWithParam<const Kernels*> {};

// A count that did not grow with the rounds, or differed between two calls, would make a rate of it
// nonsense.
TEST_P(MultiplyPeak, CountsTheSameForEachRound) {
  for (const Numbers numbers : kAllNumbers) {
    const int64_t one = GetParam()->multiply_peak(numbers, 1);
    EXPECT_GT(one, 0);
    EXPECT_EQ(one % 2, 0) << "a product and its addition are two";
    EXPECT_EQ(GetParam()->multiply_peak(numbers, 1000), 1000 * one);
    EXPECT_EQ(GetParam()->multiply_peak(numbers, 0), 0);
  }
}

// That the work is done, and not found superfluous by the compiler: no processor does a thousand
// operations of a thread in a thousandth of the time.
TEST_P(MultiplyPeak, TakesATimeThatAProcessorCanNeed) {
  WorkerPool workers({.num_threads = 1, .pin = false});
  ArithmeticProbe probe(*GetParam(), workers, 1e-4);
  constexpr double kMoreThanAnyCore = 1e14;
  for (const Numbers numbers : kAllNumbers) {
    const double rate = probe.measure(numbers);
    EXPECT_GT(rate, 0.0);
    EXPECT_LT(rate, kMoreThanAnyCore);
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, MultiplyPeak, testing::ValuesIn(runnable_implementations()),
                         [](const auto& variant) { return test::label(*variant.param); });

// What it does is added up over the workers; with plain functions for a menu, whose count is known.
std::atomic<int64_t> num_calls{0};

TEST(ArithmeticProbe, IsWhatAllWorkersDid) {
  Kernels counting;
  counting.multiply_peak = [](Numbers, int64_t rounds) {
    ++num_calls;
    return rounds;
  };
  WorkerPool workers({.num_threads = 2, .pin = false});
  ArithmeticProbe probe(counting, workers, 0.0);  // whatever it takes is enough
  EXPECT_GT(probe.measure(Numbers::kF32), 0.0);
  num_calls = 0;
  EXPECT_GT(probe.measure(Numbers::kF32), 0.0);
  EXPECT_EQ(num_calls.load(), 2) << "one of each worker: the number of rounds is found once";
}

bool runs_here(const std::string& name) {
  const auto runnable = runnable_variants();
  return std::any_of(runnable.begin(), runnable.end(),
                     [&](const Kernels* kernels) { return kernels->name == name; });
}

TEST(ArithmeticProbe, OfHalvesCountsAnInt8ProductOnce) {
  if (!runs_here("avx2")) GTEST_SKIP() << "no AVX2";
  const Kernels& avx2 = select_kernels("avx2");
  EXPECT_EQ(avx2.multiply_peak(Numbers::kInt4, 3), 2 * avx2.multiply_peak(Numbers::kInt8, 3));
}

// The instructions that a processor with tiles will run, done by the handler of those it lacks.
TEST(ArithmeticProbe, OfTilesDoesTheDotsThatItCounts) {
  if (!runs_here("avx512")) GTEST_SKIP() << "no AVX-512, which stands beside the tiles";
  std::optional<test::TrappedTiles> trapped;
  if (!runs_here("amx")) trapped.emplace();
  EXPECT_EQ(amx::multiply_bf16(2), 2 * 4 * 2 * 16 * 16 * 32);
  EXPECT_EQ(amx::multiply_bytes(2), 2 * 4 * 2 * 16 * 16 * 64);
  // For both: configure, four zeroes, release, and twice four loads, four dots, four zeroes.
  if (trapped) {
    EXPECT_EQ(trapped->num_executed(), 2 * (6 + 2 * 12));
  }
}

}  // namespace
}  // namespace tidemill

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <ostream>
#include <string>

#include "kernels/test_logits.h"
#include "kernels/test_tensors.h"

namespace tidemill {

// Where the test framework looks for it; an address would change from run to run.
static void PrintTo(const Kernels* kernels, std::ostream* out) { *out << kernels->name; }

namespace {

using test::on_lanes;
using test::OwnedTensor;
using test::OwnedWeight;
using test::Random;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::string name_of(const testing::TestParamInfo<const Kernels*>& test) {
  return test::label(*test.param);
}

class Rows : public testing::TestWithParam<const Kernels*> {
 protected:
  LogitSummary summary_of(const std::vector<float>& logits) const {
    return kernels_.summarize_logits(test::OwnedLogits(kernels_, logits).view());
  }

  const Kernels& kernels_ = *GetParam();
  Random random_{11};
};

std::vector<float> random_logits(size_t count, Random& random) {
  std::vector<float> logits(count);
  for (float& logit : logits) logit = 20.0f * test::uniform(random);
  return logits;
}

TEST_P(Rows, EmbeddingIsTheWeightsRowAndZeroBehindIt) {
  for (const PackedFormat format : {PackedFormat::kF32, PackedFormat::kBf16}) {
    OwnedWeight weight(format, 50, 70);
    weight.pack([&](int64_t, int64_t) { return test::uniform(random_); });
    const std::vector<int32_t> ids = {49, 0, 17, 17};
    OwnedTensor out(DType::kF32, 4, 70);
    out.fill(kNan);
    on_lanes(3, [&](Lane& lane) { kernels_.embed(lane, weight.view(), ids.data(), out.view()); });
    for (int64_t row = 0; row < 4; ++row) {
      for (int64_t k = 0; k < 70; ++k) {
        ASSERT_EQ(out.at(row, k), test::unpack_at(weight.view(), ids[static_cast<size_t>(row)], k));
      }
      for (int64_t k = 70; k < out.view().stride; ++k) ASSERT_EQ(out.at(row, k), 0.0f);
    }
  }
}

TEST_P(Rows, NormDividesByTheRootOfTheMeanSquare) {
  for (const int64_t cols : {1, 16, 33, 576}) {
    for (const DType type : {DType::kF32, DType::kBf16}) {
      OwnedTensor in(DType::kF32, 5, cols);
      test::randomize(in, random_);
      std::vector<float> scale(static_cast<size_t>(cols));
      for (float& value : scale) value = test::uniform(random_);
      const std::vector<int32_t> rows = {4, 1, 1};
      OwnedTensor out(type, 3, cols);
      out.fill(kNan);
      on_lanes(2, [&](Lane& lane) {
        kernels_.rms_norm(lane, in.view(), rows.data(), scale.data(), 1e-5f, out.view());
      });
      for (int64_t row = 0; row < 3; ++row) {
        const int64_t source = rows[static_cast<size_t>(row)];
        double squares = 0.0;
        for (int64_t c = 0; c < cols; ++c) squares += std::pow(in.at(source, c), 2.0);
        const double root = std::sqrt(squares / static_cast<double>(cols) + 1e-5);
        // A sum of cols squares, a root, a division and two products in floats; or bf16's 8 bits.
        const double relative =
            static_cast<double>(cols / 16 + 10) * 0x1p-24 + (type == DType::kF32 ? 0.0 : 0x1p-8);
        for (int64_t c = 0; c < cols; ++c) {
          const double value = in.at(source, c) / root * scale[static_cast<size_t>(c)];
          ASSERT_NEAR(out.at(row, c), value, relative * std::fabs(value) + 1e-30);
        }
        for (int64_t c = cols; c < out.view().stride; ++c) ASSERT_EQ(out.at(row, c), 0.0f);
      }
    }
  }
}

TEST_P(Rows, NormOfARowDoesNotDependOnItsNeighboursOrLanes) {
  OwnedTensor in(DType::kF32, 9, 577);
  test::randomize(in, random_);
  const std::vector<float> scale(577, 0.7f);
  OwnedTensor together(DType::kBf16, 9, 577);
  on_lanes(3, [&](Lane& lane) {
    kernels_.rms_norm(lane, in.view(), nullptr, scale.data(), 1e-6f, together.view());
  });
  for (int32_t row = 0; row < 9; ++row) {
    OwnedTensor alone(DType::kBf16, 1, 577);
    on_lanes(1, [&](Lane& lane) {
      kernels_.rms_norm(lane, in.view(), &row, scale.data(), 1e-6f, alone.view());
    });
    ASSERT_EQ(alone.bits(0), together.bits(row));
  }
}

TEST_P(Rows, SummaryIsTheFirstMaximumAndExponentialsAreSummed) {
  for (const size_t count : {1, 15, 16, 17, 63, 64, 65, 1000, 49152}) {
    std::vector<float> logits = random_logits(count, random_);
    logits[count / 2] = 21.0f;
    logits[count - 1] = 21.0f;  // an equal later on
    const LogitSummary summary = summary_of(logits);
    double sum = 0.0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - 21.0);
    EXPECT_EQ(summary.max, 21.0f);
    EXPECT_EQ(summary.argmax, static_cast<int32_t>(count / 2));
    EXPECT_TRUE(summary.finite);
    // Sixteen (eight) partial sums of count / 16 (8) floats each, exp to 2e-7, differences to half
    // an ulp of 42.
    EXPECT_NEAR(kernels_.sum_exp(logits.data(), static_cast<int64_t>(count), 21.0f, 1.0f), sum,
                sum * (static_cast<double>(count) / 8 * 0x1p-24 + 3e-6));
  }
}

TEST_P(Rows, SummaryOfNegativeLogitsIsNotConfusedByWhatLiesBehindTheEnd) {
  const std::vector<float> logits = {-5.0f, -3.0f, -4.0f};
  const LogitSummary summary = summary_of(logits);
  EXPECT_EQ(summary.max, -3.0f);
  EXPECT_EQ(summary.argmax, 1);
  EXPECT_NEAR(kernels_.sum_exp(logits.data(), 3, -3.0f, 1.0f),
              1.0 + std::exp(-1.0) + std::exp(-2.0), 1e-6);
}

TEST_P(Rows, SummaryTellsNanAndInfinityWhereverTheyAre) {
  for (const float strange : {kNan, kInfinity, -kInfinity}) {
    for (size_t position = 0; position < 150; ++position) {
      std::vector<float> logits = random_logits(150, random_);
      logits[position] = strange;
      EXPECT_FALSE(summary_of(logits).finite) << strange << " at " << position;
    }
  }
}

TEST_P(Rows, SumOfExponentialsAppliesTheFactor) {
  const std::vector<float> logits = random_logits(777, random_);
  for (const float factor : {0.1f, 1.0f, 4.0f}) {
    double sum = 0.0;
    for (const float logit : logits) sum += std::exp((static_cast<double>(logit) - 20.0) * factor);
    // The exponent reaches 160 in magnitude, known to half an ulp: 8e-6.
    EXPECT_NEAR(kernels_.sum_exp(logits.data(), 777, 20.0f, factor), sum, sum * 2e-5);
  }
}

// A sum that is one number: exp alone, over its whole range.
TEST_P(Rows, ExponentialIsGoodToThreePartsInTenMillion) {
  for (float x = -86.9f; x <= 0.0f; x += 0.0137f) {
    const double expected = std::exp(static_cast<double>(x));
    ASSERT_NEAR(kernels_.sum_exp(&x, 1, 0.0f, 1.0f), expected, 3e-7 * expected) << x;
  }
}

TEST_P(Rows, CollectsIdsInOrderAndCountsThoseThatDoNotFit) {
  std::vector<float> logits = random_logits(1003, random_);
  std::vector<int32_t> expected;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] >= 15.0f) expected.push_back(static_cast<int32_t>(i));
  }
  const auto found = static_cast<int64_t>(expected.size());
  ASSERT_GT(found, 20);
  const test::OwnedLogits owned(kernels_, logits);
  const Logits row = owned.view();
  std::vector<int32_t> ids(1003, -1);
  EXPECT_EQ(kernels_.collect_at_least(row, 15.0f, ids.data(), 1003), found);
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), ids.begin()));

  std::vector<int32_t> few(21, -1);
  EXPECT_EQ(kernels_.collect_at_least(row, 15.0f, few.data(), 20), found);
  EXPECT_TRUE(std::equal(few.begin(), few.begin() + 20, expected.begin()));
  EXPECT_EQ(few[20], -1) << "written beyond the capacity";
}

TEST_P(Rows, MaximaAreThoseOfEachChunk) {
  for (const int64_t count : {1, 63, 64, 65, 1003}) {
    std::vector<float> logits = random_logits(static_cast<size_t>(count), random_);
    for (float& logit : logits) logit -= 100.0f;  // what is not there must not win as a zero
    std::vector<float> maxima(static_cast<size_t>((count + kLogitChunk - 1) / kLogitChunk) + 1,
                              7.0f);
    kernels_.chunk_maxima(logits.data(), count, maxima.data());
    for (int64_t i = 0; i * kLogitChunk < count; ++i) {
      const auto first = logits.begin() + i * kLogitChunk;
      const auto last = logits.begin() + std::min(count, (i + 1) * kLogitChunk);
      EXPECT_EQ(maxima[static_cast<size_t>(i)], *std::max_element(first, last)) << i;
    }
    EXPECT_EQ(maxima.back(), 7.0f) << "written beyond the last chunk";
  }
}

TEST_P(Rows, TheMaximumOfAChunkIsNotANumberWhereOneOfItsLogitsIsNotFinite) {
  for (const float strange : {kNan, kInfinity, -kInfinity}) {
    for (size_t position = 0; position < 150; ++position) {
      std::vector<float> logits = random_logits(150, random_);
      logits[position] = strange;
      std::vector<float> maxima(3);
      kernels_.chunk_maxima(logits.data(), 150, maxima.data());
      for (size_t chunk = 0; chunk < maxima.size(); ++chunk) {
        EXPECT_EQ(std::isnan(maxima[chunk]), chunk == position / kLogitChunk)
            << strange << " at " << position;
      }
    }
  }
}

TEST_P(Rows, MemoryIsAlignedAndZero) {
  for (const size_t bytes : {size_t{1}, size_t{5000}, size_t{5} << 20}) {
    const Buffer buffer = kernels_.allocate(bytes);
    ASSERT_GE(buffer.bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u);
    const auto* begin = static_cast<const unsigned char*>(buffer.data());
    EXPECT_EQ(std::accumulate(begin, begin + bytes, uint64_t{0}), 0u);
  }
}

TEST_P(Rows, TouchedMemoryIsThereAndKeepsItsValues) {
  constexpr size_t kBytes = size_t{5} << 20;
  const Buffer buffer = kernels_.allocate(kBytes);
  auto* const begin = static_cast<unsigned char*>(buffer.data());
  const auto is_there = [&](size_t offset) {
    unsigned char in_memory = 0;
    EXPECT_EQ(mincore(begin + offset / 4096 * 4096, 4096, &in_memory), 0);
    return in_memory & 1;
  };
  begin[8192] = 7;
  EXPECT_FALSE(is_there(kBytes - 1));
  kernels_.touch(begin + 5000, kBytes - 5000);
  for (size_t offset = 5000; offset < kBytes; offset += 1000) ASSERT_TRUE(is_there(offset));
  EXPECT_EQ(begin[8192], 7);
  EXPECT_EQ(std::accumulate(begin, begin + kBytes, uint64_t{0}), 7u);
  kernels_.touch(begin, 0);
}

TEST_P(Rows, EveryByteIsRead) {
  constexpr int64_t kBytes = 64 * 1024;
  const Buffer buffer = kernels_.allocate(kBytes);
  auto* words = static_cast<uint64_t*>(buffer.data());
  for (int64_t i = 0; i < kBytes / 8; ++i) words[i] = static_cast<uint64_t>(i) * i;
  EXPECT_EQ(kernels_.read_memory(words, kBytes),
            std::accumulate(words, words + kBytes / 8, uint64_t{0}));
}

INSTANTIATE_TEST_SUITE_P(Variants, Rows, testing::ValuesIn(runnable_implementations()), name_of);

TEST(Select, ReferenceAlwaysRunsAndAutoIsTheFastest) {
  ASSERT_FALSE(runnable_variants().empty());
  EXPECT_STREQ(runnable_variants().front()->name, "reference");
  EXPECT_EQ(&select_kernels("auto"), runnable_variants().back());
}

TEST(Select, UnknownNameIsAnsweredWithTheList) {
  try {
    select_kernels("neon");
    FAIL();
  } catch (const std::runtime_error& error) {
    const std::string text = error.what();
    for (const char* part : {"neon", "auto", "reference", "avx2", "avx512", "amx"}) {
      EXPECT_NE(text.find(part), std::string::npos) << text;
    }
  }
}

TEST(Select, EmulatedTilesAreForTestsOnly) {
  const auto is_emulated = [](const Kernels* kernels) {
    return std::string(kernels->name) == "amx_emulated";
  };
  EXPECT_EQ(std::ranges::count_if(runnable_implementations(), is_emulated), 1);
  EXPECT_EQ(std::ranges::count_if(runnable_variants(), is_emulated), 0);
  EXPECT_THROW(select_kernels("amx_emulated"), std::runtime_error);
}

TEST(Select, VariantThatCannotRunSaysWhatIsMissing) {
  for (const Variant& variant : variants()) {
    if (variant.why_not.empty()) continue;
    try {
      select_kernels(variant.kernels->name);
      FAIL();
    } catch (const std::runtime_error& error) {
      EXPECT_NE(std::string(error.what()).find(variant.why_not), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace tidemill

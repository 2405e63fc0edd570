// Products with integer weights: their sums are exact and the floats behind them stand in one
// order, so that every variant has the bits of the reference.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string.h>

#include <cmath>
#include <limits>
#include <ostream>
#include <utility>

#include "kernels/test_logits.h"
#include "kernels/test_tensors.h"
#include "kernels/test_wanted.h"

namespace tidemill {
namespace {

using test::on_lanes;
using test::OwnedIntegers;
using test::OwnedQuantized;
using test::OwnedTensor;
using test::Random;

const Kernels& reference() { return select_kernels("reference"); }

struct Case {
  const Kernels* kernels;
  PackedFormat format;
};

std::string name_of(const Case& test_case) {
  return test::label(*test_case.kernels) + "_" + test::label(test_case.format);
}
void PrintTo(const Case& test_case, std::ostream* out) { *out << name_of(test_case); }

// Groups of 160 and 512 are cut by what variants take of K at a time.
std::vector<PackedFormat> formats() {
  std::vector<PackedFormat> all = {PackedFormat::kInt8PerChannel};
  for (const Numbers numbers : {Numbers::kInt8, Numbers::kInt4}) {
    for (const Offsets offsets : {Offsets::kNone, Offsets::kZero, Offsets::kOffset}) {
      for (const int32_t group : {32, 64, 96, 128, 160, 512}) {
        all.push_back({numbers, offsets, group});
      }
    }
  }
  return all;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Kernels* kernels : runnable_implementations()) {
    for (const PackedFormat& format : formats()) all.push_back({kernels, format});
  }
  return all;
}

struct Shape {
  int64_t rows, k, n;
};
// Sizes that miss the tile in every direction, groups that end short, and SmolLM2's hidden size.
constexpr Shape kShapes[] = {{1, 64, 64},   {17, 65, 33}, {9, 1000, 31}, {5, 576, 150},
                             {2, 1, 1},     {6, 31, 129}, {3, 320, 72},  {13, 129, 40},
                             {70, 128, 40}, {26, 72, 793}};

OwnedTensor random_values(int64_t rows, int64_t k, Random& random) {
  OwnedTensor values(DType::kF32, rows, k);
  test::randomize(values, random);
  return values;
}

class IntegerProduct : public testing::TestWithParam<Case> {
 protected:
  const PackedFormat& format() const { return GetParam().format; }
  const Kernels& kernels() const { return *GetParam().kernels; }

  PackedWeight weight_view(const OwnedIntegers& weight, int32_t parts) const {
    PackedWeight view = weight.view();
    view.input_parts = parts;
    return view;
  }
  static OwnedTensor multiply(const Kernels& kernels, const Tensor& in, const PackedWeight& weight,
                              int lanes = 1) {
    OwnedTensor out(DType::kF32, in.rows, weight.n);
    out.fill(std::numeric_limits<float>::quiet_NaN());
    on_lanes(lanes, [&](Lane& lane) { kernels.matmul(lane, in, weight, Epilogue{}, out.view()); });
    return out;
  }
  Random random_{11};
};

TEST_P(IntegerProduct, HasTheReferencesBitsOnSizesThatMissTheTile) {
  for (const Shape& shape : kShapes) {
    for (const int32_t parts : {1, 2}) {
      const OwnedIntegers weight(format(), shape.n, shape.k, random_);
      const PackedWeight view = weight_view(weight, parts);
      const OwnedQuantized in(reference(), random_values(shape.rows, shape.k, random_),
                              input_form(view));
      const OwnedTensor expected = multiply(reference(), in.view(), view);
      for (const int lanes : {1, 2}) {  // one alone has the largest pieces
        const OwnedTensor out = multiply(kernels(), in.view(), view, lanes);
        for (int64_t row = 0; row < shape.rows; ++row) {
          ASSERT_EQ(out.bits(row), expected.bits(row))
              << shape.rows << "x" << shape.k << "x" << shape.n << ", row " << row << ", " << parts;
        }
      }
    }
  }
}

TEST_P(IntegerProduct, IsTheSumOfProductsOfWhatIsStored) {
  for (const Shape& shape : kShapes) {
    for (const int32_t parts : {1, 2}) {
      const OwnedIntegers weight(format(), shape.n, shape.k, random_);
      const PackedWeight view = weight_view(weight, parts);
      const OwnedQuantized in(kernels(), random_values(shape.rows, shape.k, random_),
                              input_form(view));
      const OwnedTensor out = multiply(kernels(), in.view(), view);
      std::vector<float> channel(static_cast<size_t>(shape.k));
      for (int64_t n = 0; n < shape.n; ++n) {
        unpack_row(view, n, channel.data());
        for (int64_t row = 0; row < shape.rows; ++row) {
          double sum = 0.0;
          double magnitude = 0.0;
          for (int64_t k = 0; k < shape.k; ++k) {
            sum += in.at(row, k) * static_cast<double>(channel[static_cast<size_t>(k)]);
            // With offsets two sums of q itself, up to 255 of a scale, nearly cancel.
            magnitude += std::fabs(in.at(row, k)) * 350.0;
          }
          ASSERT_NEAR(out.at(row, n), sum, 0x1p-20 * magnitude + 1e-5) << row << "," << n;
        }
      }
    }
  }
}

TEST_P(IntegerProduct, LargestNumbersHaveTheReferencesBits) {
  constexpr int64_t kInputs = 4096;
  constexpr int64_t kRows = 5;
  const uint8_t largest = format().numbers == Numbers::kInt4 ? 15 : 255;
  const auto groups = static_cast<size_t>(kPanelChannels * num_groups(format(), kInputs));
  const std::vector<uint8_t> q(static_cast<size_t>(kPanelChannels * kInputs), largest);
  const std::vector<float> scales(groups, 0.5f);
  const std::vector<float> offsets(groups, 0.0f);
  const Buffer packed = reference().allocate(packed_bytes(format(), kPanelChannels, kInputs));
  pack_panel(format(), kInputs,
             IntegerRows{.num_rows = kPanelChannels,
                         .q = q.data(),
                         .scales = scales.data(),
                         .offsets = offsets.data()},
             static_cast<unsigned char*>(packed.data()));
  const PackedWeight weight{.format = format(),
                            .n = kPanelChannels,
                            .k = kInputs,
                            .data = static_cast<const unsigned char*>(packed.data())};
  OwnedTensor values(DType::kF32, kRows, kInputs);
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t k = 0; k < kInputs; ++k) values.set(row, k, row % 2 == 0 ? 1.0f : -1.0f);
  }
  const OwnedQuantized in(reference(), values, input_form(weight));
  const OwnedTensor expected = multiply(reference(), in.view(), weight);
  const OwnedTensor out = multiply(kernels(), in.view(), weight);
  for (int64_t row = 0; row < kRows; ++row) {
    ASSERT_GT(std::fabs(expected.at(row, 0)), 4000.0f);
    ASSERT_EQ(out.bits(row), expected.bits(row)) << row;
  }
}

TEST_P(IntegerProduct, TellsTheGreatestOfEachChunkOfItsRows) {
  for (const Shape& shape : {Shape{1, 64, 393}, Shape{5, 64, 393}, Shape{37, 64, 1003}}) {
    const OwnedIntegers weight(format(), shape.n, shape.k, random_);
    const PackedWeight view = weight_view(weight, 2);
    const OwnedQuantized in(kernels(), random_values(shape.rows, shape.k, random_),
                            input_form(view));
    OwnedTensor out(DType::kF32, shape.rows, shape.n);
    OwnedTensor maxima(DType::kF32, shape.rows, num_logit_chunks(shape.n));
    on_lanes(2, [&](Lane& lane) {
      kernels().matmul(lane, in.view(), view, {.chunk_maxima = &maxima.view()}, out.view());
    });
    for (int64_t row = 0; row < shape.rows; ++row) {
      ASSERT_EQ(maxima.floats(row), test::chunk_maxima_of(out.floats(row)))
          << row << " of " << shape.rows;
    }
  }
}

// Runs longer and shorter than what a tile asks for, and one that ends where memory does.
TEST_P(IntegerProduct, WhatElseIsWantedMeanwhileChangesNothing) {
  const OwnedIntegers weight(format(), 393, 576, random_);
  const PackedWeight view = weight_view(weight, 1);
  const bool asks = test::describes(kernels(), "AVX-512 with VNNI");
  for (const int64_t rows : {8, 13, 40}) {
    const OwnedQuantized in(kernels(), random_values(rows, 576, random_), input_form(view));
    const OwnedTensor expected = multiply(kernels(), in.view(), view);
    for (const int64_t bytes : {64, 4096, 8192, 1 << 19}) {
      test::WantedMemory wanted(kernels(), bytes);
      OwnedTensor out(DType::kF32, rows, view.n);
      on_lanes(1, [&](Lane& lane) {
        lane.want(wanted.ahead());
        kernels().matmul(lane, in.view(), view, Epilogue{}, out.view());
      });
      for (int64_t row = 0; row < rows; ++row) ASSERT_EQ(out.bits(row), expected.bits(row));
      // Of 8 rows int8 waits for memory itself.
      EXPECT_EQ(wanted.any_asked(), asks && (rows > 8 || format().numbers == Numbers::kInt4));
      if (bytes == 64) {
        EXPECT_EQ(wanted.all_asked(), wanted.any_asked());
      }
    }
  }
}

TEST_P(IntegerProduct, RowsBitsDependOnThatRowAlone) {
  for (const auto& [shape, parts] :
       {std::pair{Shape{19, 576, 200}, 1}, {Shape{19, 320, 40}, 2}, {Shape{34, 128, 24}, 1}}) {
    const OwnedIntegers weight(format(), shape.n, shape.k, random_);
    const PackedWeight view = weight_view(weight, parts);
    const OwnedTensor values = random_values(shape.rows, shape.k, random_);
    const OwnedQuantized in(kernels(), values, input_form(view));
    const OwnedTensor together = multiply(kernels(), in.view(), view, 3);
    for (int64_t row = 0; row < shape.rows; ++row) {
      OwnedTensor alone(DType::kF32, 1, shape.k);
      for (int64_t k = 0; k < shape.k; ++k) alone.set(0, k, values.at(row, k));
      const OwnedQuantized one(kernels(), alone, input_form(view));
      ASSERT_EQ(multiply(kernels(), one.view(), view).bits(0), together.bits(row))
          << row << " of " << shape.rows << ", " << parts;
    }
  }
}

TEST_P(IntegerProduct, AnInputThatIsNoNumberIsSeenInItsRowAlone) {
  const OwnedIntegers weight(format(), 33, 200, random_);
  for (const float strange :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const int32_t parts : {1, 2}) {
      const PackedWeight view = weight_view(weight, parts);
      OwnedTensor values = random_values(4, 200, random_);
      const OwnedQuantized clean(kernels(), values, input_form(view));
      const OwnedTensor before = multiply(kernels(), clean.view(), view);
      values.set(2, 199, strange);
      const OwnedQuantized in(kernels(), values, input_form(view));
      const OwnedTensor out = multiply(kernels(), in.view(), view);
      for (int64_t n = 0; n < 33; ++n) {
        EXPECT_TRUE(std::isnan(out.at(2, n))) << n;
        EXPECT_EQ(out.at(1, n), before.at(1, n));
        EXPECT_EQ(out.at(3, n), before.at(3, n));
      }
    }
  }
}

TEST_P(IntegerProduct, EpiloguesAreThoseOfFloats) {
  for (const Shape& shape : {Shape{7, 192, 2 * 48}, Shape{7, 64, 2 * 208}}) {
    const OwnedIntegers weight(format(), shape.n, shape.k, random_);
    const OwnedQuantized in(kernels(), random_values(shape.rows, shape.k, random_),
                            input_form(weight.view()));
    const OwnedTensor plain = multiply(kernels(), in.view(), weight.view());
    std::vector<float> bias(static_cast<size_t>(shape.n));
    for (float& value : bias) value = test::uniform(random_);
    OwnedTensor residual(DType::kF32, shape.rows, shape.n);
    test::randomize(residual, random_);
    OwnedTensor sum(DType::kF32, shape.rows, shape.n);
    OwnedTensor gated(DType::kF32, shape.rows, shape.n / 2);
    on_lanes(shape.n < 100 ? 2 : 1, [&](Lane& lane) {
      kernels().matmul(lane, in.view(), weight.view(),
                       {.bias = bias.data(), .residual = &residual.view()}, sum.view());
      kernels().matmul(lane, in.view(), weight.view(), {.silu_times_up = true}, gated.view());
    });
    for (int64_t row = 0; row < shape.rows; ++row) {
      for (int64_t n = 0; n < shape.n; ++n) {
        ASSERT_EQ(sum.at(row, n),
                  plain.at(row, n) + bias[static_cast<size_t>(n)] + residual.at(row, n));
      }
      for (int64_t n = 0; n < shape.n / 2; ++n) {
        const double gate = plain.at(row, n / 16 * 32 + n % 16);
        const double up = plain.at(row, n / 16 * 32 + 16 + n % 16);
        const double value = gate / (1.0 + std::exp(-gate)) * up;
        ASSERT_NEAR(gated.at(row, n), value, 1e-5 * std::fabs(value) + 1e-5);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, IntegerProduct, testing::ValuesIn(cases()),
                         [](const auto& test) { return name_of(test.param); });

// ---- the input

std::vector<QuantizedForm> forms() {
  std::vector<QuantizedForm> all;
  for (const int32_t group : {0, 32, 64, 128}) {
    for (const bool nibble_order : {false, true}) {
      for (const int32_t parts : {1, 2}) all.push_back({group, nibble_order, parts});
    }
  }
  return all;
}

class Quantize : public testing::TestWithParam<const Kernels*> {};

TEST_P(Quantize, EveryVariantRoundsTheSame) {
  Random random(5);
  for (const QuantizedForm& form : forms()) {
    for (const int64_t cols : {1, 63, 64, 65, 100, 576, 1000, 1024, 1152, 2176}) {
      OwnedTensor values = random_values(4, cols, random);
      for (int64_t col = 0; col < cols; ++col) values.set(1, col, 0.0f);  // a row of nothing
      values.set(2, cols / 2, 1e20f);                                     // an outlier
      if (cols > 70) values.set(0, 70, std::numeric_limits<float>::quiet_NaN());
      if (cols > 1100) values.set(3, cols - 3, std::numeric_limits<float>::infinity());
      const OwnedQuantized expected(reference(), values, form);
      const OwnedQuantized out(*GetParam(), values, form);
      ASSERT_EQ(out.bytes(), expected.bytes())
          << "group " << form.group << ", parts " << form.parts << ", " << cols << " columns";
    }
  }
}

TEST_P(Quantize, IsWithinHalfAStepAndSaysItsSum) {
  Random random(6);
  for (const QuantizedForm& form : forms()) {
    const OwnedTensor values = random_values(4, 200, random);
    const OwnedQuantized out(*GetParam(), values, form);
    for (int64_t row = 0; row < 4; ++row) {
      for (int64_t part = 0; part < form.parts; ++part) {
        const int64_t per_group = form.group == 0 ? 256 : form.group;
        for (int64_t group = 0; group * per_group < 256; ++group) {
          int sum = 0;
          for (int64_t i = group * per_group; i < std::min<int64_t>((group + 1) * per_group, 256);
               ++i) {
            sum += out.integer(row, part, i);
          }
          ASSERT_EQ(out.scale(row, part, group).sum, sum);
        }
      }
      for (int64_t col = 0; col < 200; ++col) {
        const int64_t group = form.group == 0 ? 0 : col / form.group;
        const float step = out.scale(row, form.parts - 1, group).scale;
        // Half a step, and what the division leaves.
        ASSERT_LE(std::fabs(out.at(row, col) - values.at(row, col)), 0.51 * step);
      }
    }
  }
}

// A norm can write what the next product reads.
TEST_P(Quantize, ANormOfIntegersIsTheNormQuantised) {
  Random random(7);
  const OwnedTensor values = random_values(5, 100, random);
  std::vector<float> scale(100, 1.5f);
  for (const QuantizedForm& form : forms()) {
    OwnedTensor normed(DType::kF32, 5, 100);
    on_lanes(1, [&](Lane& lane) {
      GetParam()->rms_norm(lane, values.view(), nullptr, scale.data(), 1e-5f, normed.view());
    });
    const OwnedQuantized expected(*GetParam(), normed, form);
    const OwnedQuantized out(*GetParam(), values, form);  // its memory is written again
    on_lanes(2, [&](Lane& lane) {
      GetParam()->rms_norm(lane, values.view(), nullptr, scale.data(), 1e-5f, out.view());
    });
    ASSERT_EQ(out.bytes(), expected.bytes());
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, Quantize, testing::ValuesIn(runnable_implementations()),
                         [](const auto& test) { return test::label(*test.param); });

// ---- the weight

TEST(IntegerWeight, TakesTheBytesThatItsLayoutSays) {
  const auto bits = [](Numbers numbers, Offsets offsets, int32_t group, int64_t k) {
    return static_cast<double>(panel_bytes({numbers, offsets, group}, k)) * 8.0 / 16.0 /
           static_cast<double>(k);
  };
  EXPECT_EQ(bits(Numbers::kInt4, Offsets::kZero, 128, 4224), 4.25);
  EXPECT_EQ(bits(Numbers::kInt4, Offsets::kOffset, 64, 4224), 4.5);
  EXPECT_EQ(bits(Numbers::kInt4, Offsets::kOffset, 32, 4224), 5.0);
  EXPECT_EQ(bits(Numbers::kInt4, Offsets::kNone, 32, 4224), 4.5);
  EXPECT_EQ(bits(Numbers::kInt8, Offsets::kNone, 32, 4224), 8.5);
  EXPECT_EQ(panel_bytes(PackedFormat::kInt8PerChannel, 576), 576u * 16 + 64);
  // Whole pages have a row of zeros behind them.
  EXPECT_EQ(panel_bytes({Numbers::kInt4, Offsets::kOffset, 64}, 4096), 64u * (512 + 64) + 64);
  // Groups of 128 in 576: two pairs and half a group alone.
  EXPECT_EQ(panel_bytes({Numbers::kInt4, Offsets::kNone, 128}, 576), (576u / 8 + 3) * 64);
}

// Of the last group, which is short and padded, too; of groups that are too long for it, not.
TEST(IntegerWeight, KeepsWhatAGroupOfInt4SumsTo) {
  const auto words = [](int32_t group, int64_t k, int64_t row) {
    const PackedFormat format{Numbers::kInt4, Offsets::kZero, group};
    const std::vector<uint8_t> q(static_cast<size_t>(2 * k), 15);
    const std::vector<float> scales(static_cast<size_t>(2 * num_groups(format, k)), 1.0f);
    const std::vector<float> zeros(scales.size(), 16.0f);
    std::vector<unsigned char> panel(panel_bytes(format, k));
    pack_panel(format, k,
               {.num_rows = 2, .q = q.data(), .scales = scales.data(), .offsets = zeros.data()},
               panel.data());
    std::vector<uint16_t> result(3);
    memcpy(result.data(), panel.data() + row * 64 + 32, 3 * sizeof(uint16_t));
    return result;
  };
  using testing::ElementsAre;
  EXPECT_THAT(words(64, 200, 8), ElementsAre(16 + 32 * 960, 16 + 32 * 960, 0));
  EXPECT_THAT(words(64, 200, 3 * 9 + 8), ElementsAre(16 + 32 * 120, 16 + 32 * 120, 0));
  EXPECT_THAT(words(128, 128, 16), ElementsAre(16 + 32 * 1920, 16 + 32 * 1920, 0));
  EXPECT_THAT(words(256, 256, 32), ElementsAre(16, 16, 0));
}

TEST(IntegerWeight, GivesBackWhatWasPacked) {
  Random random(8);
  for (const PackedFormat& format : formats()) {
    for (const int64_t k : {1, 65, 200, 576, 4096}) {
      const int64_t groups = num_groups(format, k);
      const uint64_t range = format.numbers == Numbers::kInt4 ? 16 : 256;
      std::vector<uint8_t> q(static_cast<size_t>(3 * k));
      for (uint8_t& value : q) value = static_cast<uint8_t>(random() % range);
      std::vector<float> scales(static_cast<size_t>(3 * groups));
      std::vector<float> offsets(scales.size());
      for (size_t i = 0; i < scales.size(); ++i) {
        scales[i] = static_cast<float>(1 + random() % 100) * 0.125f;
        offsets[i] = static_cast<float>(random() % range);
      }
      std::vector<unsigned char> panel(panel_bytes(format, k), 0xff);
      pack_panel(
          format, k,
          IntegerRows{
              .num_rows = 3, .q = q.data(), .scales = scales.data(), .offsets = offsets.data()},
          panel.data());
      const PackedWeight weight{.format = format, .n = 3, .k = k, .data = panel.data()};
      std::vector<float> row(static_cast<size_t>(k));
      for (int64_t n = 0; n < 3; ++n) {
        unpack_row(weight, n, row.data());
        for (int64_t i = 0; i < k; ++i) {
          const auto group =
              static_cast<size_t>(n * groups + (format.group == 0 ? 0 : i / format.group));
          const float value = q[static_cast<size_t>(n * k + i)];
          const float middle = format.numbers == Numbers::kInt4 ? 8.0f : 128.0f;
          const float expected = format.offsets == Offsets::kNone ? scales[group] * (value - middle)
                                 : format.offsets == Offsets::kZero
                                     ? scales[group] * (value - offsets[group])
                                     : scales[group] * value + offsets[group];
          ASSERT_EQ(row[static_cast<size_t>(i)], expected)
              << test::label(format) << " " << n << "," << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace tidemill

#include "kernels/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/select.h"

namespace tidemill {
namespace {

using testing::DoubleNear;
using testing::HasSubstr;
using testing::Pointwise;

constexpr PackedFormat kInt4Group32{Numbers::kInt4, Offsets::kNone, 32};

// Two workers of the design's second machine: 36 GB/s, 0.94 TOPS.
Calibration genoa() {
  Calibration calibration{.read_by_one = 35e9, .read_by_all = 36e9};
  calibration.multiplies = {0.234e12, 0.47e12, 0.94e12, 0.94e12};
  return calibration;
}

PackedWeight weight_of(const PackedFormat& format) {
  return {.format = format, .n = 4096, .k = 4096};
}

ProductTimes times_of(const PackedFormat& format, double of_most_rows) {
  ProductTimes times{.format = format};
  times.seconds_per_byte.back() = of_most_rows;
  return times;
}

TEST(Calibration, FreeTokensAreTheFormulaOfTheDesign) {
  // (W / BW) * P / F, and the numbers that the design has for this machine: 13 and about 7.
  const PackedWeight bf16[] = {weight_of(PackedFormat::kBf16)};
  const PackedWeight int8[] = {weight_of(PackedFormat::kInt8PerChannel)};
  const PackedWeight int4[] = {weight_of(kInt4Group32)};
  EXPECT_NEAR(free_tokens(genoa(), bf16), 0.47e12 / 36e9, 0.1);
  EXPECT_NEAR(free_tokens(genoa(), int8), 0.94e12 / 36e9 / 2, 0.1);
  EXPECT_NEAR(free_tokens(genoa(), int4), 0.94e12 / 36e9 / 2 * 4.5 / 8, 0.1);
}

TEST(Calibration, FreeTokensOfSeveralWeightsAreOfTheirBytesAndOperationsTogether) {
  const PackedWeight one[] = {weight_of(PackedFormat::kInt8PerChannel)};
  PackedWeight twice = one[0];
  twice.input_parts = 2;  // each token is two rows of integers
  const PackedWeight both[] = {one[0], twice};
  EXPECT_NEAR(free_tokens(genoa(), both), free_tokens(genoa(), one) * 2 / 3, 1e-9);
}

TEST(Calibration, WeightsOfFloatsAreMultipliedOnceHoweverManyPartsIntegersHave) {
  PackedWeight bf16 = weight_of(PackedFormat::kBf16);
  const double once = free_tokens(genoa(), std::span(&bf16, 1));
  bf16.input_parts = 2;
  EXPECT_EQ(free_tokens(genoa(), std::span(&bf16, 1)), once);
}

TEST(Calibration, AStepWithDecodesTakesWhatIsFreeAndLessWhereTokensTakeLong) {
  EXPECT_EQ(mixed_step_tokens(0, 0), 128);  // nothing is known
  EXPECT_EQ(mixed_step_tokens(7, 0.3e-3), 128);
  EXPECT_EQ(mixed_step_tokens(7, 0.4e-3), 64);  // 0.05 s, and few are free
  EXPECT_EQ(mixed_step_tokens(0.5, 0.4e-3), 64);
  EXPECT_EQ(mixed_step_tokens(0, 0.4e-3), 128);  // or nobody knows
  EXPECT_EQ(mixed_step_tokens(0, 0.9e-3), 128);
  EXPECT_EQ(mixed_step_tokens(0, 1.0e-3), 64);  // 0.125 s
  EXPECT_EQ(mixed_step_tokens(8, 0.3e-3), 128);
  EXPECT_EQ(mixed_step_tokens(8, 0.4e-3), 96);
  EXPECT_EQ(mixed_step_tokens(31, 1.3e-3), 96);
  EXPECT_EQ(mixed_step_tokens(32, 1.3e-3), 160);
  EXPECT_EQ(mixed_step_tokens(200, 0.1e-3), 192);
  EXPECT_EQ(mixed_step_tokens(7, 2.4e-3), 64);
  EXPECT_EQ(mixed_step_tokens(50, 2.4e-3), 64);
  EXPECT_EQ(mixed_step_tokens(7, 7.8e-3), 64);
  EXPECT_EQ(mixed_step_tokens(7, 7.9e-3), 48);  // 64 take 0.5 s
  EXPECT_EQ(mixed_step_tokens(50, 7.9e-3), 48);
  EXPECT_EQ(mixed_step_tokens(0, 7.9e-3), 48);
  EXPECT_EQ(mixed_step_tokens(165, 3e-3), 160);
  EXPECT_EQ(mixed_step_tokens(9000, 3e-3), 512);
}

TEST(Calibration, WithoutANumberThereIsNoGuess) {
  const PackedWeight weights[] = {weight_of(PackedFormat::kBf16)};
  EXPECT_EQ(free_tokens(Calibration{}, weights), 0.0);
  EXPECT_EQ(seconds_per_token(Calibration{}, weights), 0.0);
  Calibration no_read = genoa();
  no_read.read_by_all = 0.0;
  EXPECT_EQ(free_tokens(no_read, weights), 0.0);
  EXPECT_EQ(free_tokens(genoa(), {}), 0.0);
}

TEST(Calibration, AttainableIsWhatProductsReachAndNeverMoreThanThePeak) {
  Calibration calibration = genoa();
  const auto most = static_cast<double>(kCalibratedRows.back());
  // Of bf16, by the panels that are measured: theirs have a row of zeros.
  constexpr int64_t kInputs = 2048;
  const double weights_per_byte = static_cast<double>(kInputs * kPanelChannels) /
                                  static_cast<double>(panel_bytes(PackedFormat::kBf16, kInputs));
  const auto seconds_at = [&](double rate) { return 2.0 * most * weights_per_byte / rate; };
  calibration.products = {times_of(PackedFormat::kBf16, seconds_at(0.3e12))};
  EXPECT_NEAR(calibration.attainable(PackedFormat::kBf16), 0.3e12, 1e6);
  calibration.products = {times_of(PackedFormat::kBf16, seconds_at(0.6e12))};
  EXPECT_NEAR(calibration.attainable(PackedFormat::kBf16), 0.47e12, 1e6);
  // Where the most was set aside, what is known of fewer.
  calibration.products[0].seconds_per_byte.back() = 0.0;
  calibration.products[0].seconds_per_byte[0] = 2.0 * weights_per_byte / 0.2e12;
  EXPECT_NEAR(calibration.attainable(PackedFormat::kBf16), 0.2e12, 1e6);
  calibration.products[0].seconds_per_byte[0] = 0.0;
  EXPECT_NEAR(calibration.attainable(PackedFormat::kBf16), 0.47e12, 1e6) << "nothing is known";
}

TEST(Calibration, AFormatThatWasNotMeasuredIsLikeTheNearestGroup) {
  Calibration calibration = genoa();
  constexpr PackedFormat kInt4Group128{Numbers::kInt4, Offsets::kZero, 128};
  calibration.products = {times_of(kInt4Group32, 1e-9), times_of(kInt4Group128, 0.5e-9)};
  const double of_128 = calibration.attainable(kInt4Group128);
  EXPECT_LT(calibration.attainable(kInt4Group32), of_128);
  EXPECT_EQ(calibration.attainable({Numbers::kInt4, Offsets::kNone, 256}), of_128);
}

TEST(Calibration, ProductsGrowByWhatEveryWeightTakes) {
  Calibration calibration = genoa();
  const ProductTimes bf16{.format = PackedFormat::kBf16,
                          .seconds_per_byte = {1.0, 1.1, 1.1, 1.3, 2.0, 4.0, 8.0, 16.0}};
  const ProductTimes int8{.format = PackedFormat::kInt8PerChannel,
                          .seconds_per_byte = {1.0, 1.3, 1.2, 1.5, 2.0, 4.0, 8.0, 16.0}};
  calibration.products = {bf16, int8};
  const PackedWeight of_bf16 = weight_of(PackedFormat::kBf16);
  const PackedWeight of_int8 = weight_of(PackedFormat::kInt8PerChannel);
  const std::vector<double> growth = product_growth(calibration, {&of_bf16, 1});
  ASSERT_EQ(growth.size(), 128u);
  EXPECT_THAT(
      std::span(growth).first(8),
      Pointwise(DoubleNear(1e-9), std::vector<double>{1.0, 1.1, 1.1, 1.1, 1.15, 1.2, 1.25, 1.3}));
  EXPECT_DOUBLE_EQ(growth[95], 12.0) << "on the line from 64 to 128";
  EXPECT_DOUBLE_EQ(growth[127], 16.0);
  const double of_8 = product_growth(calibration, {&of_int8, 1})[7];
  EXPECT_DOUBLE_EQ(of_8, 1.5);
  const PackedWeight both[] = {of_bf16, of_int8};
  EXPECT_GT(product_growth(calibration, both)[7], 1.3);
  EXPECT_LT(product_growth(calibration, both)[7], of_8);
  EXPECT_DOUBLE_EQ(product_growth(calibration, {&of_int8, 1})[3], 1.3) << "it never falls";
  PackedWeight twice = of_int8;
  twice.input_parts = 2;  // 2 rows of one token, 8 of 4, 128 of 64
  EXPECT_DOUBLE_EQ(product_growth(calibration, {&twice, 1})[3], 1.5 / 1.2)
      << "one never takes longer than two";
  EXPECT_EQ(product_growth(calibration, {&twice, 1}).size(), 64u);
}

TEST(Calibration, ProductsGrowAsFarAsTheyAreKnown) {
  Calibration calibration = genoa();
  const PackedWeight weight = weight_of(PackedFormat::kBf16);
  EXPECT_TRUE(product_growth(Calibration{}, {&weight, 1}).empty());
  calibration.products = {{.format = PackedFormat::kBf16,
                           .seconds_per_byte = {1.0, 1.1, 1.2, 0.0, 2.0, 4.0, 8.0, 16.0}}};
  EXPECT_EQ(product_growth(calibration, {&weight, 1}).size(), 4u) << "8 rows were set aside";
  calibration.products[0].seconds_per_byte[0] = 0.0;
  EXPECT_TRUE(product_growth(calibration, {&weight, 1}).empty());
}

TEST(Calibration, StrangeValuesAreSaidAndNotUsed) {
  Calibration calibration = genoa();
  calibration.read_by_one = 1e6;     // a megabyte per second
  calibration.multiplies[1] = 1e17;  // a hundred thousand of today's cores
  const double read = 1.0 / 36e9;
  ProductTimes int8 = times_of(PackedFormat::kInt8PerChannel,
                               static_cast<double>(kCalibratedRows.back()) * 2 / 0.94e12);
  int8.seconds_per_byte[0] = 10 * read;  // ten times slower than reading
  int8.seconds_per_byte[1] = read;
  calibration.products = {int8};
  set_strange_aside(calibration, 2);
  EXPECT_EQ(calibration.read_by_one, 0.0);
  EXPECT_EQ(calibration.multiplies[1], 0.0);
  EXPECT_EQ(calibration.read_by_all, 36e9);
  EXPECT_EQ(calibration.products[0].seconds_per_byte[0], 0.0);
  EXPECT_EQ(calibration.products[0].seconds_per_byte[1], read);
  EXPECT_GT(calibration.products[0].seconds_per_byte.back(), 0.0);
  ASSERT_EQ(calibration.set_aside.size(), 3u);
  EXPECT_THAT(calibration.set_aside[0], HasSubstr("read by one worker"));
  EXPECT_THAT(calibration.set_aside[1], HasSubstr("bf16"));
  EXPECT_THAT(calibration.set_aside[2], HasSubstr("1 rows"));
}

// As on tiles: their products are so fast that the scales of small groups are what takes time.
TEST(Calibration, ScalesOfGroupsAreNotStrange) {
  Calibration calibration = genoa();
  calibration.multiplies = {350e9, 5.5e12, 11e12, 11e12};
  constexpr auto kMost = static_cast<double>(kCalibratedRows.back());
  const double products = kMost * 2 / 11e12;  // of all rows, a byte
  const double scales = kMost * 12 / 32 / 350e9;
  ProductTimes groups = times_of({Numbers::kInt8, Offsets::kNone, 32}, 0.0);
  groups.seconds_per_byte.back() = 2 * (products + scales);  // ten times the products alone
  ProductTimes slow = times_of({Numbers::kInt8, Offsets::kNone, 128}, 0.0);
  slow.seconds_per_byte.back() = groups.seconds_per_byte.back();  // a quarter as many scales
  calibration.products = {groups, slow};
  set_strange_aside(calibration, 2);
  EXPECT_GT(calibration.products[0].seconds_per_byte.back(), 0.0);
  EXPECT_EQ(calibration.products[1].seconds_per_byte.back(), 0.0);
}

// Small and short: that every format and number of rows is measured, not how fast it is.
TEST(Calibration, MeasuresEveryFormatAndNumberOfRows) {
  WorkerPool workers({.num_threads = 2, .pin = false});
  const Kernels& kernels = *runnable_variants().back();
  const CalibrationOptions options{
      .arena_bytes = int64_t{1} << 20, .slice_bytes = 256 * 1024, .num_rounds = 1};
  const Calibration calibration = calibrate(kernels, workers, options);
  EXPECT_EQ(calibration.products.size(), 8u);
  size_t measured = 0;
  for (const ProductTimes& times : calibration.products) {
    for (const double seconds : times.seconds_per_byte) {
      EXPECT_TRUE(std::isfinite(seconds));
      measured += seconds > 0.0;
    }
  }
  // What is not there was strange, and said so.
  size_t known = 2 + 4 + 8 * kCalibratedRows.size();
  const size_t rates = (calibration.read_by_one > 0.0) + (calibration.read_by_all > 0.0) +
                       static_cast<size_t>(std::count_if(calibration.multiplies.begin(),
                                                         calibration.multiplies.end(),
                                                         [](double rate) { return rate > 0.0; }));
  EXPECT_EQ(known, rates + measured + calibration.set_aside.size());
}

TEST(Calibration, TheArenaIsLargerThanTheCacheAndStaysModest) {
  EXPECT_GE(CalibrationOptions{}.arena_bytes, int64_t{64} << 20);
  EXPECT_LE(CalibrationOptions{}.arena_bytes, int64_t{256} << 20);
}

}  // namespace
}  // namespace tidemill

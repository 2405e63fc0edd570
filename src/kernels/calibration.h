// What this machine can do with a variant of the kernels and so many workers, measured in a
// fraction of a second: what sizes of steps are chosen by, and what `inspect` prints.
//
// Times and rates decide how much work is put into a step and how it is judged, never how it is
// computed: a row's bits are the same whatever stands here.
#pragma once

#include <stdint.h>

#include <array>
#include <span>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "parallel/worker_pool.h"

namespace tidemill {

inline constexpr std::array<int64_t, 8> kCalibratedRows = {1, 2, 4, 8, 16, 32, 64, 128};

// How long products with weights of a format take, per byte of weights read from memory.
struct ProductTimes {
  PackedFormat format;
  std::array<double, kCalibratedRows.size()> seconds_per_byte{};  // 0: not known

  bool operator==(const ProductTimes&) const = default;
};

struct Calibration {
  double read_by_one = 0.0;            // bytes per second of a plain read by one worker; 0: unknown
  double read_by_all = 0.0;            // by all of them
  std::array<double, 4> multiplies{};  // operations per second of all, by Numbers; 0: unknown
  std::vector<ProductTimes> products;  // of the formats that were measured
  std::vector<std::string> set_aside;  // what was too strange to be used, as sentences
  bool disturbed = false;              // somebody else had the cores or the memory meanwhile

  // Operations per second that products of the format reach with many rows: that of the most, and
  // never more than the multiply instruction gives. 0: unknown.
  double attainable(const PackedFormat& format) const;
  // Of the measured formats with these numbers, the one whose group is nearest. Null: none.
  const ProductTimes* nearest(const PackedFormat& format) const;
  bool operator==(const Calibration&) const = default;
};

// That these products take for a token, among many in a step. 0: unknown.
double seconds_per_token(const Calibration& calibration, std::span<const PackedWeight> weights);

// T*: so many tokens in a step take hardly longer than one, because their arithmetic is done while
// the weights are read: (bytes / read) / (operations per token / attainable). 0: unknown.
double free_tokens(const Calibration& calibration, std::span<const PackedWeight> weights);

// How many times as long as for one token these products take for n tokens: [n - 1], as measured,
// on a line between kCalibratedRows. Begins with 1, never falls, and ends where it is unknown.
std::vector<double> product_growth(const Calibration& calibration,
                                   std::span<const PackedWeight> weights);

// Tokens of a step that has decodes, whose readers wait for the prompts in it (0: unknown). What is
// free, up to 512, and 128 at least: fewer are slower together, and with more the gaps between
// tokens grow faster than what is gained. Where a block of tokens (kv_layout.h) is free, 160: 128
// of a prompt have room beside up to 32 decodes; where it is not, and 128 take longer than 0.05 s,
// 96, or 64 if fewer than 8 are free: reading weights more often is little beside products. Where
// 128 take longer than 0.25 s, 64; the same above 0.125 s where it is not known how many are free
// (the measurement was disturbed). Where 64 take longer than 0.5 s, 48: a block beside up to 16
// decodes, but not two beside a few.
int32_t mixed_step_tokens(double free_tokens, double seconds_per_token);

struct CalibrationOptions {
  // Weights are taken from so much memory in turn: twice the last-level cache, so that they come
  // from DRAM, 64 MiB at least and 256 MiB at most.
  int64_t arena_bytes = default_arena_bytes();
  int64_t slice_bytes = int64_t{8} << 20;  // of it, read by each timing
  int num_rounds = 5;                      // of which the medians are taken
  double max_seconds = 0.4;                // none begins after that, but for the first three

  static int64_t default_arena_bytes();
};

// What calibrate() takes: more than the options say where there are so many workers that four
// slices of theirs are more.
int64_t arena_bytes(const CalibrationOptions& options, int num_threads);

// On the thread that is worker 0, outside a section. Takes the arena for as long as it runs.
// Throws std::bad_alloc.
Calibration calibrate(const Kernels& kernels, WorkerPool& workers,
                      const CalibrationOptions& options = {});

// Takes out of it what cannot be, with a sentence for each: values more than three times away from
// what any processor of today does with that many workers, and products that are more than three
// times slower or faster than the limits that reading and arithmetic set them.
void set_strange_aside(Calibration& calibration, int num_threads);

}  // namespace tidemill

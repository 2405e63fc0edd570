// How fast this machine multiplies now: what prefill, and decode of many sequences, is measured
// against. Taken beside the thing it judges, in the same seconds (design: measuring honestly).
#pragma once

#include <stdint.h>

#include "kernels/kernels.h"
#include "parallel/worker_pool.h"

namespace tidemill {

class ArithmeticProbe {
 public:
  // The first measurement of a kind of numbers finds out how many rounds take about `seconds`, on
  // the caller's thread; that takes some five times as long.
  ArithmeticProbe(const Kernels& kernels, WorkerPool& workers, double seconds = 0.01);

  // Operations per second of all workers together with nothing but the multiply instruction that
  // the variant's products with such weights use (FMA, VDPBF16PS, VPDPBUSD, VPMADDUBSW with its
  // addition, for int8 at half its rate, which is VPMADDWD's, too, tiles fed from L1; the
  // reference's plain loop), on registers or L1. A product and its addition are two operations. Not
  // to be called in a section of the pool.
  double measure(const PackedFormat& format) { return measure(format.numbers); }
  double measure(Numbers numbers);
  // Of the last measurement: the processor time that a worker had, of the time that it took, where
  // that was least. Below 0.97 somebody else was on a core.
  double cpu_share() const { return cpu_share_; }

 private:
  int64_t find_rounds(Numbers numbers) const;

  const Kernels& kernels_;
  WorkerPool& workers_;
  double seconds_;
  double cpu_share_ = 1.0;
  int64_t rounds_[4] = {};  // of Numbers; 0: not known yet
};

}  // namespace tidemill

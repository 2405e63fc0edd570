// A worker's view of one parallel section: who it is, its share of the work, where all meet.
//
// Every menu entry of kernels.h takes a Lane. On a CPU it is one thread of a WorkerPool; on an
// accelerator it would be a stream. A Lane lives on its worker's stack for the section's duration
// and is used by that worker alone.
#pragma once

#include <cstdint>

#include "parallel/barrier.h"

namespace tidemill {

struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

class Lane {
 public:
  Lane(int index, int count, Barrier* barrier) : Lane(index, count, barrier, index) {}
  Lane(int index, int count, Barrier* barrier, int worker)
      : index_(index), count_(count), worker_(worker), barrier_(barrier) {}

  int index() const { return index_; }
  // Of the pool's workers, the one that this is: always the same thread, but for worker 0, which is
  // the caller. As index() where nobody sits out (attendance.h).
  int worker() const { return worker_; }
  int count() const { return count_; }

  // Returns when every worker of the section has called it; writes before are visible after.
  void meet() {
    if (count_ > 1) barrier_->wait(index_);
  }

  // This worker's contiguous part of [0, total), cut at multiples of `grain`. The parts cover the
  // whole, in order of index; a part may be empty.
  Range share(int64_t total, int64_t grain = 1) const;

 private:
  int index_;
  int count_;
  int worker_;
  Barrier* barrier_;  // owned by the pool; unused when alone
};

}  // namespace tidemill

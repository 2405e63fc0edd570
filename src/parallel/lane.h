// A worker's view of one parallel section: who it is, its share of the work, where all meet.
//
// Every menu entry of kernels.h takes a Lane. On a CPU it is one thread of a WorkerPool; on an
// accelerator it would be a stream. A Lane lives on its worker's stack for the section's duration
// and is used by that worker alone.
#pragma once

#include <cstdint>

#include "parallel/barrier.h"
#include "parallel/work_cursors.h"

namespace tidemill {

struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

struct MemoryAhead;

class Lane {
 public:
  // One that is alone: it has all the work and never waits.
  Lane() = default;
  // Lane `index` of `count` that meet at `barrier` and share `cursors`, made for as many.
  Lane(int index, int count, Barrier& barrier, WorkCursors& cursors, int worker)
      : index_(index), count_(count), worker_(worker), barrier_(&barrier), cursors_(&cursors) {}

  int index() const { return index_; }
  // Of the pool's workers, the one that this is: always the same thread, but for worker 0, which is
  // the caller. As index() where nobody sits out (attendance.h).
  int worker() const { return worker_; }
  int count() const { return count_; }

  // Returns when every worker of the section has called it; writes before are visible after.
  void meet() {
    if (count_ > 1) barrier_->wait(index_);
  }

  // What this worker will read soon (memory_ahead.h), for kernels that find the time to ask for it;
  // null: nothing. The caller's.
  void want(MemoryAhead* wanted) { wanted_ = wanted; }
  MemoryAhead* wanted() const { return wanted_; }

  // This worker's contiguous part of [0, total), cut at multiples of `grain`. The parts cover the
  // whole, in order of index; a part may be empty.
  Range share(int64_t total, int64_t grain = 1) const {
    return share_of(index_, count_, total, grain);
  }
  static Range share_of(int index, int count, int64_t total, int64_t grain = 1);

  // work(Range) for pieces of this lane's share, from its begin on, then for such of the next few
  // lanes' as they have not begun. share(lane) is a Range, the same for whoever asks. Each item is
  // in one piece of one lane; whose is not the same every time. All lanes of the section call it,
  // with the same arguments, and meet before the next call.
  template <typename Share, typename Work>
  void share_out(const Share& share, PieceSize size, const Work& work) {
    constexpr int kHelped = 3;  // others; to ask more of them costs more than they have left
    begin_sharing();
    for (int i = 0; i <= kHelped && i < count_; ++i) {
      const int owner = (index_ + i) % count_;
      const Range all = share(owner);
      for (Range piece; take(owner, all.size(), size, piece);) {
        work(Range{all.begin + piece.begin, all.begin + piece.end});
      }
    }
    ++num_shared_out_;
  }

 private:
  void begin_sharing();
  // The next piece of the first `count` items of a lane's share, behind `piece`; false: none left.
  bool take(int owner, int64_t count, PieceSize size, Range& piece);

  int index_ = 0;
  int count_ = 1;
  int worker_ = 0;
  uint32_t num_shared_out_ = 0;
  // Owned by the pool; null when alone.
  Barrier* barrier_ = nullptr;
  WorkCursors* cursors_ = nullptr;
  MemoryAhead* wanted_ = nullptr;
};

}  // namespace tidemill

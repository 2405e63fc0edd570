// How far the lanes of a section have come with their shares of some work, so that who is done can
// take over what others have not begun (work stealing). On machines that are shared one core is now
// and then at half the speed of the others, as when its other hardware thread is somebody else's.
//
// Owned by the pool; used through Lane::share_out.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace tidemill {

// At most `most` items at a time while there are many; fewer towards the end of a share, `least` at
// last, so that nobody waits long for the last of them. Who is alone takes `most`.
struct PieceSize {
  int64_t most = 1;
  int64_t least = 1;
};

class WorkCursors {
 public:
  explicit WorkCursors(int count) : lines_(static_cast<size_t>(2 * count)) {}

  // Before a section; nobody is in one.
  void reset() {
    for (Line& line : lines_) line.taken.store(0, std::memory_order_relaxed);
  }
  // Items of the lane's share that are taken. Two sets: while one is in use, each lane clears its
  // own cursor of the other.
  std::atomic<int64_t>& taken(uint32_t set, int lane) {
    return lines_[static_cast<size_t>(2 * lane) + set % 2].taken;
  }

 private:
  struct alignas(128) Line {  // adjacent lines are prefetched in pairs
    std::atomic<int64_t> taken{0};
  };
  std::vector<Line> lines_;
};

}  // namespace tidemill

#include "parallel/lane.h"

#include <algorithm>

namespace tidemill {

Range Lane::share_of(int index, int count, int64_t total, int64_t grain) {
  const int64_t pieces = (total + grain - 1) / grain;
  const int64_t begin = pieces * index / count * grain;
  const int64_t end = pieces * (index + 1) / count * grain;
  return {.begin = std::min(begin, total), .end = std::min(end, total)};
}

// The call before this one used the cursors of the next one, and all have left it.
void Lane::begin_sharing() {
  if (count_ == 1) return;
  cursors_->taken(num_shared_out_ + 1, index_).store(0, std::memory_order_relaxed);
}

bool Lane::take(int owner, int64_t count, PieceSize size, Range& piece) {
  const auto piece_at = [&](int64_t begin) {
    const int64_t left = count - begin;
    if (count_ == 1) return std::min(left, size.most);
    // Less than half of what is left, in multiples of the least; the least itself at the end.
    const int64_t part = (left - 1) / 2 / size.least * size.least;
    return std::min(left, std::clamp(part, size.least, size.most));
  };
  if (count_ == 1) {
    piece = {piece.end, piece.end + piece_at(piece.end)};
    return piece.size() > 0;
  }
  // What a piece needs was there at the last meeting, and its results are there at the next one.
  std::atomic<int64_t>& taken = cursors_->taken(num_shared_out_, owner);
  int64_t begin = taken.load(std::memory_order_relaxed);
  while (begin < count) {
    const int64_t end = begin + piece_at(begin);
    if (taken.compare_exchange_weak(begin, end, std::memory_order_relaxed)) {
      piece = {begin, end};
      return true;
    }
  }
  return false;
}

}  // namespace tidemill

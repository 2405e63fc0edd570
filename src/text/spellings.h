// Finds a set of spellings in a text in one pass: from left to right, the longest that begins at a
// place. What a place costs does not grow with the number of spellings. Thread-safe.
#pragma once

#include <bitset>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace tidemill {

class Spellings {
 public:
  explicit Spellings(const std::vector<std::string>& spellings);  // empty ones are never found

  // `by` gives what stands for the spelling of that index.
  std::string replace(std::string_view text,
                      const std::function<std::string_view(size_t index)>& by) const;
  // Length of the longest end of `text` that begins a spelling and is not all of it.
  size_t begun_at_end(std::string_view text) const;

 private:
  struct Entry {
    std::string spelling;
    size_t index;
  };
  const Entry* longest_at(std::string_view text) const;

  std::vector<Entry> sorted_;
  size_t longest_ = 0;
  std::bitset<256> first_bytes_;
};

}  // namespace tidemill

// Finds stop strings in text that arrives in pieces. Text that might still become a stop string is
// held back; no byte of a stop string is ever returned (unless it is to be kept). The match that
// ends first wins, then the longest. One per choice; one thread at a time.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tidemill {

class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops, bool keep_stop_text = false);

  // Text that is certain not to be part of a stop string. After a match: what preceded it (with
  // the stop string itself when it is kept); later pushes return nothing.
  std::string push(std::string_view text);
  // What was held back; nothing after a match.
  std::string finish();

  // The string that matched.
  const std::optional<std::string>& matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  bool keep_stop_text_;
  std::string held_;
  std::optional<std::string> matched_;
};

}  // namespace tidemill

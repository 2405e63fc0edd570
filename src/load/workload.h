// The bodies that are sent: made up from a seed, or from the lines of a file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "load/load_options.h"

namespace tidemill {

struct LoadBody {
  std::string json;
  // Tokens (or words) of the prompt as far as the client knows; for servers that do not count.
  int64_t prompt_tokens = 0;
};

// Bodies by number. Equal (options, model, seed) give equal bodies, in any order of asking.
class Workload {
 public:
  // `model` is the name to send; empty: none. Reads the dataset. Throws std::runtime_error that
  // names file and line.
  Workload(const LoadOptions& options, std::string model, uint64_t seed, double temperature);

  // Request `index`: lines of a dataset are taken in turn.
  LoadBody body(uint64_t index) const;

 private:
  void read_line(std::string_view line, const std::string& place);
  LoadBody random_body(uint64_t index) const;
  JsonValue text_body(std::string prompt) const;
  void finish(JsonValue& body) const;

  const LoadOptions options_;
  const std::string model_;
  const uint64_t seed_;
  const double temperature_;
  std::vector<LoadBody> lines_;
};

}  // namespace tidemill

// What one forward pass computes, as flat arrays in one piece: no requests, no pointers. Made by
// executor/build_input.cc from a StepPlan.
#pragma once

#include <cstdint>
#include <vector>

#include "base/token_id.h"

namespace tidemill {

struct ForwardInput {
  // One entry per token of the step, the tokens of a sequence one after another.
  std::vector<TokenId> token_ids;
  std::vector<int32_t> positions;
  // Per KV group (Llama has one): for each token, where in block_ids its sequence's table begins.
  struct Group {
    std::vector<int32_t> table_begins;
    std::vector<int32_t> block_ids;
    bool operator==(const Group&) const = default;
  };
  std::vector<Group> groups;
  // Token rows whose logits are wanted, ascending.
  std::vector<int32_t> score_rows;

  void clear() {  // keeps its memory
    token_ids.clear();
    positions.clear();
    for (Group& group : groups) {
      group.table_begins.clear();
      group.block_ids.clear();
    }
    score_rows.clear();
  }
  bool operator==(const ForwardInput&) const = default;
};

}  // namespace tidemill

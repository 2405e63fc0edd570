// What a draft model computes before a step, as flat arrays: for each of its rows the tokens that
// it has not seen, and then so many drafts, each behind the one before. Made by build_input.cc from
// a plan's draft rows.
#pragma once

#include <cstdint>
#include <vector>

#include "executor/row_lists.h"
#include "model/forward_input.h"
#include "sampling/sampler.h"
#include "scheduler/step_plan.h"

namespace tidemill {

struct DraftInput {
  struct Row {
    SequenceId sequence = 0;
    int32_t first_token = 0;  // of the sequence's, in the arrays of `forward`
    int32_t num_drafts = 0;
    SamplingRow sampling;  // of its first draft; that of each one behind it differs by its position
  };

  ForwardInput forward;   // its score rows are the last tokens of rows with drafts, in their order
  std::vector<Row> rows;  // in the order of the plan's draft rows
  // What changes the logits of a row's drafts, all alike: as LogitChanges names it.
  RowLists<TokenId> allowed;
  RowLists<TokenId> bias_ids;
  RowLists<float> bias;

  void clear() {  // keeps its memory
    forward.clear();
    rows.clear();
    allowed.clear();
    bias_ids.clear();
    bias.clear();
  }
  LogitChanges changes(size_t row) const {
    return {.allowed = allowed.of(row), .bias_ids = bias_ids.of(row), .bias = bias.of(row)};
  }
};

}  // namespace tidemill

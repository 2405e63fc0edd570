// One line of tokens being extended. Only the scheduler changes it.
//
//   tokens    0 ........ num_cached ........ num_cached + n ........ size
//             |  in KV   |  this step writes  |   a later chunk      |
#pragma once

#include <cstdint>
#include <vector>

#include "scheduler/block_pool.h"
#include "scheduler/scheduler.h"

namespace tidemill {

// Blocks in order; entry i stores tokens [i * 32, (i + 1) * 32). In a windowed group an entry whose
// tokens have left the window is empty (BlockRef that holds nothing).
using BlockTable = std::vector<BlockRef>;

struct Sequence {
  SequenceId id = 0;
  std::vector<TokenId> tokens;  // the prompt, then the completion
  int32_t num_prompt_tokens = 0;
  int32_t num_cached_tokens = 0;      // leading tokens whose keys and values are stored
  int32_t num_prefix_hit_tokens = 0;  // of the prompt, found in the prefix cache at first admission
  int32_t num_preemptions = 0;
  std::vector<BlockTable> block_tables;  // one per KV group
  std::vector<TokenId> drafts;           // proposed behind `tokens`, verified by the next step

  // Prefill is "more than one token pending", decode is "one, and perhaps drafts behind it". A
  // sequence that was preempted is in prefill again, whatever it had generated.
  int32_t num_pending_tokens() const {
    return static_cast<int32_t>(tokens.size()) - num_cached_tokens;
  }
  int32_t num_new_tokens() const { return static_cast<int32_t>(tokens.size()) - num_prompt_tokens; }
};

}  // namespace tidemill

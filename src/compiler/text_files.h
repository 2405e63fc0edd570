// What a checkpoint says about text, gathered from the many places where it may say it.
#pragma once

#include <vector>

#include "base/token_id.h"
#include "checkpoint/checkpoint.h"
#include "model/architecture.h"
#include "model/engine_dir.h"

namespace tidemill {

struct CheckpointText {
  TextFiles files;
  // Every id that ends a text: those of config.json, of generation_config.json, the tokenizer's
  // own, and the tokens with which the chat template ends a turn.
  std::vector<TokenId> end_token_ids;
};

// Throws std::runtime_error that names the file when one of them cannot be understood. A checkpoint
// without tokenizer is legal: it serves token ids.
CheckpointText collect_text(const Checkpoint& checkpoint, const Architecture& architecture);

}  // namespace tidemill

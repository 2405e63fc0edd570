// Outputs of a reference implementation, stored in a folder: what `eval --reference` compares with.
// The folder may come from anywhere: everything is checked against the model before it is used.
//
// Two forms:
//   expected.json ("prompts": ids, greedy_ids) with expected.safetensors
//     ("prompt<i>.logits" [n, V] or "prompt<i>.last_logits" [V])
//   greedy.json (list of name, ids, greedy_ids, logprobs) with logits.safetensors
//     (NAME [V], after the prompt)
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/token_id.h"
#include "model/architecture.h"

namespace tidemill {

// One prompt: what was asked, and what came out.
struct ReferencePrompt {
  std::string name;
  std::vector<TokenId> ids;         // one at least
  std::vector<TokenId> greedy_ids;  // what greedy decoding gave; may be absent
  std::vector<double> logprobs;     // of the greedy ids; may be absent
  std::vector<float> logits;        // [rows, V] of the last `rows` positions of the prompt
  size_t rows = 0;                  // 0: no logits, but then greedy ids

  // Tokens that the network sees: the last greedy id is only compared with.
  int64_t num_tokens() const;
};

struct ReferenceOutputs {
  std::vector<ReferencePrompt> prompts;  // one at least
  bool precise = false;                  // expected.json: tiny models, compared more closely
  std::optional<double> largest_logit;

  int64_t longest() const;  // most tokens of a prompt
};

// Throws std::runtime_error that names file and member when something is missing, has another
// shape, or does not belong to a model of that vocabulary and context.
ReferenceOutputs read_reference_outputs(const std::filesystem::path& folder,
                                        const Architecture& architecture);

}  // namespace tidemill

// From what a client wrote to the token ids that the model reads. On the caller's thread. Private
// to executor/.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "executor/executor.h"
#include "executor/generation_request.h"

namespace tidemill {

// A prompt as token ids, and its text where the client sent one and all of it is read.
struct EncodedPrompt {
  std::vector<TokenId> ids;
  std::string text;
};

// Renders, encodes and shortens (truncate_prompt_tokens). Errors of the template and the tokenizer;
// kInvalidParameter for ids that the model does not have.
Result<EncodedPrompt> encode_prompt(const GenerationRequest& request, const Prompt& prompt,
                                    const TextParts& text, int32_t vocab_size);

// Each word as the token sequences that spell it, with and without a blank before it: within a text
// and at its beginning. Those that hold ids that the model does not have cannot be generated and
// are left out.
Result<std::vector<std::vector<TokenId>>> encode_bad_words(const GenerationRequest& request,
                                                           const Tokenizer& tokenizer,
                                                           int32_t vocab_size);

}  // namespace tidemill

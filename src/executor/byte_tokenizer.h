// The tokenizer of scripts: every byte is a token (ids 0 to 255), and there are <|im_start|> (256),
// <|im_end|> (257, the end of sequence) and <|endoftext|> (258), with a ChatML template.
#pragma once

#include <string>

#include "base/token_id.h"

namespace tidemill {

inline constexpr TokenId kScriptEndId = 257;
inline constexpr int32_t kScriptVocabSize = 259;

std::string byte_tokenizer_json();
std::string byte_chat_template();

}  // namespace tidemill

// Tokens to text while they arrive: what push() returns, joined, is what decoding all of them at
// once gives, and every piece is whole characters. Bytes of an unfinished character are held back;
// finish() releases them as U+FFFD. One per choice; one thread at a time.
#pragma once

#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace tidemill {

class Detokenizer {
 public:
  // `tokenizer` outlives this. With `context`, the text continues those ids (their text is not
  // returned): a leading space survives where the tokenizer would drop it at the start of a text.
  Detokenizer(const Tokenizer* tokenizer, bool skip_special_tokens,
              std::vector<TokenId> context = {});

  std::string push(TokenId id);
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  // Ids since the last point where text was whole; decoding restarts at prefix_begin_ so that the
  // cost of a token does not grow with the length of the text.
  std::vector<TokenId> ids_;
  size_t prefix_begin_ = 0;
  size_t read_begin_ = 0;
};

}  // namespace tidemill

// Tokens to text while they arrive: what push() returns, joined, is what decoding all of them at
// once gives, and every piece is whole characters. Bytes of an unfinished character are held back,
// 3 at most; finish() releases them as U+FFFD. One per choice; one thread at a time.
//
// Bytes that are no UTF-8 become U+FFFD as in lossy_utf8() of base/utf8.h. A decoder with byte
// tokens (<0xC3>) would take back characters that it has shown, of a run of them that later turns
// out to hold such bytes; what was shown stays shown, here and in an answer that is not streamed.
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
  std::string push_bytes(std::string_view bytes);
  std::string push_together(TokenId id);

  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;

  // Where bytes decide: those of the character that is not finished, and whether a blank in front
  // is still to be dropped.
  std::string held_;
  bool drops_blank_ = false;

  // Where neighbours decide: ids since the last point where text was whole; decoding restarts at
  // prefix_begin_ so that the cost of a token does not grow with the length of the text.
  std::vector<TokenId> ids_;
  size_t prefix_begin_ = 0;
  size_t read_begin_ = 0;
};

}  // namespace tidemill

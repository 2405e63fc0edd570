// Which part of a choice's text each of its tokens stands for. Text arrives later than its tokens
// while it may still become a stop string, and a stop string cuts some of it away; a token is
// handed on once that is settled. So a stream and a whole answer say the same of every token.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "executor/response_stream.h"

namespace tidemill {

struct TokenPiece {
  TokenText token;
  std::string visible;   // its share of the text; joined, the shares are the text
  int64_t offset = 0;    // code points of the text in front of it
  bool unknown = false;  // it has no log-probability: the first of a prompt
};

// One per choice.
class TokenPieces {
 public:
  // `first_offset` is where the text begins: behind the prompt, where that is echoed.
  TokenPieces(bool skip_special_tokens, int64_t first_offset)
      : skip_special_tokens_(skip_special_tokens), offset_(first_offset) {}

  // The tokens that are settled now; with the end of the choice, all that are left.
  std::vector<TokenPiece> push(std::string_view text, std::span<const TokenText> tokens, bool ends);

 private:
  size_t width(const TokenText& token) const;
  void release(size_t bytes, std::vector<TokenPiece>& pieces);

  bool skip_special_tokens_;
  int64_t offset_;
  std::string text_;  // arrived, and belonging to no token yet
  std::deque<TokenText> waiting_;
};

}  // namespace tidemill

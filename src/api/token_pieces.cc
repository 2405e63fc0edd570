#include "api/token_pieces.h"

#include <algorithm>

#include "base/utf8.h"

namespace tidemill {

// Special tokens carry their spelling, which is not part of the text when they are skipped.
size_t TokenPieces::width(const TokenText& token) const {
  return token.special && skip_special_tokens_ ? 0 : token.text.size();
}

void TokenPieces::release(size_t bytes, std::vector<TokenPiece>& pieces) {
  TokenPiece piece{
      .token = std::move(waiting_.front()), .visible = text_.substr(0, bytes), .offset = offset_};
  waiting_.pop_front();
  text_.erase(0, bytes);
  offset_ += static_cast<int64_t>(count_code_points(piece.visible));
  pieces.push_back(std::move(piece));
}

std::vector<TokenPiece> TokenPieces::push(std::string_view text, std::span<const TokenText> tokens,
                                          bool ends) {
  text_ += text;
  waiting_.insert(waiting_.end(), tokens.begin(), tokens.end());
  std::vector<TokenPiece> pieces;
  while (!waiting_.empty()) {
    const size_t bytes = width(waiting_.front());
    if (bytes > text_.size() && !ends) break;
    release(std::min(bytes, text_.size()), pieces);
  }
  // What remains at the end is the half of a character, as U+FFFD: the last token's.
  if (ends && !pieces.empty()) pieces.back().visible += text_;
  return pieces;
}

}  // namespace tidemill

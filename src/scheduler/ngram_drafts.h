// Drafts from a sequence's own text: where its last tokens have stood before, what followed them
// then may follow again (code that is edited, a passage that is quoted, a form that is filled).
//
// A guess costs nothing until it is computed, so each is judged, computed or not, when its token is
// there. Of the last 32 judged, as many are right as say how many in a row may be: so many are
// drafted that the last one is right with a chance of a third, and none where a single one is not.
// Whoever was wrong for long comes back by guesses that are right in a row: of what has gone on for
// so long, about half goes on for as long again.
//
// Pure: what is guessed depends on the tokens and on when they were shown. Never two threads.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/token_id.h"

namespace tidemill {

class NgramDrafts {
 public:
  // Of a sequence; no draft is worth more than so many rows of a product (one tile).
  static constexpr int32_t kMostDrafts = 15;
  static constexpr double kLeastChance = 1.0 / 3.0;  // of the last of them

  // For a sequence of that many tokens at most. Memory: 4 bytes a token that is there, and up to
  // 128 KiB.
  explicit NgramDrafts(int64_t max_tokens);

  // Judges and guesses anew. `tokens`: those of the call before, and what has come behind them.
  // A long text is taken in over several calls; until then nothing is guessed. std::bad_alloc
  // leaves it as it was.
  void observe(std::span<const TokenId> tokens);
  // How many drafts behind those tokens are worth their computation; 0 where there is no guess.
  int32_t num_worthwhile() const;
  // Of the next token, and of those behind it: `drafts` holds so many. The tokens are those that
  // were observed; needs a guess.
  void propose(std::span<const TokenId> tokens, int32_t count, std::vector<TokenId>& drafts) const;

 private:
  void judge(std::span<const TokenId> tokens);
  void note(bool right);
  void add_to_index(std::span<const TokenId> tokens);
  std::optional<size_t> find_source(std::span<const TokenId> tokens) const;
  size_t head_of(TokenId before, TokenId last) const;

  // Positions by the pair of tokens that ends there, the latest first; pairs that meet in a head
  // share its chain.
  std::vector<int32_t> heads_;
  std::vector<int32_t> earlier_;  // by position: the one before it in its chain, -1 at the end
  size_t num_seen_ = 0;           // tokens at the last call
  std::optional<size_t> source_;  // where the token stands that is guessed to come next
  uint32_t recent_ = 0;           // of the last guesses, the latest lowest: 1 is right
  int32_t num_judged_ = 0;        // of them, at most 32
  int32_t num_in_a_row_ = 0;      // the latest that were all right
};

}  // namespace tidemill

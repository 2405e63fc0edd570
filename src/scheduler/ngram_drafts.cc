#include "scheduler/ngram_drafts.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace tidemill {
namespace {

constexpr size_t kLeastMatch = 2;  // tokens; what a chain stands for
constexpr size_t kMostMatch = 16;  // longer ones are taken as equal
constexpr int kMostCandidates = 32;
constexpr size_t kMostTakenIn = 8192;  // tokens of one call; about 0.1 ms
constexpr int64_t kLeastHeads = 64;
constexpr int64_t kMostHeads = 32768;
constexpr int32_t kEnd = -1;

constexpr int32_t kMostJudged = 32;
constexpr int32_t kDoubt = 3;  // guesses that count as wrong before there was any
constexpr int32_t kTrustedRun = 4;

// Of two places: how many tokens before their ends are equal.
size_t match_length(std::span<const TokenId> tokens, size_t end, size_t earlier_end) {
  size_t length = 0;
  while (length < kMostMatch && length < earlier_end &&
         tokens[end - 1 - length] == tokens[earlier_end - 1 - length]) {
    ++length;
  }
  return length;
}

}  // namespace

NgramDrafts::NgramDrafts(int64_t max_tokens)
    : heads_(std::bit_ceil(static_cast<size_t>(std::clamp(max_tokens, kLeastHeads, kMostHeads))),
             kEnd) {}

size_t NgramDrafts::head_of(TokenId before, TokenId last) const {
  const uint64_t pair =
      static_cast<uint64_t>(static_cast<uint32_t>(before)) << 32 | static_cast<uint32_t>(last);
  return static_cast<size_t>((pair * 0x9e3779b97f4a7c15u) >> 40) & (heads_.size() - 1);
}

void NgramDrafts::observe(std::span<const TokenId> tokens) {
  CHECK(tokens.size() >= num_seen_, "{} tokens have become {}", num_seen_, tokens.size());
  if (tokens.size() > earlier_.capacity()) {
    earlier_.reserve(std::max(tokens.size(), 2 * earlier_.capacity()));
  }
  judge(tokens);
  add_to_index(tokens);
  if (!source_ && earlier_.size() == tokens.size()) source_ = find_source(tokens);
  num_seen_ = tokens.size();
}

// Behind a guess that was right stands the next one; behind a wrong one there is none.
void NgramDrafts::judge(std::span<const TokenId> tokens) {
  for (size_t i = num_seen_; i < tokens.size() && source_; ++i) {
    const bool right = tokens[i] == tokens[*source_];
    note(right);
    if (right) {
      ++*source_;
    } else {
      source_.reset();
    }
  }
}

void NgramDrafts::note(bool right) {
  recent_ = recent_ << 1 | static_cast<uint32_t>(right);
  num_judged_ = std::min(num_judged_ + 1, kMostJudged);
  num_in_a_row_ = right ? num_in_a_row_ + 1 : 0;
}

void NgramDrafts::add_to_index(std::span<const TokenId> tokens) {
  const size_t end = std::min(tokens.size(), earlier_.size() + kMostTakenIn);
  for (size_t i = earlier_.size(); i < end; ++i) {
    if (i == 0) {
      earlier_.push_back(kEnd);
      continue;
    }
    int32_t& head = heads_[head_of(tokens[i - 1], tokens[i])];
    earlier_.push_back(head);
    head = static_cast<int32_t>(i);
  }
}

// Behind the longest of the matches that are near, and the latest of those.
std::optional<size_t> NgramDrafts::find_source(std::span<const TokenId> tokens) const {
  size_t longest = kLeastMatch - 1;
  std::optional<size_t> source;
  int32_t at = earlier_.empty() ? kEnd : earlier_.back();
  for (int left = kMostCandidates; left > 0 && at != kEnd && longest < kMostMatch; --left) {
    const size_t behind = static_cast<size_t>(at) + 1;
    const size_t length = match_length(tokens, tokens.size(), behind);
    if (length > longest) {
      longest = length;
      source = behind;
    }
    at = earlier_[static_cast<size_t>(at)];
  }
  return source;
}

int32_t NgramDrafts::num_worthwhile() const {
  if (!source_) return 0;
  const double rate = static_cast<double>(std::popcount(recent_)) / (num_judged_ + kDoubt);
  int32_t count = 0;
  for (double chance = rate; chance >= kLeastChance && count < kMostDrafts; chance *= rate) ++count;
  if (num_in_a_row_ >= kTrustedRun) count = std::max(count, num_in_a_row_);
  return std::min(count, kMostDrafts);
}

// Where the source reaches the end of the text it goes on in the drafts: a text that repeats the
// same few tokens is one that is its own source.
void NgramDrafts::propose(std::span<const TokenId> tokens, int32_t count,
                          std::vector<TokenId>& drafts) const {
  CHECK(source_ && num_seen_ == tokens.size(), "no guess behind {} tokens", tokens.size());
  drafts.clear();
  drafts.reserve(kMostDrafts);
  for (size_t at = *source_; drafts.size() < static_cast<size_t>(count); ++at) {
    drafts.push_back(at < tokens.size() ? tokens[at] : drafts[at - tokens.size()]);
  }
}

}  // namespace tidemill

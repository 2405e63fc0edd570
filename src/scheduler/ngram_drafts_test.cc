#include "scheduler/ngram_drafts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace tidemill {
namespace {

using testing::ElementsAre;

using Tokens = std::vector<TokenId>;

Tokens numbers(TokenId first, int count) {
  Tokens tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(first + i);
  return tokens;
}

Tokens random_tokens(int count, TokenId vocab_size, uint64_t seed) {
  std::mt19937_64 random(seed);
  Tokens tokens;
  for (int i = 0; i < count; ++i) {
    tokens.push_back(static_cast<TokenId>(random() % static_cast<uint64_t>(vocab_size)));
  }
  return tokens;
}

Tokens joined(std::initializer_list<Tokens> parts) {
  Tokens all;
  for (const Tokens& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

// The steps of a sequence that says `text` from its token `begin` on: drafts behind what is there,
// as many right ones as the text has, and one token more.
struct Spoken {
  int num_steps = 0;
  int num_drafts = 0;
  int num_right = 0;
  std::vector<int> lengths;  // of each step's drafts
};

Spoken speak(const Tokens& text, size_t begin, int32_t most = NgramDrafts::kMostDrafts) {
  NgramDrafts of(static_cast<int64_t>(text.size()));
  Spoken spoken;
  Tokens drafts;
  for (size_t size = begin; size < text.size(); ++spoken.num_steps) {
    const std::span<const TokenId> tokens = std::span(text).first(size);
    of.observe(tokens);
    const int32_t count = std::min(of.num_worthwhile(), most);
    drafts.clear();
    if (count > 0) of.propose(tokens, count, drafts);
    EXPECT_EQ(drafts.size(), static_cast<size_t>(count));
    spoken.lengths.push_back(count);
    spoken.num_drafts += count;
    size_t right = 0;
    while (right < drafts.size() && size + right < text.size() &&
           drafts[right] == text[size + right]) {
      ++right;
    }
    spoken.num_right += static_cast<int>(right);
    size += right + 1;
  }
  return spoken;
}

TEST(NgramDrafts, ATextThatComesAgainIsDraftedMoreAndMoreOfIt) {
  const Tokens text = joined({numbers(100, 200), numbers(100, 200)});
  const Spoken spoken = speak(text, 202);
  EXPECT_GT(spoken.num_right, 170);
  EXPECT_LT(spoken.num_steps, 26);
  EXPECT_EQ(spoken.lengths.front(), 0) << "nothing has been right before";
  EXPECT_EQ(spoken.lengths.back(), NgramDrafts::kMostDrafts);
  EXPECT_TRUE(std::is_sorted(spoken.lengths.begin(), spoken.lengths.end()));
}

TEST(NgramDrafts, WhatIsChangedHereAndThereIsFoundAgainBehindTheChange) {
  Tokens again = numbers(100, 300);
  for (size_t i = 40; i < again.size(); i += 40) again[i] = static_cast<TokenId>(i);
  const Spoken spoken = speak(joined({numbers(100, 300), again}), 302);
  EXPECT_GT(spoken.num_right, 200);
  EXPECT_LT(spoken.num_steps, 90);
}

TEST(NgramDrafts, TheSameFewTokensForeverAreTheirOwnSource) {
  Tokens text = numbers(0, 20);
  for (int i = 0; i < 150; ++i) text.push_back(7 + i % 3);
  const Spoken spoken = speak(text, 20);
  EXPECT_LT(spoken.num_steps, 30);
  EXPECT_GT(spoken.num_right, 120);
}

TEST(NgramDrafts, TextThatDoesNotRepeatItselfIsHardlyDrafted) {
  // Few different tokens: pairs are met again all the time, and say nothing.
  for (const TokenId vocab_size : {12, 40, 1000}) {
    const Spoken spoken = speak(random_tokens(2000, vocab_size, 5), 500);
    EXPECT_LT(spoken.num_drafts, 30) << vocab_size;
  }
}

TEST(NgramDrafts, WhoeverWasWrongForLongComesBackByGuessesThatAreRight) {
  const Tokens chance = random_tokens(400, 12, 9);
  const Tokens passage = numbers(100, 120);
  const Tokens text = joined({passage, chance, passage});
  const Spoken before = speak(joined({passage, chance}), 120);
  const Spoken spoken = speak(text, 120);
  EXPECT_GT(spoken.num_right - before.num_right, 80);
  EXPECT_LT(spoken.num_steps - before.num_steps, 40);
}

// Of the last 32 guesses fewer than a third are right: none is worth its row.
TEST(NgramDrafts, BelowAThirdNothingIsDrafted) {
  Tokens text;
  for (int i = 0; i < 64; ++i) {  // a, b, and now and then what came before
    text.insert(text.end(), {1, 2, i % 12 == 0 ? 3 : 10 + i});
  }
  NgramDrafts of(static_cast<int64_t>(text.size()));
  for (size_t size = 2; size <= text.size(); ++size) {
    of.observe(std::span(text).first(size));
    if (size > 120) {
      EXPECT_EQ(of.num_worthwhile(), 0) << size;
    }
  }
}

TEST(NgramDrafts, TheLongestOfTheMatchesIsTakenAndTheLatestOfEquals) {
  NgramDrafts of(64);
  Tokens drafts;
  // Behind (1, 2) stood 5, later 6; behind (9, 1, 2) stood 5.
  const Tokens longest = {9, 1, 2, 5, 8, 1, 2, 6, 9, 1, 2};
  of.observe(longest);
  of.propose(longest, 4, drafts);
  EXPECT_THAT(drafts, ElementsAre(5, 8, 1, 2));
  NgramDrafts other(64);
  const Tokens latest = {9, 1, 2, 5, 8, 1, 2, 6, 7, 1, 2};
  other.observe(latest);
  other.propose(latest, 2, drafts);
  EXPECT_THAT(drafts, ElementsAre(6, 7));
}

TEST(NgramDrafts, ShortTextsHaveNoGuess) {
  for (const Tokens& text : {Tokens{}, Tokens{1}, Tokens{1, 1}, Tokens{1, 2, 3, 4}}) {
    NgramDrafts of(1);
    of.observe(text);
    EXPECT_EQ(of.num_worthwhile(), 0);
  }
}

// A long prompt is taken in piece by piece, and then everything of it is there.
TEST(NgramDrafts, ALongTextIsTakenInOverSeveralCalls) {
  const Tokens passage = numbers(100'000, 30);
  Tokens text = joined({passage, random_tokens(50'000, 30'000, 1), passage});
  const Spoken spoken = speak(text, text.size() - 25);
  EXPECT_THAT(spoken.num_right, testing::Ge(5));
  EXPECT_EQ(spoken.lengths.front(), 0);
}

}  // namespace
}  // namespace tidemill

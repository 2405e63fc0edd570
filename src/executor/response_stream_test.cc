// The reader's side alone: records are put into its queue by hand, and its mail is read back.
#include "executor/response_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/utf8.h"
#include "executor/byte_tokenizer.h"
#include "executor/stream_state.h"

namespace tidemill {
namespace {

using testing::ElementsAre;

class ResponseStreamTest : public testing::Test {
 protected:
  // A stream of that many choices, sequences 1, 2, ...
  ResponseStream stream(int num_choices, std::vector<std::string> stops = {}, bool keep = false) {
    auto state = std::make_unique<ResponseStream::State>();
    state->queue = queue_;
    state->mailbox = mailbox_;
    state->tokenizer = tokenizer_;
    state->resume_tokens = 8;
    for (int i = 0; i < num_choices; ++i) {
      ChoiceReader reader{.sequence = i + 1};
      reader.detokenizer.emplace(tokenizer_.get(), /*skip_special_tokens=*/true);
      reader.stop_strings = StopStrings(stops, keep);
      state->choices.push_back(std::move(reader));
    }
    return ResponseStream(std::move(state));
  }
  void say(int32_t choice, std::string_view text) {
    for (const char c : text) push(choice, static_cast<unsigned char>(c), std::nullopt);
  }
  void push(int32_t choice, std::optional<TokenId> id, std::optional<EndReason> reason) {
    TokenRecord record{.choice = choice};
    if (id) record.token = TokenChoice{.token = *id};
    if (reason) record.end = SequenceEnd{.id = choice + 1, .reason = *reason};
    queue_->push(std::move(record));
  }
  static std::string text(const ResponseStream::Poll& poll, int32_t choice = 0) {
    std::string text;
    for (const TextEvent& event : poll.events) {
      if (event.choice == choice) text += event.text;
    }
    return text;
  }
  std::vector<std::pair<MailKind, SequenceId>> mail() {
    std::vector<std::pair<MailKind, SequenceId>> mail;
    for (const Mail& record : mailbox_->take(std::chrono::milliseconds{0})) {
      mail.emplace_back(record.kind, record.sequence);
    }
    return mail;
  }

  std::shared_ptr<StreamQueue> queue_ = std::make_shared<StreamQueue>();
  std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  std::shared_ptr<const Tokenizer> tokenizer_ =
      std::make_shared<const Tokenizer>(byte_tokenizer_json());
};

TEST_F(ResponseStreamTest, K_2_PiecesAreWholeCharacters) {
  ResponseStream reader = stream(1);
  say(0, "a\xf0\x9f\x98");
  EXPECT_EQ(text(reader.poll()), "a");
  say(0, "\x80");
  EXPECT_EQ(text(reader.poll()), "😀");
  EXPECT_TRUE(reader.poll().events.empty());
}

TEST_F(ResponseStreamTest, K_2_HalfACharacterAtTheEndIsAReplacementCharacter) {
  ResponseStream reader = stream(1);
  say(0, "a\xf0\x9f");
  push(0, kScriptEndId, EndReason::kEndToken);
  const ResponseStream::Poll poll = reader.poll();
  EXPECT_EQ(text(poll), "a\ufffd");
  EXPECT_EQ(poll.events.back().finish->completion_tokens, 4);
}

TEST_F(ResponseStreamTest, AStopStringMayEndInWhatTheEndReleases) {
  ResponseStream reader = stream(1, {"b\ufffd"});
  say(0, "ab\xf0\x9f");
  push(0, kScriptEndId, EndReason::kEndToken);
  const ResponseStream::Poll poll = reader.poll();
  EXPECT_EQ(text(poll), "a");
  EXPECT_EQ(poll.events.back().finish->reason, FinishReason::kStopString);
}

TEST_F(ResponseStreamTest, WhatMightBecomeAStopStringComesWithTheEnd) {
  ResponseStream reader = stream(1, {"END"});
  say(0, "the EN");
  EXPECT_EQ(text(reader.poll()), "the ");
  push(0, 'D' - 1, EndReason::kLength);
  const ResponseStream::Poll poll = reader.poll();
  EXPECT_EQ(text(poll), "ENC");
  EXPECT_EQ(poll.events.back().finish->reason, FinishReason::kLength);
  EXPECT_TRUE(poll.ended);
}

TEST_F(ResponseStreamTest, AFoundStopStringStopsItsSequenceAndDropsTheRest) {
  ResponseStream reader = stream(2, {"END"});
  say(0, "xEND and more");
  say(1, "y");
  const ResponseStream::Poll poll = reader.poll();
  EXPECT_EQ(text(poll), "x");
  EXPECT_EQ(text(poll, 1), "y");
  EXPECT_EQ(poll.events[0].finish->completion_tokens, 4);
  EXPECT_EQ(poll.events[0].tokens.size(), 4u);
  EXPECT_FALSE(poll.ended);
  EXPECT_THAT(mail(), testing::Contains(std::pair(MailKind::kStop, SequenceId{1})));
  say(0, "still");
  EXPECT_TRUE(reader.poll().events.empty());
}

TEST_F(ResponseStreamTest, TheLoopIsNotToldOfAnEndThatItMade) {
  ResponseStream reader = stream(1, {"D"});
  push(0, 'D', EndReason::kLength);
  EXPECT_EQ(reader.poll().events[0].finish->reason, FinishReason::kStopString);
  EXPECT_THAT(mail(), ElementsAre());
}

TEST_F(ResponseStreamTest, AnErrorOfOneChoiceEndsTheOthersBehindTheirText) {
  ResponseStream reader = stream(2);
  say(1, "text");
  queue_->push({.choice = 0,
                .error = Error{.kind = ErrorKind::kNumericalError, .field = "", .message = "m"}});
  const ResponseStream::Poll poll = reader.poll();
  EXPECT_EQ(text(poll, 1), "text");
  EXPECT_EQ(poll.error->kind, ErrorKind::kNumericalError);
  EXPECT_TRUE(poll.ended);
  EXPECT_THAT(mail(), ElementsAre(std::pair(MailKind::kCancel, SequenceId{2})));
  EXPECT_FALSE(reader.poll().error) << "an error is told once";
}

TEST_F(ResponseStreamTest, AnErrorAfterEveryChoiceHasEndedIsNone) {
  ResponseStream reader = stream(1);
  push(0, 'a', EndReason::kLength);
  queue_->fail({.kind = ErrorKind::kDraining, .field = "", .message = "m"});
  const ResponseStream::Poll poll = reader.poll();
  EXPECT_TRUE(poll.ended);
  EXPECT_FALSE(poll.error);
}

TEST_F(ResponseStreamTest, WhoReadsMuchAtOnceResumesWhatWasPaused) {
  ResponseStream reader = stream(2);
  say(0, "12345678");
  reader.poll();
  EXPECT_THAT(mail(), ElementsAre());
  say(0, "123456789");
  reader.poll();
  EXPECT_THAT(mail(), ElementsAre(std::pair(MailKind::kResume, SequenceId{1}),
                                  std::pair(MailKind::kResume, SequenceId{2})));
}

TEST_F(ResponseStreamTest, MovingAStreamMovesItsDuties) {
  {
    ResponseStream first = stream(1);
    ResponseStream second = std::move(first);
    EXPECT_THAT(mail(), ElementsAre());
  }
  EXPECT_THAT(mail(), ElementsAre(std::pair(MailKind::kCancel, SequenceId{1})));
}

TEST_F(ResponseStreamTest, CancellingTwiceTellsTheLoopOnce) {
  ResponseStream reader = stream(1);
  reader.cancel();
  reader.cancel();
  EXPECT_THAT(mail(), ElementsAre(std::pair(MailKind::kCancel, SequenceId{1})));
  EXPECT_TRUE(reader.wait().ended) << "nobody writes any more: waiting must not block";
}

TEST_F(ResponseStreamTest, TokensCarryTheirBytesAndAlternatives) {
  ResponseStream reader = stream(1);
  queue_->push({.token = TokenChoice{
                    .token = 0xf0, .logprob = -1, .top = {{0xf0, -1.0f}, {kScriptEndId, -2.0f}}}});
  const ResponseStream::Poll poll = reader.poll();
  const TokenText& token = poll.events[0].tokens[0];
  EXPECT_EQ(token.text, "");
  EXPECT_EQ(token.bytes, "\xf0");
  EXPECT_FALSE(token.special);
  EXPECT_EQ(token.top[1].text, "<|im_end|>");
  EXPECT_EQ(token.top[1].bytes, "");
}

// What a reader must be told of one choice, by a search of its whole text.
struct Told {
  std::string text;
  FinishReason reason = FinishReason::kLength;
  std::optional<std::string> stop;
  int64_t completion_tokens = 0;
};

Told told(const std::string& bytes, EndReason end, const std::vector<std::string>& stops,
          bool keep) {
  Told all{.text = lossy_utf8(bytes), .completion_tokens = static_cast<int64_t>(bytes.size())};
  all.reason = end == EndReason::kLength ? FinishReason::kLength : FinishReason::kEndToken;
  all.completion_tokens += end == EndReason::kEndToken;
  size_t first_end = std::string::npos;
  for (size_t e = 1; e <= all.text.size() && first_end == std::string::npos; ++e) {
    for (const std::string& stop : stops) {
      if (!std::string_view(all.text).substr(0, e).ends_with(stop)) continue;
      first_end = e;
      if (!all.stop || stop.size() > all.stop->size()) all.stop = stop;
    }
  }
  if (!all.stop) return all;
  all.reason = FinishReason::kStopString;
  // Counted are the tokens up to the one with which the stop string was whole.
  for (size_t k = 1; k <= bytes.size(); ++k) {
    const std::string_view so_far = std::string_view(bytes).substr(0, k);
    const size_t shown = k - unfinished_bytes(so_far);
    if (lossy_utf8(so_far.substr(0, shown)).size() < first_end) continue;
    all.completion_tokens = static_cast<int64_t>(k);
    break;
  }
  all.text.resize(keep ? first_end : first_end - all.stop->size());
  return all;
}

TEST_F(ResponseStreamTest, SS_7_K_3_JoinedEventsAreTheWholeHoweverTheyAreRead) {
  std::mt19937_64 random(11);
  const auto below = [&](size_t bound) { return static_cast<size_t>(random() % bound); };
  constexpr std::string_view kPieces[] = {"a",    "b",    "é",        "漢",     "😀",
                                          "\xff", "\xe6", "\xf0\x9f", "ab漢😀é", "漣"};
  const auto some_bytes = [&](size_t most, size_t num_pieces) {
    std::string bytes;
    for (size_t i = below(most + 1); i > 0; --i) bytes += kPieces[below(num_pieces)];
    return bytes;
  };
  for (int round = 0; round < 40'000; ++round) {
    const auto num_choices = static_cast<int32_t>(below(3) + 1);
    const bool keep = below(4) == 0;
    std::vector<std::string> stops;
    for (size_t i = below(4); i > 0; --i) {
      const std::string stop = some_bytes(3, 5);
      if (!stop.empty()) stops.push_back(stop);
    }
    queue_ = std::make_shared<StreamQueue>();
    ResponseStream reader = stream(num_choices, stops, keep);
    std::vector<std::string> bytes(static_cast<size_t>(num_choices));
    std::vector<size_t> said(bytes.size(), 0);
    std::vector<EndReason> ends(bytes.size());
    for (size_t c = 0; c < bytes.size(); ++c) {
      bytes[c] = some_bytes(6, std::size(kPieces));
      ends[c] = bytes[c].empty() || below(2) == 0 ? EndReason::kEndToken : EndReason::kLength;
    }
    std::vector<Told> seen(bytes.size());
    std::vector<bool> finished(bytes.size(), false);
    bool ended = false;
    const auto read = [&] {
      const ResponseStream::Poll poll = reader.poll();
      ended = poll.ended;
      for (const TextEvent& event : poll.events) {
        const auto c = static_cast<size_t>(event.choice);
        ASSERT_FALSE(finished[c]);
        ASSERT_FALSE(first_invalid_utf8(event.text));
        seen[c].text += event.text;
        if (!event.finish) continue;
        finished[c] = true;
        seen[c].reason = event.finish->reason;
        seen[c].stop = event.finish->stop_string;
        seen[c].completion_tokens = event.finish->completion_tokens;
      }
    };
    for (bool more = true; more;) {
      more = false;
      for (size_t c = 0; c < bytes.size(); ++c) {
        if (said[c] > bytes[c].size()) continue;
        more = true;
        const size_t at = said[c]++;
        const bool by_length = ends[c] == EndReason::kLength;
        if (at == bytes[c].size()) {
          if (!by_length) push(static_cast<int32_t>(c), kScriptEndId, EndReason::kEndToken);
          continue;
        }
        const bool last = by_length && at + 1 == bytes[c].size();
        push(static_cast<int32_t>(c), static_cast<unsigned char>(bytes[c][at]),
             last ? std::optional(EndReason::kLength) : std::nullopt);
        if (below(3) == 0) read();
      }
    }
    while (!ended) read();
    for (size_t c = 0; c < bytes.size(); ++c) {
      const Told expected = told(bytes[c], ends[c], stops, keep);
      ASSERT_TRUE(finished[c]);
      ASSERT_EQ(seen[c].text, expected.text) << "round " << round;
      ASSERT_EQ(seen[c].reason, expected.reason) << "round " << round;
      ASSERT_EQ(seen[c].stop, expected.stop) << "round " << round;
      ASSERT_EQ(seen[c].completion_tokens, expected.completion_tokens) << "round " << round;
    }
    mail();
  }
}

}  // namespace
}  // namespace tidemill

// The reader's side alone: records are put into its queue by hand, and its mail is read back.
#include "executor/response_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/byte_tokenizer.h"
#include "executor/stream_state.h"

namespace tidemill {
namespace {

using testing::ElementsAre;

class ResponseStreamTest : public testing::Test {
 protected:
  // A stream of that many choices, sequences 1, 2, ...
  ResponseStream stream(int num_choices, std::vector<std::string> stops = {}) {
    auto state = std::make_unique<ResponseStream::State>();
    state->queue = queue_;
    state->mailbox = mailbox_;
    state->tokenizer = tokenizer_;
    state->resume_tokens = 8;
    for (int i = 0; i < num_choices; ++i) {
      ChoiceReader reader{.sequence = i + 1};
      reader.detokenizer.emplace(tokenizer_.get(), /*skip_special_tokens=*/true);
      reader.stop_strings = StopStrings(stops);
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

TEST_F(ResponseStreamTest, PiecesAreWholeCharacters) {
  ResponseStream reader = stream(1);
  say(0, "a\xf0\x9f\x98");
  EXPECT_EQ(text(reader.poll()), "a");
  say(0, "\x80");
  EXPECT_EQ(text(reader.poll()), "😀");
  EXPECT_TRUE(reader.poll().events.empty());
}

TEST_F(ResponseStreamTest, HalfACharacterAtTheEndIsAReplacementCharacter) {
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

}  // namespace
}  // namespace tidemill

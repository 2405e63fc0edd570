#include "executor/mailbox.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

namespace tidemill {
namespace {

constexpr std::chrono::milliseconds kNoWait{0};
constexpr std::chrono::minutes kLong{5};

Mail mail(SequenceId id) { return {.sequence = id}; }

Mail random_mail(std::mt19937_64& random) {
  const auto ids = [&random] {
    std::vector<TokenId> list(random() % 6);
    for (TokenId& id : list) id = static_cast<TokenId>(random());
    return list;
  };
  Mail mail{.kind = static_cast<MailKind>(random() % 4),
            .sequence = static_cast<SequenceId>(random()),
            .prompt = ids(),
            .max_new_tokens = static_cast<int32_t>(random()),
            .min_new_tokens = static_cast<int32_t>(random()),
            .end_ids = ids(),
            .stop_ids = ids(),
            .prefix_scope = std::string(random() % 9, 's'),
            .sampling = {.temperature = 0.25f, .top_k = 3, .top_p = 0.5f, .seed = random()},
            .choice = static_cast<int32_t>(random()),
            .stream_choice = static_cast<int32_t>(random()),
            .allowed_ids = ids(),
            .bias_ids = ids(),
            .bias = std::vector<float>(random() % 3, 0.5f),
            .bad_words = {ids(), ids()},
            .num_prompt_logprobs = static_cast<int32_t>(random()),
            .priority = static_cast<int32_t>(random())};
  if (random() % 2 == 0) mail.same_prompt_as = static_cast<SequenceId>(random());
  return mail;
}

TEST(Mailbox, RecordsComeInOrderAndOnce) {
  Mailbox box;
  box.push({mail(1), mail(2)});
  box.push({mail(3)});
  const std::vector<Mail> taken = box.take(kNoWait);
  ASSERT_EQ(taken.size(), 3u);
  EXPECT_EQ(taken[0].sequence, 1);
  EXPECT_EQ(taken[2].sequence, 3);
  EXPECT_TRUE(box.take(kNoWait).empty());
}

TEST(Mailbox, WaitingEndsWithMailOrAWord) {
  Mailbox box;
  std::thread sender([&] { box.push({mail(1)}); });
  EXPECT_EQ(box.take(kLong).size(), 1u);
  sender.join();
  box.wake();
  EXPECT_TRUE(box.take(kLong).empty()) << "a word that came before is not lost";
}

TEST(Mailbox, SendersDoNotMixTheRecordsOfOneCall) {
  Mailbox box;
  const auto send = [&box](SequenceId first) {
    for (int i = 0; i < 500; ++i) box.push({mail(first), mail(first + 1)});
  };
  std::thread one(send, 10), two(send, 20);
  one.join();
  two.join();
  const std::vector<Mail> all = box.take(kNoWait);
  ASSERT_EQ(all.size(), 2000u);
  for (size_t i = 0; i < all.size(); i += 2) {
    EXPECT_EQ(all[i].sequence + 1, all[i + 1].sequence);
  }
}

TEST(Mail, SurvivesAsBytes) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 500; ++round) {
    const Mail mail = random_mail(random);
    EXPECT_EQ(mail_from_bytes(to_bytes(mail)), mail);
  }
}

TEST(Mail, CutOrLengthenedBytesAreNoMail) {
  std::mt19937_64 random(4);
  const std::string bytes = to_bytes(random_mail(random));
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_EQ(mail_from_bytes(bytes.substr(0, length)), std::nullopt) << length;
  }
  EXPECT_EQ(mail_from_bytes(bytes + '\0'), std::nullopt);
}

TEST(Mail, AnUnknownKindOrAnEndlessLengthIsNoMail) {
  std::string bytes = to_bytes(Mail{});
  bytes[0] = 4;
  EXPECT_EQ(mail_from_bytes(bytes), std::nullopt);
  bytes[0] = 0;
  ASSERT_TRUE(mail_from_bytes(bytes));
  for (size_t i = 9; i < 17; ++i) bytes[i] = '\xff';  // the length of the prompt
  EXPECT_EQ(mail_from_bytes(bytes), std::nullopt);
}

TEST(Mail, DamagedBytesAreReadWithoutHarm) {
  std::mt19937_64 random(6);
  for (int round = 0; round < 5000; ++round) {
    std::string bytes = to_bytes(random_mail(random));
    for (uint64_t i = 1 + random() % 4; i > 0; --i) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    const auto mail = mail_from_bytes(bytes);
    if (!mail) continue;
    EXPECT_EQ(to_bytes(*mail), bytes) << "what is accepted means what it says";
  }
}

}  // namespace
}  // namespace tidemill

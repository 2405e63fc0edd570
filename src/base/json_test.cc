#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/utf8.h"

namespace tidemill {
namespace {

using testing::HasSubstr;

TEST(Json, ValuesAreReadAsTheyAreSpelled) {
  const auto value = parse_json(R"( {"a":[1,-2.5,true,null,"x\u00e9\ud83d\ude00\n"],"b":{}} )");
  ASSERT_TRUE(value) << value.error().message;
  const JsonArray& a = value->find("a")->array();
  EXPECT_EQ(a[0].integer(), 1);
  EXPECT_EQ(a[1].number(), -2.5);
  EXPECT_TRUE(a[2].boolean());
  EXPECT_TRUE(a[3].is_null());
  EXPECT_EQ(a[4].string(), "xé😀\n");
  EXPECT_TRUE(value->find("b")->object().empty());
  EXPECT_EQ(value->find("c"), nullptr);
}

TEST(Json, IntegersAndRealsAreToldApart) {
  EXPECT_TRUE(parse_json("5")->is_integer());
  EXPECT_TRUE(parse_json("5.0")->is_real());
  EXPECT_TRUE(parse_json("5e0")->is_real());
  EXPECT_EQ(parse_json("18446744073709551615")->unsigned_integer(), 18446744073709551615u);
  EXPECT_EQ(parse_json("-9223372036854775808")->integer(), INT64_MIN);
}

TEST(Json, J_1_WhatParsersDisagreeOnIsRefused) {
  const char* const refused[] = {
      "",
      " ",
      "{",
      "[1,]",
      "{\"a\":1,}",
      "[1 2]",
      "01",
      "1.",
      ".5",
      "+1",
      "0x10",
      "NaN",
      "Infinity",
      "-",
      "1e400",
      "-1e400",
      "nul",
      "'a'",
      "\"\t\"",
      "\"\\x\"",
      "\"\\ud800\"",
      "\"\\udc00\"",
      "{\"a\":1,\"a\":2}",
      "{} {}",
      "[1]x",
      "/*c*/1",
      "\xef\xbb\xbf{}",
      "\"\xff\"",
      "\"\xed\xa0\x80\"",
      "{1:2}",
      "18446744073709551616",
      "-9223372036854775809",
      "[[{\"k\":0,\"k\":0}]]",
      "\"abc",
      "1e",
  };
  for (const char* text : refused) {
    const auto value = parse_json(text);
    ASSERT_FALSE(value) << text;
    EXPECT_EQ(value.error().kind, ErrorKind::kInvalidJson);
    EXPECT_THAT(value.error().message, HasSubstr("at byte")) << text;
  }
}

TEST(Json, J_1_TheMessageNamesTheByte) {
  EXPECT_THAT(parse_json("{\"a\": tru}").error().message, HasSubstr("at byte 6"));
  EXPECT_THAT(parse_json("[1] 2").error().message, HasSubstr("at byte 4"));
}

TEST(Json, AMessageNeverCutsACharacterOfTheKeyItNames) {
  const std::string key = std::string(63, 'x') + "é";
  const auto twice = parse_json("{\"" + key + "\":1,\"" + key + "\":2}");
  ASSERT_FALSE(twice);
  EXPECT_FALSE(first_invalid_utf8(twice.error().message)) << twice.error().message;
}

TEST(Json, J_2_DepthIsBounded) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_TRUE(parse_json(nested(64)));
  EXPECT_FALSE(parse_json(nested(65)));
  EXPECT_FALSE(parse_json(std::string(1 << 20, '[')));
}

TEST(Json, J_2_TheNumberOfValuesIsBounded) {
  std::string text = "[0";
  for (int i = 0; i < 8; ++i) text += ",0";
  text += "]";
  EXPECT_TRUE(parse_json(text, {.max_values = 10}));
  EXPECT_FALSE(parse_json(text, {.max_values = 9}));
}

TEST(Json, HugeIntegersAreRealsInFiles) {
  const auto value = parse_json("1000000000000000019884624838656", kFileJsonLimits);
  ASSERT_TRUE(value);
  EXPECT_DOUBLE_EQ(value->number(), 1e30);
}

TEST(Json, NumbersTooSmallForADoubleAreZero) { EXPECT_EQ(parse_json("1e-400")->number(), 0.0); }

TEST(Json, SeventeenDigitsAreReadExactly) {
  EXPECT_EQ(parse_json("0.10000000000000001")->number(), 0.1);
  EXPECT_EQ(parse_json("9007199254740993.0")->number(), 9007199254740992.0);
  EXPECT_EQ(parse_json("1.7976931348623157e308")->number(), 1.7976931348623157e308);
}

TEST(Json, TheWriterEscapesOnlyWhatJsonRequires) {
  std::string out;
  JsonWriter(&out)
      .begin_object()
      .key("k\"")
      .value("é\x01\n\\/")
      .key("f")
      .value(0.1f)
      .key("d")
      .value(1.0)
      .key("l")
      .begin_array()
      .value(1)
      .value(true)
      .null()
      .end_array()
      .end_object();
  EXPECT_EQ(out, "{\"k\\\"\":\"é\\u0001\\n\\\\/\",\"f\":0.1,\"d\":1.0,\"l\":[1,true,null]}");
}

// A random tree of at most that depth.
JsonValue random_tree(std::mt19937_64& random, int depth) {
  switch (random() % (depth > 0 ? 7 : 5)) {
    case 0:
      return {};
    case 1:
      return random() % 2 == 0;
    case 2:
      return static_cast<int64_t>(random());
    case 3:
      return std::ldexp(static_cast<double>(random() % 1000003),
                        static_cast<int>(random() % 200) - 100);
    case 4: {
      std::string text;
      for (size_t i = random() % 6; i > 0; --i)
        append_utf8(&text, static_cast<uint32_t>(random() % 0xd7ff));
      return text;
    }
    case 5: {
      JsonArray array;
      for (size_t i = random() % 4; i > 0; --i) array.push_back(random_tree(random, depth - 1));
      return array;
    }
    default: {
      JsonObject object;
      for (size_t i = random() % 4; i > 0; --i) {
        object.emplace_back(format("k{}", i), random_tree(random, depth - 1));
      }
      return object;
    }
  }
}

TEST(Json, OneObjectMayBeAllowedOnlySoManyMembers) {
  const JsonLimits limits{.max_members = 2};
  EXPECT_TRUE(parse_json(R"({"a":{"c":0,"d":0},"b":[1,2,3]})", limits));
  const auto refused = parse_json(R"({"a":{"c":0,"d":0,"e":0}})", limits);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("at byte 20: one object holds more than 2 members"),
            std::string::npos)
      << refused.error().message;
}

TEST(Json, WhatIsWrittenReadsBackEqual) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 2000; ++round) {
    const JsonValue tree = random_tree(random, 5);
    const auto back = parse_json(to_json(tree));
    ASSERT_TRUE(back) << to_json(tree);
    ASSERT_EQ(*back, tree) << to_json(tree);
  }
}

TEST(Json, RandomDamageNeverCrashes) {
  std::mt19937_64 random(8);
  for (int round = 0; round < 5000; ++round) {
    std::string text = to_json(random_tree(random, 4));
    for (int i = 0; i < 3 && !text.empty(); ++i) {
      text[random() % text.size()] = static_cast<char>(random());
    }
    (void)parse_json(text);
  }
}

}  // namespace
}  // namespace tidemill

#include "api/fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidemill {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

JsonValue json(std::string_view text) { return *parse_json(text); }

TEST(Fields, NullMeansNotGiven) {
  const JsonValue body = json(R"({"a":null})");
  Fields fields(body, "");
  EXPECT_FALSE(fields.integer("a") || fields.number("a") || fields.boolean("a") ||
               fields.text("a") || fields.texts("a") || fields.integers("a") || fields.bits("a"));
  EXPECT_EQ(fields.value("a"), nullptr);
  EXPECT_FALSE(fields.first_problem());
}

TEST(Fields, AnIntegerMayBeSpelledAsAReal) {
  const JsonValue body = json(R"({"a":5,"b":5.0,"c":5e0,"d":-0.0})");
  Fields fields(body, "");
  EXPECT_EQ(fields.integer("a"), 5);
  EXPECT_EQ(fields.integer("b"), 5);
  EXPECT_EQ(fields.integer("c"), 5);
  EXPECT_EQ(fields.integer("d"), 0);
  EXPECT_FALSE(fields.first_problem());
}

TEST(Fields, WhatIsNoIntegerIsRefusedWithItsPath) {
  for (const char* value : {"5.5", "\"5\"", "true", "[5]", "{}", "1e300", "18446744073709551615"}) {
    const JsonValue body = json(format(R"({{"a":{}}})", value));
    Fields fields(body, "parameters.");
    EXPECT_FALSE(fields.integer("a"));
    ASSERT_TRUE(fields.first_problem()) << value;
    EXPECT_EQ(fields.first_problem()->kind, ErrorKind::kInvalidParameter);
    EXPECT_EQ(fields.first_problem()->field, "parameters.a");
    EXPECT_THAT(fields.first_problem()->message, HasSubstr("parameters.a"));
  }
}

TEST(Fields, ASeedMayUseAll64Bits) {
  const JsonValue body = json(R"({"most":18446744073709551615,"least":-1,"bad":1.5})");
  Fields fields(body, "");
  EXPECT_EQ(fields.bits("most"), UINT64_MAX);
  EXPECT_EQ(fields.bits("least"), UINT64_MAX);
  EXPECT_FALSE(fields.first_problem());
  EXPECT_FALSE(fields.bits("bad"));
  EXPECT_EQ(fields.first_problem()->field, "bad");
}

TEST(Fields, NumbersMayBeIntegersAndBooleansNothingElse) {
  const JsonValue body = json(R"({"a":1,"b":1,"c":"x"})");
  Fields fields(body, "");
  EXPECT_EQ(fields.number("a"), 1.0);
  EXPECT_FALSE(fields.boolean("b"));
  EXPECT_FALSE(fields.number("c"));
  EXPECT_EQ(fields.first_problem()->field, "b");  // the first, not the last
}

TEST(Fields, AStringStandsForAListOfOne) {
  const JsonValue body = json(R"({"a":"x","b":["x","y"],"c":["x",1],"d":[1,2.0],"e":[1,"x"]})");
  Fields fields(body, "");
  EXPECT_THAT(*fields.texts("a"), ElementsAre("x"));
  EXPECT_THAT(*fields.texts("b"), ElementsAre("x", "y"));
  EXPECT_THAT(*fields.integers("d"), ElementsAre(1, 2));
  EXPECT_FALSE(fields.first_problem());
  EXPECT_FALSE(fields.texts("c"));
  EXPECT_FALSE(fields.integers("e"));
  EXPECT_EQ(fields.first_problem()->field, "c");
}

TEST(Fields, NamesNobodyAskedForAreUnknownInTheirOrder) {
  const JsonValue body = json(R"({"z":1,"known":2,"a":3})");
  Fields fields(body, "");
  fields.integer("known");
  EXPECT_THAT(fields.unknown(), ElementsAre("z", "a"));
}

}  // namespace
}  // namespace tidemill

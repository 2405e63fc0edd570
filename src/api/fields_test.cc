#include "api/fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidemill {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

constexpr FieldRow kRows[] = {{.name = "integer", .type = FieldType::kInteger},
                              {.name = "bits", .type = FieldType::kBits},
                              {.name = "number", .type = FieldType::kNumber},
                              {.name = "boolean", .type = FieldType::kBoolean},
                              {.name = "text", .type = FieldType::kText},
                              {.name = "texts", .type = FieldType::kTexts},
                              {.name = "integers", .type = FieldType::kIntegers},
                              {.name = "bias", .type = FieldType::kBias},
                              {.name = "list", .type = FieldType::kList}};
const FieldTable kTable = {"Test", kRows};

class FieldsTest : public testing::Test {
 protected:
  Fields& read(const std::string& json, const std::string& path = "") {
    fields_.reset();
    body_ = *parse_json(json);
    return fields_.emplace(body_, path, kTable, RequestLimits());
  }

  void refuses(const std::string& name, const std::string& value) {
    const Fields& fields = read(format(R"({{"{}":{}}})", name, value), "parameters.");
    ASSERT_TRUE(fields.first_problem()) << name << ": " << value;
    EXPECT_EQ(fields.first_problem()->kind, ErrorKind::kInvalidParameter);
    EXPECT_EQ(fields.first_problem()->field, "parameters." + name);
    EXPECT_THAT(fields.first_problem()->message, HasSubstr("parameters." + name + " is "));
  }

 private:
  JsonValue body_;
  std::optional<Fields> fields_;
};

TEST_F(FieldsTest, NullMeansNotGiven) {
  Fields& fields = read(R"({"integer":null,"bits":null,"number":null,"boolean":null,"text":null,)"
                        R"("texts":null,"integers":null,"bias":null,"list":null})");
  EXPECT_FALSE(fields.integer("integer") || fields.bits("bits") || fields.number("number") ||
               fields.boolean("boolean") || fields.text("text") || fields.texts("texts") ||
               fields.integers("integers") || fields.bias("bias"));
  EXPECT_EQ(fields.value("list"), nullptr);
  EXPECT_FALSE(fields.first_problem());
}

TEST_F(FieldsTest, AnIntegerMayBeSpelledAsAReal) {
  for (const char* five : {"5", "5.0", "5e0"}) {
    EXPECT_EQ(read(format(R"({{"integer":{}}})", five)).integer("integer"), 5);
  }
  EXPECT_EQ(read(R"({"integer":-0.0})").integer("integer"), 0);
}

TEST_F(FieldsTest, WhatIsNoIntegerIsRefusedWithItsPath) {
  for (const char* value : {"5.5", "\"5\"", "true", "[5]", "{}", "1e300", "18446744073709551615"}) {
    refuses("integer", value);
    EXPECT_FALSE(read(format(R"({{"integer":{}}})", value)).integer("integer")) << value;
  }
}

TEST_F(FieldsTest, ASeedMayUseAll64Bits) {
  EXPECT_EQ(read(R"({"bits":18446744073709551615})").bits("bits"), UINT64_MAX);
  EXPECT_EQ(read(R"({"bits":-1})").bits("bits"), UINT64_MAX);
  EXPECT_EQ(read(R"({"bits":3.0})").bits("bits"), 3u);
  refuses("bits", "1.5");
}

TEST_F(FieldsTest, NumbersMayBeIntegersAndBooleansNothingElse) {
  EXPECT_EQ(read(R"({"number":1})").number("number"), 1.0);
  EXPECT_EQ(read(R"({"boolean":true})").boolean("boolean"), true);
  refuses("boolean", "1");
  refuses("number", "\"x\"");
}

TEST_F(FieldsTest, TheFirstProblemInTheTablesOrderIsTheAnswer) {
  EXPECT_EQ(read(R"({"text":5,"boolean":1})").first_problem()->field, "boolean");
}

TEST_F(FieldsTest, AStringStandsForAListOfOne) {
  EXPECT_THAT(*read(R"({"texts":"x"})").texts("texts"), ElementsAre("x"));
  EXPECT_THAT(*read(R"({"texts":["x","y"]})").texts("texts"), ElementsAre("x", "y"));
  refuses("texts", R"(["x",1])");
}

TEST_F(FieldsTest, ListsAndBiasesKeepTheirOrder) {
  EXPECT_THAT(*read(R"({"integers":[2,1.0]})").integers("integers"), ElementsAre(2, 1));
  refuses("integers", R"([1,"x"])");
  EXPECT_THAT(*read(R"({"bias":{"7":1,"3":-0.5}})").bias("bias"),
              ElementsAre(Pair(7, 1.0), Pair(3, -0.5)));
  refuses("bias", R"({"x":1})");
}

TEST_F(FieldsTest, NamesNobodyAskedForAreUnknownInTheirOrder) {
  Fields& fields = read(R"({"z":1,"integer":2,"a":3})");
  fields.integer("integer");
  EXPECT_THAT(fields.unknown(), ElementsAre("z", "a"));
}

}  // namespace
}  // namespace tidemill

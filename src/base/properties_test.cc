#include "base/properties.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

namespace tidemill {
namespace {

using testing::HasSubstr;

struct Case {
  const char* text;
  const char* key;
  const char* value;
};

TEST(Properties, SpellingsOfOnePairAreReadAsJavaReadsThem) {
  const Case cases[] = {
      {"a=b", "a", "b"},
      {"a = b", "a", "b"},
      {"a: b", "a", "b"},
      {"a b", "a", "b"},
      {"  a\t=\tb", "a", "b"},
      {"a", "a", ""},
      {"a==b", "a", "=b"},
      {"a:=b", "a", "=b"},
      {"a\\ b=c", "a b", "c"},
      {"a\\=b=c", "a=b", "c"},
      {"a=b\\\n   c", "a", "bc"},
      {"a=b\\\\", "a", "b\\"},
      {"a=\\u00e9\\t\\q", "a", "é\tq"},
      {"a=\\ud83d\\ude00", "a", "😀"},
      {"a=b # c", "a", "b # c"},
  };
  for (const Case& c : cases) {
    const auto properties = parse_properties(c.text, "f");
    ASSERT_EQ(properties.size(), 1u) << c.text;
    EXPECT_EQ(properties[0].key, c.key) << c.text;
    EXPECT_EQ(properties[0].value, c.value) << c.text;
  }
}

TEST(Properties, BlanksBehindAValueAreKept) {
  EXPECT_EQ(parse_properties("option.use_custom_all_reduce=true \n", "f")[0].value, "true ");
}

TEST(Properties, CommentsAndBlankLinesAreNoPairsButCountAsLines) {
  const auto properties = parse_properties("# one\n! two\n\n \t\r\na=1\r\nb=2\rc=3", "f");
  ASSERT_EQ(properties.size(), 3u);
  EXPECT_EQ(properties[0].line, 5);
  EXPECT_EQ(properties[1].line, 6);
  EXPECT_EQ(properties[2].line, 7);
}

TEST(Properties, ACommentCannotBeContinued) {
  EXPECT_EQ(parse_properties("# a\\\nb=1", "f").size(), 1u);
}

TEST(Properties, Z_6_AMalformedEscapeNamesFileAndLine) {
  try {
    parse_properties("a=1\nb=\\u12g4", "serving.properties");
    FAIL();
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("serving.properties:2"));
  }
}

TEST(Properties, AFileThatIsNotUtf8IsReadAsJavaWritesIt) {
  const auto properties = parse_properties("# r\xe9gl\xe9\na=caf\xe9\nb=\xc3\xa9\xff", "f");
  EXPECT_EQ(properties[0].value, "café");
  EXPECT_EQ(properties[1].value, "Ã©ÿ");  // one decision for the whole file
  EXPECT_EQ(parse_properties("a=caf\xc3\xa9", "f")[0].value, "café");
}

TEST(Properties, LoneSurrogatesAreRefused) {
  EXPECT_THROW(parse_properties("a=\\ud83d", "f"), std::runtime_error);
  EXPECT_THROW(parse_properties("a=\\ude00", "f"), std::runtime_error);
}

TEST(Properties, AFileThatEndsInsideAContinuationIsRead) {
  EXPECT_EQ(parse_properties("a=b\\", "f")[0].value, "b");
}

}  // namespace
}  // namespace tidemill

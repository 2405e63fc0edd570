#include "server/body_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace tidemill {
namespace {

using testing::HasSubstr;

const std::string kType = "multipart/form-data; boundary=\"b b\"";

std::string part(std::string_view head, std::string_view value) {
  return "--b b\r\n" + std::string(head) + "\r\n\r\n" + std::string(value) + "\r\n";
}

std::string named(std::string_view name, std::string_view value) {
  return part("Content-Disposition: form-data; name=\"" + std::string(name) + "\"", value);
}

std::string why_not(const std::string& body, const std::string& type = kType) {
  const auto parts = multipart_parts(type, body);
  EXPECT_FALSE(parts) << body;
  return parts ? "" : parts.error().message;
}

TEST(BodyParts, TheTypeSaysTheForm) {
  EXPECT_EQ(body_form("Application/X-WWW-Form-Urlencoded; charset=utf-8"), BodyForm::kForm);
  EXPECT_EQ(body_form("multipart/form-data; boundary=x"), BodyForm::kMultipart);
  EXPECT_EQ(body_form("application/json"), BodyForm::kWhole);
  EXPECT_EQ(body_form(""), BodyForm::kWhole);
}

TEST(BodyParts, AFormIsDecoded) {
  const auto parts = form_parts("inputs=a+b%26%C3%A9&empty=&flag&");
  ASSERT_TRUE(parts);
  ASSERT_EQ(parts->size(), 3u);
  EXPECT_EQ((*parts)[0].name, "inputs");
  EXPECT_EQ((*parts)[0].value, "a b&é");
  EXPECT_EQ((*parts)[1].value, "");
  EXPECT_EQ((*parts)[2].name, "flag");
}

TEST(BodyParts, AFormThatIsNoneIsRefused) {
  EXPECT_THAT(form_parts("a=%zz").error().message, HasSubstr("%"));
  EXPECT_FALSE(form_parts("a=%00"));
  EXPECT_THAT(form_parts(std::string(64, '&')).error().message, HasSubstr("64"));
  EXPECT_THAT(form_parts(std::string(257, 'n') + "=1").error().message, HasSubstr("256"));
}

TEST(BodyParts, PartsOfAMultipartBodyHaveNamesAndTypes) {
  const std::string body = named("inputs", "a\r\nb--b b") +
                           part(
                               "content-type: text/csv\r\ncontent-disposition: form-data; "
                               "filename=\"x;y.csv\"; name=data",
                               "") +
                           "--b b--\r\nepilogue";
  const auto parts = multipart_parts(kType, body);
  ASSERT_TRUE(parts) << parts.error().message;
  ASSERT_EQ(parts->size(), 2u);
  EXPECT_EQ((*parts)[0].name, "inputs");
  EXPECT_EQ((*parts)[0].value, "a\r\nb--b b");
  EXPECT_EQ((*parts)[1].name, "data");
  EXPECT_EQ((*parts)[1].content_type, "text/csv");
  EXPECT_TRUE(multipart_parts("multipart/form-data;boundary=x", "--x--"));
}

TEST(BodyParts, NamesMayHoldQuotes) {
  const auto parts = multipart_parts(
      kType, part("Content-Disposition: form-data; name=\"a\\\"b\"", "1") + "--b b--");
  ASSERT_TRUE(parts);
  EXPECT_EQ((*parts)[0].name, "a\"b");
}

TEST(BodyParts, AMultipartBodyIsHeldToTheLetter) {
  EXPECT_THAT(why_not("", kType), HasSubstr("begin"));
  EXPECT_THAT(why_not("preamble\r\n" + named("a", "1") + "--b b--"), HasSubstr("begin"));
  EXPECT_THAT(why_not(named("a", "1")), HasSubstr("boundary"));
  EXPECT_THAT(why_not("--b b\r\nno head"), HasSubstr("head"));
  EXPECT_THAT(why_not("--b bx"), HasSubstr("line end"));
  EXPECT_THAT(why_not(part("Content-Type: text/plain", "1") + "--b b--"), HasSubstr("name"));
  EXPECT_THAT(why_not(part("Content-Disposition: attachment; name=a", "1") + "--b b--"),
              HasSubstr("name"));
  EXPECT_THAT(why_not(part("nothing", "1") + "--b b--"), HasSubstr("colon"));
  EXPECT_THAT(why_not(part("Content-Disposition: form-data; name=a\r\n"
                           "Content-Transfer-Encoding: base64",
                           "1") +
                      "--b b--"),
              HasSubstr("encoded"));
  EXPECT_THAT(why_not("--x--", "multipart/form-data"), HasSubstr("boundary"));
  EXPECT_THAT(why_not("--x--", "multipart/form-data; boundary=" + std::string(71, 'x')),
              HasSubstr("boundary"));
  EXPECT_THAT(why_not("--x--", "multipart/mixed; boundary=x"), HasSubstr("form-data"));
}

TEST(BodyParts, LimitsOfPartsHold) {
  std::string many;
  for (int i = 0; i < 65; ++i) many += named("a", "1");
  EXPECT_THAT(why_not(many + "--b b--"), HasSubstr("64"));
  EXPECT_THAT(why_not(named(std::string(257, 'n'), "1") + "--b b--"), HasSubstr("256"));
  EXPECT_THAT(why_not(part("X: " + std::string(5000, 'x'), "1") + "--b b--"), HasSubstr("4096"));
}

TEST(BodyParts, WhateverComesIsReadOrRefused) {
  std::mt19937 random(7);
  const std::vector<std::string> tokens = {"--b b",     "\r\n",
                                           "--",        "\r\n\r\n",
                                           ":",         "name=\"a\"",
                                           "; ",        "x",
                                           "\"",        "\\",
                                           "%",         "&",
                                           "form-data", "Content-Disposition: form-data; name=a"};
  for (int i = 0; i < 20'000; ++i) {
    std::string body;
    for (auto left = random() % 12; left > 0; --left) body += tokens[random() % tokens.size()];
    const auto parts = multipart_parts(kType, body);
    const auto form = form_parts(body);
    ASSERT_TRUE(parts || !parts.error().message.empty());
    ASSERT_TRUE(form || !form.error().message.empty());
    static_cast<void>(multipart_parts(body, "--x--"));
  }
}

}  // namespace
}  // namespace tidemill

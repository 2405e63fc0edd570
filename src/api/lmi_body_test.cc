#include "api/lmi_body.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidemill {
namespace {

using testing::HasSubstr;

std::string read(std::string_view type, std::string_view body) {
  const auto json = read_lmi_body(type, body);
  EXPECT_TRUE(json) << type << ": " << json.error().message;
  return json ? to_json(*json) : "";
}

Error refused(std::string_view type, std::string_view body) {
  const auto json = read_lmi_body(type, body);
  EXPECT_FALSE(json) << type << " was accepted";
  return json ? Error{} : json.error();
}

std::string read(std::vector<ContentPart> parts) {
  const auto json = read_lmi_parts(parts);
  EXPECT_TRUE(json) << json.error().message;
  return json ? to_json(*json) : "";
}

TEST(LmiBody, JsonHasManyNames) {
  for (const char* type :
       {"", "application/json", "Application/JSON; charset=UTF-8", "application/vnd.x+json",
        "text/json", "application/jsonlines", "application/octet-stream", "text/plain"}) {
    EXPECT_EQ(read(type, R"( {"inputs": "x"})"), R"({"inputs":"x"})") << type;
  }
  EXPECT_EQ(refused("", "{bad").kind, ErrorKind::kInvalidJson);
  EXPECT_EQ(refused("application/json", "").kind, ErrorKind::kInvalidJson);
  EXPECT_EQ(refused("application/json", "[1]").kind, ErrorKind::kInvalidJson);
}

TEST(LmiBody, JsonIsBoundedWhereverItStands) {
  const JsonLimits limits{.max_depth = 2};
  const std::string deep = R"({"inputs":[[["x"]]]})";
  EXPECT_FALSE(read_lmi_body("", deep, limits));
  const std::vector<ContentPart> data = {{"data", deep, ""}};
  EXPECT_FALSE(read_lmi_parts(data, limits));
  const std::vector<ContentPart> parameters = {{"inputs", "x", ""}, {"parameters", deep, ""}};
  EXPECT_FALSE(read_lmi_parts(parameters, limits));
}

TEST(LmiBody, NothingAtAllIsAnEmptyInput) { EXPECT_EQ(read("", ""), R"({"inputs":""})"); }

TEST(LmiBody, TextIsAListOfOne) {
  EXPECT_EQ(read("text/plain", "hello\n\"you\""), R"({"inputs":["hello\n\"you\""]})");
  EXPECT_EQ(read("text/plain; charset=utf-8", "é"), R"({"inputs":["é"]})");
  EXPECT_EQ(read("text/plain", "[INST] hi [/INST]"), R"({"inputs":["[INST] hi [/INST]"]})");
  EXPECT_EQ(refused("text/plain", "\xff").kind, ErrorKind::kInvalidParameter);
}

TEST(LmiBody, ATablesColumnIsAList) {
  EXPECT_EQ(read("text/csv", "inputs\none\ntwo\n"), R"({"inputs":["one","two"]})");
  EXPECT_EQ(read("text/csv", "id,INPUTS\r\n1,\"a, \"\"b\"\"\nc\"\r\n2,d"),
            R"({"inputs":["a, \"b\"\nc","d"]})");
  EXPECT_EQ(read("text/csv", "inputs\n\n"), R"({"inputs":[""]})");
  EXPECT_EQ(read("text/csv", "inputs"), R"({"inputs":[]})");
}

TEST(LmiBody, TablesThatAreNoneAreRefused) {
  EXPECT_THAT(refused("text/csv", "question,context\na,b\n").message, HasSubstr("column inputs"));
  EXPECT_THAT(refused("text/csv", "").message, HasSubstr("column inputs"));
  EXPECT_THAT(refused("text/csv", "a,inputs\n1\n").message, HasSubstr("row 1"));
  EXPECT_THAT(refused("text/csv", "inputs\n\"open").message, HasSubstr("not closed"));
  EXPECT_THAT(refused("text/csv", "inputs\n\"a\"b\n").message, HasSubstr("row 1"));
  EXPECT_THAT(refused("text/csv", "inputs\n" + std::string(1 << 20, ',')).message,
              HasSubstr("too many cells"));
  EXPECT_THAT(refused("text/csv", std::string(1 << 20, ',')).message, HasSubstr("column inputs"));
  EXPECT_THAT(refused("text/csv", "inputs\n" + std::string(2000, '\n')).message,
              HasSubstr("more than 1024 rows"));
}

TEST(LmiBody, WhatIsNoTextIsRefusedByName) {
  for (const char* type : {"image/png", "audio/wav", "video/mp4", "tensor/npz", "tensor/ndlist",
                           "application/x-npy", "application/pdf", "text/html"}) {
    const Error error = refused(type, "{}");
    EXPECT_EQ(error.kind, ErrorKind::kUnsupportedMediaType) << type;
    EXPECT_THAT(error.message, HasSubstr(type));
  }
  EXPECT_EQ(refused("application/octet-stream", "abc").kind, ErrorKind::kUnsupportedMediaType);
  EXPECT_EQ(refused("application/json; charset=latin-1", "{}").kind,
            ErrorKind::kUnsupportedMediaType);
}

TEST(LmiBody, OfPartsDataCountsThenInputsThenTheFirst) {
  EXPECT_EQ(read({{"x", "1", ""}, {"inputs", "2", ""}, {"data", "3", ""}}), R"({"inputs":"3"})");
  EXPECT_EQ(read({{"x", "1", ""}, {"inputs", "2", ""}}), R"({"inputs":"2"})");
  EXPECT_EQ(read({{"model_name", "m", ""}, {"x", "1", ""}}), R"({"inputs":"1"})");
  EXPECT_FALSE(read_lmi_parts({}));
  const std::vector<ContentPart> model = {{"model_name", "m", ""}};
  EXPECT_EQ(read_lmi_parts(model).error().kind, ErrorKind::kMissingParameter);
}

TEST(LmiBody, DataHasAFormOfItsOwn) {
  EXPECT_EQ(read({{"data", R"({"inputs":"x","stream":true})", ""}}),
            R"({"inputs":"x","stream":true})");
  EXPECT_EQ(read({{"data", "inputs\na\n", "text/csv"}}), R"({"inputs":["a"]})");
  const std::vector<ContentPart> image = {{"data", "x", "image/png"}};
  EXPECT_EQ(read_lmi_parts(image).error().kind, ErrorKind::kUnsupportedMediaType);
}

TEST(LmiBody, ParametersAndStreamStandBesideInputs) {
  EXPECT_EQ(read({{"inputs", "x", ""}, {"parameters", R"({"n":1})", ""}, {"stream", "True", ""}}),
            R"({"inputs":"x","parameters":{"n":1},"stream":true})");
  const std::vector<ContentPart> bad = {{"inputs", "x", ""}, {"parameters", "{", ""}};
  EXPECT_EQ(read_lmi_parts(bad).error().field, "parameters");
  const std::vector<ContentPart> odd = {{"inputs", "x", ""}, {"stream", "yes", ""}};
  EXPECT_EQ(read_lmi_parts(odd).error().field, "stream");
  const std::vector<ContentPart> bytes = {{"inputs", "\xff", ""}};
  EXPECT_EQ(read_lmi_parts(bytes).error().field, "inputs");
}

}  // namespace
}  // namespace tidemill

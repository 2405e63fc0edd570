// Every field of the routes that generate at absent, null, wrong type, below, at and above each
// bound (apis.md 22, 8), compared with its row.
#include "api/field_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "api/fields.h"
#include "api/lmi_chat.h"
#include "api/test_model.h"

namespace tidemill {
namespace {

struct Schema {
  const FieldTable& table;
  Parser parser;
  const char* body;
  int num_bounds;           // at least
  int num_refusals;         // at least
  const char* inside = "";  // the member of the body that the table describes

  // How messages call a field.
  std::string path(std::string_view name) const {
    return (*inside == '\0' ? "" : std::string(inside) + ".") + std::string(name);
  }
};
constexpr const char* kConversation = R"({"messages":[{"role":"user","content":"x"}]})";
const Schema kSchemas[] = {
    {kCompletionTable, parse_openai_completion, R"({"prompt":"x"})", 31, 11},
    {kChatTable, parse_openai_chat, kConversation, 31, 11},
    {kInvocationTable, parse_lmi_invocation, R"({"inputs":"x"})", 1, 2},
    {kInvocationParametersTable, parse_lmi_invocation, R"({"inputs":"x"})", 41, 18, "parameters"},
    {kInvocationChatTable, parse_lmi_chat, kConversation, 28, 10},
    {kInvocationChatParametersTable, parse_lmi_chat, kConversation, 0, 0, "parameters"},
};

// What is of another type, spelled out: the table's own idea of types is what is tested.
std::vector<std::string> wrong_types(FieldType type) {
  switch (type) {
    case FieldType::kBoolean:
      return {"1", "0", R"("true")", "[]", "{}"};
    case FieldType::kInteger:
      return {"5.5", R"("5")", "true", "[5]", "{}", "1e300", "18446744073709551615"};
    case FieldType::kBits:
      return {"5.5", R"("5")", "true", "[5]", "{}", "1e300"};
    case FieldType::kNumber:
      return {R"("1")", "true", "[1]", "{}"};
    case FieldType::kText:
      return {"5", "true", R"(["x"])", "{}"};
    case FieldType::kTexts:
      return {"5", "true", R"(["x",5])", "{}"};
    case FieldType::kIntegers:
      return {"5", R"("5")", "[5.5]", R"(["5"])", "{}", "[true]"};
    case FieldType::kList:
      return {"5", R"("x")", "{}", "true"};
    case FieldType::kObject:
      return {"5", R"("x")", "[]", "true"};
    case FieldType::kBias:
      return {"5", "[]", R"({"x":1})", R"({"-1":1})", R"({"1":"1"})", R"({"":1})"};
    case FieldType::kContent:
    case FieldType::kPrompt:
      return {"5", "true", "{}"};
    case FieldType::kAny:
      break;
  }
  return {};
}

double upper(const FieldRow& row, const RequestLimits& limits) {
  return row.range.limit == nullptr ? row.range.max : static_cast<double>(limits.*row.range.limit);
}

// A value of that size: the number itself, a string of so many bytes, a list of so many items.
JsonValue sized(const FieldRow& row, double size) {
  const auto count = static_cast<size_t>(std::max(size, 0.0));
  switch (row.type) {
    case FieldType::kInteger:
      return static_cast<int64_t>(size);
    case FieldType::kNumber:
      return size;
    case FieldType::kText:
      return std::string(count, 'x');
    case FieldType::kTexts:
      return JsonArray(count, "x");
    case FieldType::kIntegers:
      return JsonArray(count, 7);
    case FieldType::kList:
      return JsonArray(count, JsonObject{{"role", "user"}, {"content", "x"}});
    case FieldType::kBias:
      return JsonObject{{"7", size}};
    default:
      ADD_FAILURE() << row.name << " has a range and no size";
      return {};
  }
}

// Puts fields where the table's object is.
void add(const Schema& schema, const JsonValue& members, JsonValue& body) {
  if (*schema.inside != '\0') {
    body.set(schema.inside, members);
    return;
  }
  for (const JsonMember& member : members.object()) body.set(member.first, member.second);
}

// A body where the field alone decides: what it needs beside it is there.
JsonValue body_with(const Schema& schema, const FieldRow& row, const JsonValue& value) {
  JsonValue body = *parse_json(schema.body), members = JsonObject{};
  if (row.name == "top_logprobs") members.set("logprobs", true);
  if (row.name == "stream_options") members.set("stream", true);
  if (row.name.starts_with("min_")) {
    const bool lmi = schema.table.find("max_tokens") == nullptr;
    members.set(lmi ? "max_new_tokens" : "max_tokens", 4096);
  }
  members.set(row.name, value);
  add(schema, members, body);
  return body;
}

class EveryField : public testing::TestWithParam<int> {
 protected:
  const Schema& schema() const { return kSchemas[GetParam()]; }

  void accepts(const FieldRow& row, const JsonValue& value) {
    const JsonValue body = body_with(schema(), row, value);
    const auto call = schema().parser(body, model_.facts, TestModel::context());
    EXPECT_TRUE(call) << to_json(body).substr(0, 200) << ": " << call.error().message;
    if (!call) return;
    EXPECT_THAT(call->ignored_fields, testing::IsEmpty()) << row.name;
  }

  void refuses(const FieldRow& row, const JsonValue& value, ErrorKind kind) {
    const JsonValue body = body_with(schema(), row, value);
    const auto call = schema().parser(body, model_.facts, TestModel::context());
    ASSERT_FALSE(call) << to_json(body).substr(0, 200) << " was accepted";
    EXPECT_EQ(call.error().field, schema().path(row.name)) << to_json(body).substr(0, 200);
    EXPECT_EQ(call.error().kind, kind) << call.error().message;
    EXPECT_THAT(call.error().message, testing::HasSubstr(std::string(row.name)));
  }

  TestModel model_{{}};
};

TEST_P(EveryField, CO_5_NullMeansNotGiven) {
  for (const FieldRow& row : schema().table.rows) {
    if (row.required) {
      refuses(row, JsonValue(), ErrorKind::kMissingParameter);
    } else {
      accepts(row, JsonValue());
    }
  }
}

TEST_P(EveryField, CO_5_AnotherTypeIsRefused) {
  for (const FieldRow& row : schema().table.rows) {
    if (row.use != FieldUse::kUsed) continue;
    for (const std::string& wrong : wrong_types(row.type)) {
      refuses(row, *parse_json(wrong), ErrorKind::kInvalidParameter);
    }
  }
}

TEST_P(EveryField, CO_5_BoundsAreWhereTheTableSaysAndNowhereElse) {
  int bounds = 0;
  for (const FieldRow& row : schema().table.rows) {
    const double step = row.type == FieldType::kNumber || row.type == FieldType::kBias ? 0.0625 : 1;
    const double min = row.range.min, max = upper(row, model_.facts.limits);
    if (std::isfinite(min)) {
      ++bounds;
      const double least = row.range.above_min ? min + step : min;
      accepts(row, sized(row, least));
      if (least - step >= 0 || row.type == FieldType::kInteger || step < 1) {
        refuses(row, sized(row, least - step), ErrorKind::kInvalidParameter);
      }
    }
    if (std::isfinite(max)) {
      ++bounds;
      accepts(row, sized(row, max));
      refuses(row, sized(row, max + step), ErrorKind::kInvalidParameter);
    }
  }
  EXPECT_GE(bounds, schema().num_bounds);
}

TEST_P(EveryField, CO_7_WhatIsNotSupportedIsRefusedByNameWithTheWayOut) {
  int refusals = 0;
  for (const FieldRow& row : schema().table.rows) {
    if (row.use != FieldUse::kRefused) continue;
    ++refusals;
    EXPECT_FALSE(row.sentence.empty()) << row.name;
    if (!row.neutral.empty()) accepts(row, *parse_json(row.neutral));
    for (const JsonValue& asked : {JsonValue("asked"), JsonValue(12.5), JsonValue(JsonArray{1}),
                                   JsonValue(JsonObject{{"a", 1}})}) {
      refuses(row, asked, ErrorKind::kUnsupportedParameter);
    }
  }
  EXPECT_GE(refusals, schema().num_refusals);
}

TEST_P(EveryField, CO_7_WhatIsHarmlessIsAcceptedWhateverItHolds) {
  for (const FieldRow& row : schema().table.rows) {
    if (row.use != FieldUse::kNoEffect) continue;
    for (const JsonValue& value : {JsonValue("x"), JsonValue(1.5), JsonValue(JsonObject{{"a", 1}}),
                                   JsonValue(JsonArray{1}), JsonValue(true)}) {
      accepts(row, value);
    }
  }
}

TEST_P(EveryField, CO_6_OtherNamesAreIgnoredAndNamedOrRefused) {
  JsonValue body = *parse_json(schema().body);
  add(schema(), JsonObject{{"colour", "blue"}}, body);
  const auto call = schema().parser(body, model_.facts, TestModel::context());
  ASSERT_TRUE(call);
  EXPECT_THAT(call->ignored_fields, testing::ElementsAre(schema().path("colour")));
  model_.facts.strict_parameters = true;
  const auto strict = schema().parser(body, model_.facts, TestModel::context());
  ASSERT_FALSE(strict);
  EXPECT_EQ(strict.error().kind, ErrorKind::kUnknownParameter);
  EXPECT_EQ(strict.error().field, schema().path("colour"));
}

TEST_P(EveryField, ER_4_TypesComeBeforeRangesAndRangesBeforeWhatIsRefused) {
  const auto first = [&](const char* more) {
    JsonValue body = *parse_json(schema().body);
    add(schema(), *parse_json(more), body);
    return schema().parser(body, model_.facts, TestModel::context()).error().field;
  };
  if (schema().table.find("guided_json") == nullptr) return;
  EXPECT_EQ(first(R"({"guided_json":{},"top_p":9,"seed":"x"})"), schema().path("seed"));
  EXPECT_EQ(first(R"({"guided_json":{},"top_p":9})"), schema().path("top_p"));
  if (schema().table.find("stream_options") == nullptr) return;
  EXPECT_EQ(first(R"({"stream_options":{},"guided_json":{}})"), "guided_json");
  EXPECT_EQ(first(R"({"stream_options":{}})"), "stream_options");
}

INSTANTIATE_TEST_SUITE_P(OfARoute, EveryField, testing::Range(0, 6), [](const auto& which) {
  return std::string(kSchemas[which.param].table.name);
});

TEST(FieldTable, HasEachNameOnceAndASentenceForEach) {
  for (const FieldTable* table :
       {&kCompletionTable, &kChatTable, &kMessageTable, &kStreamOptionsTable, &kTokenizeTable,
        &kDetokenizeTable, &kInvocationTable, &kInvocationParametersTable, &kInvocationChatTable,
        &kInvocationChatParametersTable}) {
    std::set<std::string_view> names;
    for (const FieldRow& row : table->rows) {
      EXPECT_TRUE(names.insert(row.name).second) << row.name;
      EXPECT_TRUE(row.sentence.ends_with('.')) << row.name;
      for (const std::string_view json : {row.fallback, row.neutral}) {
        EXPECT_TRUE(json.empty() || parse_json(json)) << row.name;
      }
    }
  }
}

constexpr FieldRow kTwo[] = {{.name = "a", .type = FieldType::kInteger, .sentence = "A."},
                             {.name = "b", .type = FieldType::kText, .sentence = "B."},
                             no_effect("c", "C.")};
const FieldTable kSmall = {"Small", kTwo};

TEST(FieldTable, ARowThatNobodyReadsIsFound) {
  const JsonValue body = JsonObject{};
  const RequestLimits limits;
  Fields fields(body, "", kSmall, limits);
  fields.integer("a");
  EXPECT_THAT(fields.unread(), testing::ElementsAre("b"));
  fields.text("b");
  EXPECT_THAT(fields.unread(), testing::IsEmpty());
}

TEST(FieldTableDeathTest, AFieldWithoutARowOrWithAnotherTypeCannotBeRead) {
  const JsonValue body = JsonObject{};
  const RequestLimits limits;
  Fields fields(body, "", kSmall, limits);
  EXPECT_DEATH(fields.integer("d"), "Small has no row for the field d");
  EXPECT_DEATH(fields.integer("c"), "Small has no row for the field c");
  EXPECT_DEATH(fields.boolean("a"), "another type");
}

}  // namespace
}  // namespace tidemill

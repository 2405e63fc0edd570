// What a hostile template cannot do, and `tojson`, which can write more than it reads.
#ifndef TIDEMILL_NO_TEXT  // all of it needs the Rust library

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "base/json.h"
#include "text/chat_template.h"

namespace tidemill {
namespace {

using testing::HasSubstr;

#ifdef __SANITIZE_ADDRESS__
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif
// AddressSanitizer keeps what was freed for a while.
constexpr int64_t kFreedMib = kAddressSanitizer ? 256 : 0;

JsonValue conversation() {
  return JsonArray{JsonObject{{"role", "user"}, {"content", "hi"}, {"a", 1.5}}};
}

// Refused, while the process grows by less than `mib`.
std::string refusal_of(const char* source, int64_t mib) {
  const auto peak_kib = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  const auto before = peak_kib();
  const auto text = ChatTemplate(source, JsonObject{}).render(conversation(), {});
  EXPECT_LT((peak_kib() - before) / 1024, mib + kFreedMib) << source;
  if (text) return "it was rendered";
  EXPECT_EQ(text.error().kind, ErrorKind::kTemplateError);
  return text.error().message;
}

// "" when it was rendered, else why not.
std::string outcome(const std::string& source, const TemplateLimits& limits) {
  const auto text = ChatTemplate(source, JsonObject{}, limits).render(conversation(), {});
  return text ? "" : text.error().message;
}

TEST(TemplateLimits, C_1_TheTextMayHaveSoManyBytes) {
  for (const int more : {-1, 0, 1}) {
    const std::string source = "{{ 'x' * " + std::to_string(1000 + more) + " }}";
    EXPECT_EQ(outcome(source, {.max_output_bytes = 1000}).empty(), more <= 0) << more;
  }
  EXPECT_THAT(outcome("{{ 'x' * 1001 }}", {.max_output_bytes = 1000}),
              HasSubstr("wrote more than 1000 bytes"));
  EXPECT_EQ(outcome("{{ 'x' * 67108864 }}", {.max_output_bytes = 64 << 20}), "");
  const char* json = "{% set x = ('x' * 1000) | tojson %}";  // two bytes more
  EXPECT_EQ(outcome(json, {.max_output_bytes = 1002}), "");
  EXPECT_THAT(outcome(json, {.max_output_bytes = 1001}), HasSubstr("longer than 1001 bytes"));
}

// A turn of a loop takes the same steps whichever it is.
TEST(TemplateLimits, C_1_ATemplateMayTakeSoManySteps) {
  const auto loop = [](int turns) {
    return "{% for i in range(" + std::to_string(turns) + ") %}{{ i }}{% endfor %}";
  };
  const auto steps_of = [](const std::string& source) {
    int64_t steps = 1;
    while (!outcome(source, {.max_steps = steps}).empty() && steps < 10'000) ++steps;
    return steps;
  };
  const int64_t ten = steps_of(loop(10)), each = steps_of(loop(11)) - ten;
  EXPECT_GT(each, 0);
  const int64_t hundred = ten + 90 * each;
  EXPECT_EQ(outcome(loop(100), {.max_steps = hundred + 1}), "");
  EXPECT_EQ(outcome(loop(100), {.max_steps = hundred}), "");
  EXPECT_THAT(outcome(loop(100), {.max_steps = hundred - 1}),
              HasSubstr("took more than " + std::to_string(hundred - 1) + " steps"));
}

TEST(TemplateLimits, C_1_CallsMayBeNestedSoDeep) {
  const auto nested = [](int calls) {
    return "{% macro m(n) %}{% if n > 1 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(" +
           std::to_string(calls) + ") }}";
  };
  const auto least = [&](int calls) {
    int64_t depth = 1;
    while (!outcome(nested(calls), {.max_depth = depth}).empty() && depth < 500) ++depth;
    return depth;
  };
  const int64_t three = least(3), each = least(4) - three;  // a call and its branch
  EXPECT_GT(each, 0);
  const int64_t twenty = three + 17 * each;
  EXPECT_EQ(outcome(nested(20), {.max_depth = twenty + 1}), "");
  EXPECT_EQ(outcome(nested(20), {.max_depth = twenty}), "");
  EXPECT_NE(outcome(nested(20), {.max_depth = twenty - 1}), "");
  // At the hard maximum, and on no more stack than there is.
  const int most = static_cast<int>((500 - three) / each) + 3;
  EXPECT_EQ(outcome(nested(most), {.max_depth = 500}), "");
  EXPECT_NE(outcome(nested(most + 1), {.max_depth = 500}), "");
}

// Three times as deep as a million steps can nest.
TEST(TemplateLimits, C_1_WhatMoreStepsNestDeeperStillFitsTheStackThatDropsIt) {
  const char* nest =
      "{% set ns = namespace(x=[]) %}{% for i in range(10000) %}{% for k in range(100) %}"
      "{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}x";
  EXPECT_EQ(outcome(nest, {.max_steps = 100'000'000}), "");
  EXPECT_THAT(outcome(nest, {}), HasSubstr("steps"));
}

TEST(TemplateLimits, C_1_AStringThatDoublesWithEveryStepIsATemplateError) {
  const char* const doubling[] = {
      "{% set ns = namespace(s='x') %}{% for i in range(1000) %}{% set ns.s = ns.s ~ ns.s %}"
      "{% endfor %}{{ ns.s | length }}",
      "{% set ns = namespace(s='x') %}{% for i in range(1000) %}{% set ns.s = [ns.s, ns.s]|join %}"
      "{% endfor %}{{ ns.s | length }}",
      "{% set ns = namespace(s='x') %}{% for i in range(1000) %}"
      "{% set ns.s = ns.s | replace('x', 'xx') %}{% endfor %}{{ ns.s | length }}",
      "{% macro m(s) %}{{ m(s ~ s ~ s ~ s) }}{% endmacro %}{{ m('xxxxxxxxxxxxxxxxxx') }}",
  };
  for (const char* source : doubling) {
    EXPECT_THAT(refusal_of(source, 300), HasSubstr("bytes of memory")) << source;
  }
}

TEST(TemplateLimits, C_1_ATemplateThatAskedForTooMuchMemoryIsNotRunAgain) {
  const ChatTemplate chat(
      "{% set ns = namespace(s='x') %}{% for i in range(messages | length // 2 * 999) %}"
      "{% set ns.s = ns.s ~ ns.s %}{% endfor %}done",
      JsonObject{});
  EXPECT_EQ(*chat.render(JsonArray{}, {}), "done");
  JsonValue two = conversation();
  two.array().push_back(two.array().front());
  EXPECT_FALSE(chat.render(two, {}));
  EXPECT_FALSE(chat.render(JsonArray{}, {}));
}

// What a client sends must not take a template out of service.
TEST(TemplateLimits, ALargeConversationIsNotTakenForAHostileTemplate) {
  const ChatTemplate chat(
      "{% for m in messages %}{% set c = m.content.strip() %}{% set d = c ~ 'x' %}"
      "{% set e %}{{ d }}{% endset %}{{ (e | trim)[:4] }}{% endfor %}",
      JsonObject{});
  const JsonValue large =
      JsonArray{JsonObject{{"role", "user"}, {"content", std::string(24 << 20, 'a')}}};
  const auto text = chat.render(large, {});
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(*text, "aaaa");
}

TEST(TemplateLimits, C_1_AValueThatIsNestedWithoutEndIsATemplateError) {
  const std::string nest =
      "{% set ns = namespace(x=[]) %}{% for i in range(90000) %}{% set ns.x = [ns.x] %}"
      "{% endfor %}";
  EXPECT_THAT(refusal_of((nest + "{{ ns.x | tojson }}").c_str(), 300), HasSubstr("nested"));
  // Making and dropping it is harmless.
  EXPECT_EQ(*ChatTemplate(nest + "x", JsonObject{}).render(conversation(), {}), "x");
}

TEST(TemplateLimits, C_1_AValueThatHoldsItselfIsATemplateError) {
  if (kAddressSanitizer) GTEST_SKIP() << "such a value is never freed: LeakSanitizer would say so";
  const std::string knot = "{% set ns = namespace() %}{% set ns.x = [ns] %}";
  EXPECT_THAT(refusal_of((knot + "{{ ns | tojson }}").c_str(), 300), HasSubstr("nested"));
  for (const char* use : {"{{ ns }}", "{% set y = ns ~ 'x' %}", "{{ [ns] | join }}",
                          "{{ [ns] == [[ns]] }}{{ ns == ns.x[0] }}{{ ns }}"}) {
    EXPECT_THAT(refusal_of((knot + use).c_str(), 300), HasSubstr("memory")) << use;
  }
}

TEST(TemplateLimits, C_1_AnIndentThatFillsTheMemoryIsATemplateError) {
  for (const char* indent : {"4000000000", "17", "-1", "'                 '", "[]"}) {
    const std::string source = std::string("{{ messages | tojson(indent=") + indent + ") }}";
    EXPECT_THAT(refusal_of(source.c_str(), 100), HasSubstr("indent")) << source;
  }
}

TEST(TemplateLimits, C_1_TooMuchJsonIsATemplateError) {
  EXPECT_THAT(refusal_of("{{ (['x' * 1000000] * 1000) | tojson | length }}", 200),
              HasSubstr("longer than"));
  EXPECT_THAT(
      refusal_of("{{ range(90000) | list | tojson(separators=('x' * 1000, '')) | length }}", 200),
      HasSubstr("longer than"));
}

std::string rendered(const std::string& expression) {
  const JsonValue messages = JsonArray{
      JsonObject{{"role", "user"}, {"content", "\"é\x7f\U0001f30a\n<&>\x01"}, {"a", 1.5}}};
  const auto text = ChatTemplate("{{ " + expression + " }}", JsonObject{}).render(messages, {});
  return text ? *text : text.error().message;
}

// What Python's json.dumps(..., ensure_ascii=False) writes.
TEST(ToJson, SettingsMeanWhatTheyMeanInPython) {
  const std::string content = "\"\\\"é\x7f\U0001f30a\\n<&>\\u0001\"";
  EXPECT_EQ(rendered("messages[0] | tojson"),
            R"({"role": "user", "content": )" + content + R"(, "a": 1.5})");
  EXPECT_EQ(rendered("messages[0] | tojson(separators=(',', ':'))"),
            R"({"role":"user","content":)" + content + R"(,"a":1.5})");
  EXPECT_EQ(rendered("messages[0] | tojson(sort_keys=true)"),
            R"({"a": 1.5, "content": )" + content + R"(, "role": "user"})");
  EXPECT_EQ(rendered("messages[0].content | tojson(ensure_ascii=true)"),
            R"("\"\u00e9\u007f\ud83c\udf0a\n<&>\u0001")");
  EXPECT_EQ(rendered("{'é': 1} | tojson(ensure_ascii=true)"), R"({"\u00e9": 1})");
  EXPECT_EQ(rendered("messages[0] | tojson(ensure_ascii=false, sort_keys=false, separators=none, "
                     "indent=none)"),
            rendered("messages[0] | tojson"));
}

TEST(ToJson, IndentedJsonLooksAsPythonWritesIt) {
  EXPECT_EQ(rendered("[1, {'a': []}, {}, none, true] | tojson(indent=2)"),
            "[\n  1,\n  {\n    \"a\": []\n  },\n  {},\n  null,\n  true\n]");
  EXPECT_EQ(rendered("[1, 2] | tojson(indent=0)"), "[\n1,\n2\n]");
  EXPECT_EQ(rendered("[1, 2] | tojson(indent='\t')"), "[\n\t1,\n\t2\n]");
  EXPECT_EQ(rendered("{'a': 1, 'b': 2} | tojson(indent=1, separators=(';', '='))"),
            "{\n \"a\"=1;\n \"b\"=2\n}");
}

TEST(ToJson, WhatPythonRefusesIsATemplateError) {
  for (const char* expression : {"[1] | tojson(separators=',')", "[1] | tojson(separators=(1, 2))",
                                 "[1] | tojson(unknown=1)", "range | tojson"}) {
    const ChatTemplate chat(std::string("{{ ") + expression + " }}", JsonObject{});
    EXPECT_FALSE(chat.render(conversation(), {})) << expression;
  }
}

}  // namespace
}  // namespace tidemill

#endif

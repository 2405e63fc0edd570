#include "server/openapi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "api/error.h"
#include "api/field_table.h"
#include "server/routes.h"

namespace tidemill {
namespace {

using testing::HasSubstr;

JsonValue document() { return *parse_json(openapi_json()); }

const JsonValue& at(const JsonValue& json, std::initializer_list<const char*> path) {
  const JsonValue* value = &json;
  for (const char* name : path) {
    value = value->find(name);
    EXPECT_NE(value, nullptr) << name;
  }
  return *value;
}

// Every "$ref" inside.
void collect_references(const JsonValue& json, std::set<std::string>& out) {
  if (json.is_array()) {
    for (const JsonValue& item : json.array()) collect_references(item, out);
  } else if (json.is_object()) {
    for (const auto& [name, member] : json.object()) {
      if (name == "$ref") out.insert(member.string());
      collect_references(member, out);
    }
  }
}

TEST(OpenApi, EveryRouteIsThereWithItsMethod) {
  const JsonValue json = document();
  const JsonValue& paths = at(json, {"paths"});
  EXPECT_EQ(paths.object().size(), route_patterns().size());
  for (const RoutePattern& route : route_patterns()) {
    const JsonValue* path = paths.find(route.pattern);
    ASSERT_NE(path, nullptr) << route.pattern;
    EXPECT_NE(path->find(route.method == "POST" ? "post" : "get"), nullptr) << route.pattern;
  }
}

TEST(OpenApi, EveryPieceOfAPathThatVariesIsAParameter) {
  const JsonValue json = document();
  for (const RoutePattern& route : route_patterns()) {
    std::set<std::string> varying, described;
    std::string_view rest = route.pattern;
    for (size_t at = rest.find('{'); at != rest.npos; at = rest.find('{')) {
      rest.remove_prefix(at + 1);
      varying.emplace(rest.substr(0, rest.find('}')));
    }
    const std::string path(route.pattern);
    const char* method = route.method == "POST" ? "post" : "get";
    const JsonValue* parameters = at(json, {"paths", path.c_str(), method}).find("parameters");
    const JsonArray none;
    for (const JsonValue& parameter : parameters == nullptr ? none : parameters->array()) {
      if (parameter.find("in")->string() != "path") continue;
      described.insert(parameter.find("name")->string());
    }
    EXPECT_EQ(described, varying) << path;
  }
}

TEST(OpenApi, EveryReferenceLeadsToASchema) {
  const JsonValue json = document();
  std::set<std::string> references;
  collect_references(json, references);
  const JsonValue& schemas = at(json, {"components", "schemas"});
  for (const std::string& reference : references) {
    const std::string name = reference.substr(reference.rfind('/') + 1);
    EXPECT_NE(schemas.find(name), nullptr) << reference;
  }
  EXPECT_GT(references.size(), 15u);
}

TEST(OpenApi, EveryFieldOfATableIsAProperty) {
  const JsonValue json = document();
  for (const FieldTable* table :
       {&kCompletionTable, &kChatTable, &kTokenizeTable, &kInvocationTable,
        &kInvocationParametersTable, &kInvocationChatTable}) {
    const std::string name(table->name);
    const JsonValue& properties = at(json, {"components", "schemas", name.c_str(), "properties"});
    EXPECT_EQ(properties.object().size(), table->rows.size());
    for (const FieldRow& row : table->rows) {
      const JsonValue* property = properties.find(row.name);
      ASSERT_NE(property, nullptr) << row.name;
      EXPECT_THAT(property->find("description")->string(), HasSubstr(std::string(row.sentence)));
      EXPECT_EQ(property->find("enum") != nullptr, row.use == FieldUse::kRefused) << row.name;
    }
  }
  EXPECT_EQ(to_json(at(json, {"components", "schemas", "CompletionRequest", "properties",
                              "temperature", "anyOf"})),
            R"([{"type":"number","minimum":0,"maximum":2},{"type":"null"}])");
  EXPECT_EQ(to_json(at(json, {"components", "schemas", "CompletionRequest", "required"})),
            R"(["prompt"])");
}

// What the errors' table can answer on a route that generates is documented there.
TEST(OpenApi, EveryStatusThatAnErrorCanHaveIsDocumented) {
  const JsonValue json = document();
  for (int kind = 0; kind <= static_cast<int>(ErrorKind::kInternal); ++kind) {
    const Error error{.kind = static_cast<ErrorKind>(kind)};
    if (error.kind == ErrorKind::kMethodNotAllowed) continue;  // no operation's
    for (const auto& [path, dialect] : {std::pair("/v1/chat/completions", Dialect::kOpenAi),
                                        std::pair("/v1/completions", Dialect::kOpenAi),
                                        std::pair("/invocations", Dialect::kLmi)}) {
      const std::string status = std::to_string(error_answer(error, dialect, "").status);
      EXPECT_NE(at(json, {"paths", path, "post", "responses"}).find(status), nullptr)
          << path << " " << status;
    }
  }
}

TEST(ApiPage, HasEveryRouteAndEveryField) {
  const std::string page = api_page();
  for (const RoutePattern& route : route_patterns()) {
    EXPECT_THAT(page, HasSubstr("| `" + std::string(route.pattern) + "` |"));
  }
  for (const FieldTable* table : {&kCompletionTable, &kChatTable, &kMessageTable, &kInvocationTable,
                                  &kInvocationParametersTable, &kInvocationChatTable}) {
    for (const FieldRow& row : table->rows) {
      EXPECT_THAT(page, HasSubstr("| `" + std::string(row.name) + "` |"));
    }
  }
}

}  // namespace
}  // namespace tidemill

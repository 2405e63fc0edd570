#include "api/lmi_body.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/ascii.h"
#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

// Of a table. The model's own limit on prompts is far below; these bound what is read before it.
constexpr size_t kMaxRows = 1024;
constexpr size_t kMaxColumns = 64;

// "text/plain; charset=utf-8" is text/plain.
std::string bare_type(std::string_view content_type) {
  std::string type = ascii_lower(content_type.substr(0, content_type.find(';')));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.pop_back();
  return type;
}

bool has_other_charset(std::string_view content_type) {
  const std::string all = ascii_lower(content_type);
  const size_t at = all.find("charset=");
  if (at == std::string::npos) return false;
  std::string_view name = std::string_view(all).substr(at + 8);
  if (name.starts_with('"')) name.remove_prefix(1);
  return !name.starts_with("utf-8") && !name.starts_with("utf8") && !name.starts_with("us-ascii");
}

Error unsupported(std::string message) {
  return {.kind = ErrorKind::kUnsupportedMediaType, .field = "", .message = std::move(message)};
}

Error invalid(std::string_view field, std::string message) {
  return {.kind = ErrorKind::kInvalidParameter,
          .field = std::string(field),
          .message = std::move(message)};
}

bool is_json(const std::string& type) {
  return type.find("application/json") != std::string::npos || type == "text/json" ||
         (type.starts_with("application/") && type.ends_with("+json"));
}

// What clients send by mistake, or because they say no type. Only an object can be a request, and
// a text may well begin with "[INST]".
bool looks_like_json(std::string_view body) {
  const size_t first = body.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && body[first] == '{';
}

Result<JsonValue> read_json(std::string_view body, const JsonLimits& limits) {
  auto json = parse_json(body, limits);
  if (!json || json->is_object()) return json;
  return Error{.kind = ErrorKind::kInvalidJson,
               .field = "",
               .message = format("the body is {}; it must be a JSON object.", json->kind_name())};
}

std::optional<Error> text_problem(std::string_view text, std::string_view field) {
  const auto at = first_invalid_utf8(text);
  if (!at) return std::nullopt;
  return invalid(field, format("the text is not valid UTF-8 at byte {}.", *at));
}

Result<JsonValue> read_text(std::string_view body) {
  if (auto problem = text_problem(body, "inputs")) return std::move(*problem);
  return JsonValue(JsonObject{{"inputs", JsonArray{JsonValue(std::string(body))}}});
}

// ---- tables (RFC 4180: cells between commas, quoted where they hold one)

class CsvReader {
 public:
  explicit CsvReader(std::string_view text) : left_(text) {}

  bool done() const { return left_.empty(); }

  // The cells of the next row; nullopt when a quote is never closed, or when there are too many.
  std::optional<std::vector<std::string>> row() {
    std::vector<std::string> cells;
    for (;;) {
      auto cell = left_.starts_with('"') ? quoted() : plain();
      if (!cell || cells.size() == kMaxColumns) return std::nullopt;
      cells.push_back(std::move(*cell));
      if (!left_.starts_with(',')) break;
      left_.remove_prefix(1);
    }
    if (left_.starts_with('\r')) left_.remove_prefix(1);
    if (left_.starts_with('\n')) left_.remove_prefix(1);
    return cells;
  }

 private:
  std::optional<std::string> plain() {
    const std::string_view cell = left_.substr(0, left_.find_first_of(",\r\n"));
    left_.remove_prefix(cell.size());
    return std::string(cell);
  }

  std::optional<std::string> quoted() {
    std::string cell;
    left_.remove_prefix(1);
    for (;;) {
      const size_t quote = left_.find('"');
      if (quote == std::string_view::npos) return std::nullopt;
      cell += left_.substr(0, quote);
      left_.remove_prefix(quote + 1);
      if (!left_.starts_with('"')) break;
      cell += '"';
      left_.remove_prefix(1);
    }
    const bool ends = left_.empty() || left_.find_first_of(",\r\n") == 0;
    return ends ? std::optional(std::move(cell)) : std::nullopt;
  }

  std::string_view left_;
};

Result<JsonValue> read_table(std::string_view body) {
  if (auto problem = text_problem(body, "inputs")) return std::move(*problem);
  CsvReader reader(body);
  const auto names = reader.row().value_or(std::vector<std::string>());
  const auto column = std::find_if(names.begin(), names.end(),
                                   [](const auto& name) { return ascii_lower(name) == "inputs"; });
  if (column == names.end()) {
    return invalid("inputs",
                   "the first line of text/csv names no column inputs. Send one column with that "
                   "name, and a prompt in each line.");
  }
  const auto index = static_cast<size_t>(column - names.begin());
  JsonArray inputs;
  while (!reader.done()) {
    const auto cells = reader.row();
    const size_t row = inputs.size() + 1;
    if (!cells || cells->size() != names.size()) {
      return invalid(
          "inputs",
          format("row {} of the table has {}.", row,
                 !cells ? std::string("a quote that is not closed, or too many cells")
                        : format("{} cells, and its first line {}", cells->size(), names.size())));
    }
    if (row > kMaxRows) {
      return invalid("inputs", format("the table has more than {} rows.", kMaxRows));
    }
    inputs.emplace_back((*cells)[index]);
  }
  return JsonValue(JsonObject{{"inputs", std::move(inputs)}});
}

// ---- parts

const ContentPart* find_part(std::span<const ContentPart> parts, std::string_view name) {
  const auto found = std::find_if(parts.begin(), parts.end(),
                                  [&](const ContentPart& part) { return part.name == name; });
  return found == parts.end() ? nullptr : &*found;
}

// `curl -d TEXT` sends a field of that name and without a value.
Error no_text(std::string_view name) {
  return {.kind = ErrorKind::kEmptyPrompt,
          .field = "inputs",
          .message = format("the form's field {} has no value. Send inputs=TEXT, or JSON with "
                            "Content-Type: application/json.",
                            excerpt(name))};
}

// "inputs" as text, "parameters" as a JSON object, "stream" as true or false.
Result<JsonValue> read_named(std::span<const ContentPart> parts, const ContentPart& inputs,
                             const JsonLimits& limits) {
  if (auto problem = text_problem(inputs.value, inputs.name)) return std::move(*problem);
  JsonValue body = JsonObject{{"inputs", inputs.value}};
  if (const ContentPart* parameters = find_part(parts, "parameters")) {
    auto json = parse_json(parameters->value, limits);
    if (!json) {
      Error error = json.error();
      error.field = "parameters";
      error.message = "parameters: " + error.message;
      return error;
    }
    body.set("parameters", std::move(*json));
  }
  if (const ContentPart* stream = find_part(parts, "stream")) {
    const std::string value = ascii_lower(stream->value);
    if (value != "true" && value != "false") {
      return invalid("stream",
                     format("stream is {}; it must be true or false.", excerpt(stream->value)));
    }
    body.set("stream", value == "true");
  }
  return body;
}

}  // namespace

bool chooses_model(std::string_view name) {
  for (const std::string_view known : {"model_name", "model_version", "model_url", "adapter"}) {
    if (name == known) return true;
  }
  return false;
}

Result<JsonValue> read_lmi_body(std::string_view content_type, std::string_view body,
                                const JsonLimits& limits) {
  if (has_other_charset(content_type)) {
    return unsupported(format("the body is {}; send it in UTF-8.", excerpt(content_type)));
  }
  const std::string type = bare_type(content_type);
  if (type.empty() && body.empty()) return JsonValue(JsonObject{{"inputs", ""}});
  if (type.empty() || is_json(type) || type == "application/jsonlines")
    return read_json(body, limits);
  for (const char* kind : {"image/", "audio/", "video/", "tensor/", "application/x-npy"}) {
    if (!type.starts_with(kind)) continue;
    return unsupported(
        format("{} is not supported: this model reads text. Send Content-Type: "
               "application/json and {{\"inputs\": \"...\"}}.",
               excerpt(type)));
  }
  if (type.find("text/csv") != std::string::npos) return read_table(body);
  if (looks_like_json(body) && (type == "text/plain" || type == "application/octet-stream")) {
    return read_json(body, limits);
  }
  if (type.find("text/plain") != std::string::npos) return read_text(body);
  return unsupported(
      format("{} is not supported. Send application/json, text/plain, text/csv, or a "
             "form.",
             excerpt(type)));
}

Result<JsonValue> read_lmi_parts(std::span<const ContentPart> parts, const JsonLimits& limits) {
  if (const ContentPart* data = find_part(parts, "data")) {
    if (!data->content_type.empty()) return read_lmi_body(data->content_type, data->value, limits);
    if (looks_like_json(data->value)) return read_json(data->value, limits);
    return read_named(parts, {.name = "inputs", .value = data->value}, limits);
  }
  if (const ContentPart* inputs = find_part(parts, "inputs"))
    return read_named(parts, *inputs, limits);
  for (const ContentPart& part : parts) {
    if (chooses_model(part.name) || part.name == "parameters" || part.name == "stream") continue;
    if (part.value.empty()) return no_text(part.name);
    return read_named(parts, {.name = "inputs", .value = part.value}, limits);
  }
  return Error{.kind = ErrorKind::kMissingParameter,
               .field = "inputs",
               .message = "inputs is missing: the form has no part data or inputs."};
}

}  // namespace tidemill

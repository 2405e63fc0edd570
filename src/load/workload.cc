#include "load/workload.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>

#include "base/check.h"
#include "base/option_table.h"
#include "base/text_file.h"

namespace tidemill {
namespace {

constexpr int64_t kFirstRandomToken = 32;  // below lie the control tokens of many vocabularies

// Short common words: one token each, with the blank before it, in nearly every vocabulary.
constexpr std::string_view kWords[] = {
    "time",   "year",   "people", "way",    "day",   "man",    "thing",   "woman",
    "life",   "child",  "world",  "school", "state", "family", "hand",    "part",
    "place",  "case",   "week",   "work",   "point", "number", "group",   "problem",
    "fact",   "water",  "room",   "money",  "story", "month",  "right",   "study",
    "book",   "word",   "house",  "side",   "kind",  "head",   "service", "friend",
    "father", "power",  "hour",   "game",   "line",  "end",    "city",    "law",
    "car",    "name",   "team",   "minute", "idea",  "body",   "back",    "face",
    "level",  "office", "door",   "health", "art",   "war",    "party",   "morning"};

int64_t words_in(std::string_view text) { return static_cast<int64_t>(words_of(text).size()); }

int64_t length_around(std::mt19937_64& random, int64_t length, double ratio) {
  const auto most = static_cast<int64_t>(std::floor(static_cast<double>(length) * ratio));
  if (most == 0) return length;
  return std::max<int64_t>(
      1, std::uniform_int_distribution<int64_t>(length - most, length + most)(random));
}

std::string random_words(std::mt19937_64& random, int64_t count) {
  std::string text;
  for (int64_t i = 0; i < count; ++i) {
    if (i > 0) text += ' ';
    text += kWords[random() % std::size(kWords)];
  }
  return text;
}

JsonArray random_ids(std::mt19937_64& random, int64_t count, int64_t vocab_size) {
  JsonArray ids;
  const auto range = static_cast<uint64_t>(vocab_size - kFirstRandomToken);
  for (int64_t i = 0; i < count; ++i) {
    ids.emplace_back(kFirstRandomToken + static_cast<int64_t>(random() % range));
  }
  return ids;
}

bool is_invocations(const LoadOptions& options) { return options.endpoint == "/invocations"; }

}  // namespace

Workload::Workload(const LoadOptions& options, std::string model, uint64_t seed, double temperature)
    : options_(options), model_(std::move(model)), seed_(seed), temperature_(temperature) {
  if (options_.dataset.empty()) return;
  const std::string text = read_text_file(options_.dataset);
  std::string_view rest = text;
  for (int64_t number = 1; !rest.empty(); ++number) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = trimmed(rest.substr(0, end));
    if (!line.empty()) read_line(line, format("{}:{}", options_.dataset, number));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  if (lines_.empty()) {
    throw std::runtime_error(format("{} has no line with a prompt or a body.", options_.dataset));
  }
}

// A JSON object is a body, a JSON string or any other line a prompt.
void Workload::read_line(std::string_view line, const std::string& place) {
  LoadBody made;
  if (line.front() == '{' || line.front() == '"') {
    auto json = parse_json(line, kFileJsonLimits);
    if (!json) throw std::runtime_error(format("{}: {}", place, json.error().message));
    JsonValue body = json->is_object() ? *json : text_body(json->string());
    if (json->is_string()) made.prompt_tokens = words_in(json->string());
    finish(body);
    made.json = to_json(body);
  } else {
    JsonValue body = text_body(std::string(line));
    made.prompt_tokens = words_in(line);
    finish(body);
    made.json = to_json(body);
  }
  lines_.push_back(std::move(made));
}

LoadBody Workload::body(uint64_t index) const {
  return lines_.empty() ? random_body(index) : lines_[index % lines_.size()];
}

LoadBody Workload::random_body(uint64_t index) const {
  std::seed_seq seeds{static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32),
                      static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32)};
  std::mt19937_64 random(seeds);
  const double ratio = options_.random_range_ratio;
  const int64_t input = length_around(random, options_.random_input_len, ratio);
  const int64_t output = length_around(random, options_.random_output_len, ratio);
  JsonValue body;
  if (options_.endpoint == "/v1/completions") {
    body = JsonObject{{"prompt", random_ids(random, input, options_.random_vocab_size)},
                      {"max_tokens", output}};
  } else {
    body = text_body(random_words(random, input));
    JsonValue& limits = is_invocations(options_) ? *body.find("parameters") : body;
    limits.set(is_invocations(options_) ? "max_new_tokens" : "max_tokens", output);
  }
  finish(body);
  return {.json = to_json(body), .prompt_tokens = input};
}

JsonValue Workload::text_body(std::string prompt) const {
  if (is_invocations(options_)) {
    return JsonObject{{"inputs", std::move(prompt)},
                      {"parameters", JsonObject{{"max_new_tokens", options_.random_output_len}}}};
  }
  JsonValue body = JsonObject{};
  if (options_.endpoint == "/v1/chat/completions") {
    body.set("messages", JsonArray{JsonObject{{"role", "user"}, {"content", std::move(prompt)}}});
  } else {
    body.set("prompt", std::move(prompt));
  }
  body.set("max_tokens", options_.random_output_len);
  return body;
}

// What every body says, unless a line of the dataset says it itself.
void Workload::finish(JsonValue& body) const {
  const auto set_absent = [](JsonValue& object, const char* name, JsonValue value) {
    if (object.find(name) == nullptr) object.set(name, std::move(value));
  };
  body.set("stream", options_.stream);
  const bool inputs = body.find("inputs") != nullptr;
  if (!inputs) {
    if (!model_.empty()) set_absent(body, "model", model_);
    if (options_.stream) {
      set_absent(body, "stream_options", JsonObject{{"include_usage", true}});
    }
  }
  if (inputs) set_absent(body, "parameters", JsonObject{});
  JsonValue& fields = inputs ? *body.find("parameters") : body;
  if (!fields.is_object()) return;  // the server says what is wrong with it
  if (inputs) set_absent(fields, "details", true);
  set_absent(fields, "temperature", temperature_);
  if (options_.ignore_eos) set_absent(fields, inputs ? "ignore_eos_token" : "ignore_eos", true);
}

}  // namespace tidemill

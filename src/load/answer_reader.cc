#include "load/answer_reader.h"

#include <algorithm>

#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

constexpr size_t kMaxDocumentBytes = size_t{64} << 20;

// A member that is a string and not empty.
std::string_view text_of(const JsonValue& object, std::string_view name) {
  const JsonValue* value = object.find(name);
  return value != nullptr && value->is_string() ? value->string() : std::string_view();
}

bool has_text(const JsonValue* object) {
  if (object == nullptr) return false;
  for (const char* name : {"content", "reasoning_content", "reasoning"}) {
    if (!text_of(*object, name).empty()) return true;
  }
  const JsonValue* tools = object->find("tool_calls");
  return tools != nullptr && tools->is_array() && !tools->array().empty();
}

std::optional<int64_t> count_of(const JsonValue& object, std::string_view name) {
  const JsonValue* value = object.find(name);
  if (value == nullptr || !value->is_integer() || !value->fits_int64()) return std::nullopt;
  return value->integer();
}

std::string sentence_of(const JsonValue& record) {
  const JsonValue* error = record.find("error");
  if (error != nullptr && error->is_object()) {
    if (!text_of(*error, "message").empty()) return std::string(text_of(*error, "message"));
  }
  for (const char* name : {"error", "message", "detail"}) {
    if (!text_of(record, name).empty()) return std::string(text_of(record, name));
  }
  return "";
}

}  // namespace

std::string error_sentence(std::string_view body) {
  const auto json = parse_json(body);
  if (json) {
    const std::string sentence = sentence_of(*json);
    if (!sentence.empty()) return sentence;
  }
  return excerpt(body);
}

AnswerReader::AnswerReader(int status, std::string_view content_type) : status_(status) {
  form_ = Form::kDocument;
  if (status >= 300) return;
  if (content_type.starts_with("text/event-stream")) form_ = Form::kEvents;
  for (const char* lines : {"application/jsonlines", "application/x-ndjson", "application/jsonl",
                            "application/x-jsonlines"}) {
    if (content_type.starts_with(lines)) form_ = Form::kLines;
  }
}

void AnswerReader::fail(std::string reason) {
  if (facts_.failure.empty()) facts_.failure = std::move(reason);
}

bool AnswerReader::push(std::string_view bytes, double now) {
  switch (form_) {
    case Form::kEvents:
      for (const std::string& event : events_.push(bytes)) {
        event == "[DONE]" ? void(finished_ = true) : read_record(event, now);
      }
      if (events_.overlong()) fail("an event of the stream is longer than 16 MiB");
      break;
    case Form::kLines:
      for (const std::string& line : lines_.push(bytes)) {
        if (!line.empty()) read_record(line, now);
      }
      if (lines_.overlong()) fail("a line of the stream is longer than 16 MiB");
      break;
    case Form::kDocument:
      document_ += bytes;
      if (document_.size() > kMaxDocumentBytes) fail("the answer is longer than 64 MiB");
      break;
  }
  return facts_.failure.empty();
}

AnswerFacts AnswerReader::end() {
  if (status_ >= 300) {
    fail(format("HTTP {}: {}", status_, error_sentence(document_)));
  } else if (form_ == Form::kDocument) {
    read_record(document_, 0.0);
    facts_.pieces.clear();  // of an answer that came as one, only its end has a time
  } else if (form_ == Form::kLines) {
    const std::string rest = lines_.take_rest();
    if (!rest.empty()) fail("the last line of the stream has no end");
    // Servers of the 0.25.0 form end a stream without a word: its last chunk is the word.
    finished_ = finished_ || !facts_.pieces.empty();
  }
  if (!finished_) fail("the answer ended without a finish reason");
  if (!facts_.completion_tokens && token_lines_ > 0) facts_.completion_tokens = token_lines_;
  return std::move(facts_);
}

void AnswerReader::read_record(std::string_view text, double now) {
  const auto json = parse_json(text, kFileJsonLimits);
  if (!json) {
    fail("the answer is not JSON: " + excerpt(text));
  } else if (json->is_array()) {
    for (const JsonValue& record : json->array()) read_object(record, now);
  } else {
    read_object(*json, now);
  }
}

void AnswerReader::read_object(const JsonValue& record, double now) {
  const JsonValue* error = record.find("error");
  const bool failed = text_of(record, "finish_reason") == "error";
  if (failed || (error != nullptr && !error->is_null())) {
    const std::string sentence = sentence_of(record);
    return fail("error in the answer: " + (sentence.empty() ? "no reason given" : sentence));
  }
  if (const JsonValue* choices = record.find("choices"); choices && choices->is_array()) {
    for (const JsonValue& choice : choices->array()) read_choice(choice, now);
  }
  if (const JsonValue* token = record.find("token"); token && token->is_object()) {
    facts_.pieces.push_back(now);
    ++token_lines_;
  }
  if (const JsonValue* outputs = record.find("outputs"); outputs && outputs->is_array()) {
    facts_.pieces.push_back(now);
  }
  const JsonValue* whole = record.find("generated_text");
  if (whole != nullptr && whole->is_string()) finished_ = true;
  read_counts(record);
}

void AnswerReader::read_choice(const JsonValue& choice, double now) {
  if (!text_of(choice, "text").empty() || has_text(choice.find("delta")) ||
      has_text(choice.find("message"))) {
    facts_.pieces.push_back(now);
  }
  const std::string_view reason = text_of(choice, "finish_reason");
  if (reason == "error") fail("error in the answer: finish_reason is error");
  if (!reason.empty()) finished_ = true;
}

// A stream's counts grow: the last ones count. Those of a list of answers add up.
void AnswerReader::read_counts(const JsonValue& record) {
  if (const JsonValue* usage = record.find("usage"); usage && usage->is_object()) {
    if (const auto count = count_of(*usage, "prompt_tokens")) facts_.prompt_tokens = count;
    if (const auto count = count_of(*usage, "completion_tokens")) facts_.completion_tokens = count;
  }
  if (const JsonValue* details = record.find("details"); details && details->is_object()) {
    if (const auto count = count_of(*details, "generated_tokens")) {
      facts_.completion_tokens = facts_.completion_tokens.value_or(0) + *count;
    }
  }
}

}  // namespace tidemill

// What an answer's bytes say, whichever of our routes they come from: when text came, how many
// tokens the server counted, whether the answer was whole.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "load/event_stream.h"

namespace tidemill {

struct AnswerFacts {
  std::vector<double> pieces;  // streams: when each piece of text came, as push() was told
  // As the server counted: `usage`, `details.generated_tokens`, or one JSON line for each token.
  std::optional<int64_t> prompt_tokens;
  std::optional<int64_t> completion_tokens;
  std::string failure;  // why this is no whole answer; empty when it is
};

// One answer. push() for each piece of the body, then end().
class AnswerReader {
 public:
  // `content_type` chooses how the body is read: text/event-stream, lines of JSON, or one JSON
  // document. A status from 300 up is a failure that the body explains.
  AnswerReader(int status, std::string_view content_type);

  // Returns false when nothing more is worth reading: the failure is known.
  bool push(std::string_view bytes, double now);
  AnswerFacts end();

 private:
  enum class Form { kEvents, kLines, kDocument };

  void read_record(std::string_view text, double now);
  void read_object(const JsonValue& record, double now);
  void read_choice(const JsonValue& choice, double now);
  void read_counts(const JsonValue& record);
  void fail(std::string reason);

  const int status_;
  Form form_;
  EventStreamReader events_;
  LineReader lines_;
  std::string document_;
  bool finished_ = false;
  int64_t token_lines_ = 0;
  AnswerFacts facts_;
};

// The sentence in an error's body, as any of the known dialects spells it; an excerpt of the body
// when none does.
std::string error_sentence(std::string_view body);

}  // namespace tidemill

#include "api/lmi_0_25.h"

#include <utility>

#include "api/answer_facts.h"
#include "api/error.h"
#include "api/lmi_format.h"
#include "api/token_pieces.h"
#include "base/check.h"

namespace tidemill {
namespace {

// Names that 0.25.0 does not know are as `none`.
enum class Framing { kJson, kJsonLines, kNone };

Framing framing_of(const ModelFacts& facts) {
  if (facts.output_formatter.empty() || facts.output_formatter == "json") return Framing::kJson;
  return facts.output_formatter == "jsonlines" ? Framing::kJsonLines : Framing::kNone;
}

std::string inside_of_json_string(std::string_view text) {
  std::string quoted;
  append_json_string(&quoted, text);
  return quoted.substr(1, quoted.size() - 2);
}

class Lmi025Format : public ResponseFormat {
 public:
  Lmi025Format(Framing framing, std::string content_type, int64_t buffer, bool skip_special_tokens)
      : framing_(framing),
        content_type_(std::move(content_type)),
        buffer_(std::max<int64_t>(buffer, 1)),
        pieces_(skip_special_tokens, 0) {}

  void begin(const ResponseStream&) override {}

  std::string_view content_type() const override { return content_type_; }

  std::vector<std::string> chunks(std::span<const TextEvent> events) override {
    std::vector<std::string> chunks;
    for (const TextEvent& event : events) {
      each_token(pieces_, event, [&](const TokenPiece* piece, const Finish* finish) {
        add(piece != nullptr ? piece->visible : event.text, finish != nullptr, chunks);
      });
    }
    return chunks;
  }

  std::string chunk(std::span<const TextEvent> events) override {
    std::string bytes;
    for (const std::string& chunk : chunks(events)) bytes += chunk;
    return bytes;
  }

  std::string end(const ResponseStream&) override { return ""; }

  // What was not flushed is lost, as it was there.
  std::string stream_error(const Error& error) override { return lmi_0_25_error(error); }

  std::string whole(std::span<const TextEvent> events, const ResponseStream&) override {
    return chunk(events);
  }

 private:
  // Event n, counted from 1, flushes when n mod buffer is 1, or when it is the last. With a buffer
  // of one every event does; there the original never did, and its answers came at once.
  void add(std::string_view text, bool last, std::vector<std::string>& chunks) {
    waiting_ += spelled(text, last);
    ++num_events_;
    if (!last && buffer_ > 1 && num_events_ % buffer_ != 1) return;
    if (!waiting_.empty()) chunks.push_back(std::exchange(waiting_, {}));
  }

  std::string spelled(std::string_view text, bool last) const {
    switch (framing_) {
      case Framing::kJson:
        return (num_events_ == 0 ? "{\"generated_text\": \"" : "") + inside_of_json_string(text) +
               (last ? "\"}" : "");
      case Framing::kJsonLines:
        return "{\"outputs\": [\"" + inside_of_json_string(text) + "\"]}\n";
      case Framing::kNone:
        break;
    }
    return std::string(text);
  }

  const Framing framing_;
  const std::string content_type_;
  const int64_t buffer_;
  TokenPieces pieces_;
  int64_t num_events_ = 0;
  std::string waiting_;
};

}  // namespace

std::string lmi_0_25_content_type(const ModelFacts& facts) {
  switch (framing_of(facts)) {
    case Framing::kJson:
      return std::string(kJsonType);
    case Framing::kJsonLines:
      return std::string(kJsonLinesType);
    case Framing::kNone:
      break;
  }
  return "";
}

std::unique_ptr<ResponseFormat> make_lmi_0_25_format(const ModelFacts& facts,
                                                     bool skip_special_tokens) {
  return std::make_unique<Lmi025Format>(framing_of(facts), lmi_0_25_content_type(facts),
                                        facts.lmi.rolling_batch_buffer, skip_special_tokens);
}

bool lmi_0_25_tells_behind_200(const Error& error) {
  constexpr int kModelsSide = 424;
  return error_answer(error, Dialect::kLmi, "").status == kModelsSide;
}

// An exception inside a step has no text; a body that cannot be read has its decoder's.
std::string lmi_0_25_error(const Error& error) {
  const bool in_step = error.kind == ErrorKind::kNumericalError ||
                       error.kind == ErrorKind::kEngineError ||
                       error.kind == ErrorKind::kOutOfMemory;
  std::string text = "{\n  \"error\": ";
  append_html_safe_string(&text, in_step ? "" : error.message);
  return text + ",\n  \"code\": 424\n}";
}

}  // namespace tidemill

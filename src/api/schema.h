// The contract between the schemas of api/ and the handler of server/: JSON in, bytes out, pure
// functions. A schema's parser turns a body into an ApiCall or an Error that names the field; its
// ResponseFormat spells the answer. Neither knows sockets.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/lmi_options.h"
#include "base/json.h"
#include "base/result.h"
#include "executor/generation_request.h"
#include "executor/response_stream.h"

namespace tidemill {

// The family of a route; decides the shape of errors and the status of some kinds.
enum class Dialect { kOpenAi, kLmi, kPlain };

// What a parser may know about the model it parses for.
struct ModelFacts {
  std::string name;                       // the name the answer carries when the client gave none
  std::vector<std::string> served_names;  // every name the model answers to, canonical first
  std::string root;                       // model id or folder name as configured
  RequestLimits limits;
  JsonValue generation_defaults;  // of generation_config.json; used by /v1 only
  std::string system_fingerprint;
  JsonValue special_tokens;                  // names to spellings, as the checkpoint gives them
  std::optional<std::string> chat_template;  // its source
  std::string output_formatter;              // option.output_formatter; empty: `stream` decides
  bool strict_parameters = false;            // unknown fields are refused
  bool template_takes_parts = false;    // content that is a list of parts reaches the template so
  bool template_has_developer = false;  // the template knows the role; else it is the system's
  LmiOptions lmi;
};

// What the HTTP side knows about the request.
struct RequestContext {
  std::string unique_id;  // a UUID; the answer's id is made from it
  int64_t created = 0;    // Unix seconds
};

// How one answer is spelled. Made by the parser; used by one thread at a time.
class ResponseFormat {
 public:
  virtual ~ResponseFormat() = default;

  // Called once, before anything else, when the request was admitted. The stream stays where it is
  // for as long as the format is used.
  virtual void begin(const ResponseStream& stream) = 0;

  virtual std::string_view content_type() const = 0;  // of the streamed or the whole answer
  // Streamed answers: the bytes of these events (may be empty), then of the end.
  virtual std::string chunk(std::span<const TextEvent> events) = 0;
  // The same, cut where chunks of HTTP end, for dialects whose clients see those.
  virtual std::vector<std::string> chunks(std::span<const TextEvent> events) {
    return {chunk(events)};
  }
  virtual std::string end(const ResponseStream& stream) = 0;
  // An error after the head is out: one record in the dialect's form, and the end marker.
  virtual std::string stream_error(const Error& error) = 0;
  // Whole answers: all events, collected.
  virtual std::string whole(std::span<const TextEvent> events, const ResponseStream& stream) = 0;
};

struct ApiCall {
  GenerationRequest request;
  bool stream = false;
  std::unique_ptr<ResponseFormat> format;
  std::vector<std::string> ignored_fields;  // unknown names, for x-ignored-parameters
};

// The parsers; one file each.
Result<ApiCall> parse_openai_completion(const JsonValue& body, const ModelFacts& facts,
                                        const RequestContext& context);
Result<ApiCall> parse_openai_chat(const JsonValue& body, const ModelFacts& facts,
                                  const RequestContext& context);
Result<ApiCall> parse_lmi_invocation(const JsonValue& body, const ModelFacts& facts,
                                     const RequestContext& context);

// The model a body names, before its parser runs: empty when it names none ("", "dummy", "tgi"
// included).
Result<std::string> requested_model(const JsonValue& body);

// GET /v1/models and /v1/models/{id}.
struct ModelListing {
  std::string id;
  int64_t created = 0;
  std::string root;
  int64_t max_model_len = 0;
  std::string_view status = "";  // "loading" or "failed"; empty when it can answer
};
std::string model_list_json(std::span<const ModelListing> models);
std::string model_json(const ModelListing& model);

}  // namespace tidemill

// A checkpoint's chat template, rendered as `transformers` renders it: minijinja with the Python
// methods, bounded in steps, depth and output. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/token_id.h"
#include "text/tokenizer.h"

namespace tidemill {

struct ChatTemplateOptions {
  bool add_generation_prompt = true;
  bool continue_final_message = false;  // the prompt ends right after the last message's text
  JsonValue kwargs;                     // object or null: further variables for the template
};

// What rendering one conversation may take. Whoever needs more is refused.
struct TemplateLimits {
  int64_t max_steps = 1'000'000;  // instructions of the template engine
  int64_t max_depth = 100;        // of macros that call macros; 500 at most
  int64_t max_output_bytes = 16 << 20;
};

class ChatTemplate {
 public:
  // `special_tokens` is an object of names to spellings ("bos_token": "<s>", ...). Throws
  // std::runtime_error when the template does not compile.
  ChatTemplate(std::string_view source, const JsonValue& special_tokens,
               const TemplateLimits& limits = {});
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;

  // `messages` is an array of {"role", "content", ...}. kTemplateError when the template refuses
  // them (its own message, at most 256 bytes) or exceeds its budget.
  Result<std::string> render(const JsonValue& messages, const ChatTemplateOptions& options) const;

  // Renders and encodes. Control tokens of the template become their ids; those spelled inside the
  // messages are plain text. No special tokens are added: the template wrote them.
  Result<std::vector<TokenId>> encode(const Tokenizer& tokenizer, const JsonValue& messages,
                                      const ChatTemplateOptions& options) const;

  // Messages whose content is a list of parts may be handed over as they are; otherwise the parts'
  // texts are joined first. Found by rendering a probe.
  bool iterates_over_content() const;
  // Does its text know the role `developer`?
  bool mentions_developer() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tidemill

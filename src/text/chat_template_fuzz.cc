// Chat templates: the input is a template, then a NUL and messages as JSON. It is refused with a
// reason, or it writes valid UTF-8 within its bounds. The engine is in Rust and not instrumented:
// what is found here are panics, hangs and memory.
#include <stdexcept>

#include "base/fuzz_target.h"
#include "base/utf8.h"
#include "text/chat_template.h"
#include "text/test_tokenizers.h"

namespace tidemill {
namespace {

constexpr size_t kMaxOutput = 16 << 20;
constexpr const char* kMessages =
    R"([{"role":"system","content":"be brief"},{"role":"user","content":"a <|end|> \u00e9"}])";

template <typename T>
void check_error(const Result<T>& result) {
  if (result) return;
  CHECK(!first_invalid_utf8(result.error().message) && result.error().message.size() < 512,
        "no message to send");
}

}  // namespace

void fuzz_one(std::string_view input) {
  static const Tokenizer tokenizer(byte_tokenizer());
  FuzzInput in(input);
  const std::string_view source = in.until('\0');
  const auto given = parse_json(in.rest());
  JsonValue messages = *parse_json(kMessages);
  if (given && given->is_array() && !given->array().empty()) messages = *given;
  try {
    const ChatTemplate chat(source, JsonObject{{"bos_token", "<s>"}, {"eos_token", "<|end|>"}});
    for (const bool next : {false, true}) {
      const ChatTemplateOptions options{.add_generation_prompt = next,
                                        .continue_final_message = !next};
      const auto text = chat.render(messages, options);
      check_error(text);
      if (text) CHECK(!first_invalid_utf8(*text) && text->size() <= kMaxOutput, "no such output");
      if (text && text->size() < 65536) check_error(chat.encode(tokenizer, messages, options));
    }
  } catch (const std::runtime_error& error) {
    CHECK(std::string_view(error.what()).size() > 10, "no reason: {}", error.what());
  }
}

std::vector<std::string> fuzz_seeds() {
  const std::string chat_ml =
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m['content'] }}<|im_end|>\n"
      "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  return {
      chat_ml,
      chat_ml + std::string("\0", 1) +
          R"([{"role":"user","content":[{"type":"text","text":"x"}]}])",
      "{{ bos_token }}{% set ns = namespace(n=0) %}{% for m in messages if m.role != 'x' %}"
      "{% set ns.n = ns.n + 1 %}{{ loop.index0 }}{{ m.content | trim | tojson }}{% endfor %}",
      "{% macro f(x) %}{{ x.split(' ')[-1].upper() }}{% endmacro %}{{ f(messages[0].content) }}",
      "{{ raise_exception('no') }}",
      "{{ strftime_now('%Y') }}{{ 'a' ~ 1 }}",
      "{%- if messages[0]['role'] is defined and tools is none -%}x{%- endif -%}",
      "{% generation %}x{% endgeneration %}{# c #}{{ messages[::-1] }}"};
}

}  // namespace tidemill

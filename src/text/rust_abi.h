// The C interface of the Rust library (rust/src), and owning wrappers of what crosses it. Private
// to text/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tidemill::rust {

struct Text {
  const char* data;
  size_t size;
};
struct Bytes {
  unsigned char* data;
  size_t size;
};
// What a render may take: instructions, calls inside calls, bytes of text.
struct TemplateLimits {
  uint64_t steps;
  uint64_t depth;
  uint64_t output_bytes;
};
struct TokenizerHandle;
struct TemplateHandle;

extern "C" {
void tidemill_bytes_free(Bytes bytes);

// Null on failure; `error` then holds the reason.
TokenizerHandle* tidemill_tokenizer_new(Text json, Bytes* error);
void tidemill_tokenizer_free(TokenizerHandle* handle);
// True with the result, false with the reason in `out`.
bool tidemill_tokenizer_encode(const TokenizerHandle* handle, Text text, bool add_special_tokens,
                               bool parse_control_tokens, Bytes* out);
bool tidemill_tokenizer_decode(const TokenizerHandle* handle, const uint32_t* ids, size_t count,
                               bool skip_special_tokens, Bytes* out);
bool tidemill_tokenizer_piece(const TokenizerHandle* handle, uint32_t id, Bytes* out);
int64_t tidemill_tokenizer_find(const TokenizerHandle* handle, Text piece);
uint32_t tidemill_tokenizer_size(const TokenizerHandle* handle);
bool tidemill_tokenizer_describe(const TokenizerHandle* handle, Bytes* out);

TemplateHandle* tidemill_template_new(Text source, TemplateLimits limits, Bytes* error);
void tidemill_template_free(TemplateHandle* handle);
bool tidemill_template_render(const TemplateHandle* handle, Text variables, Bytes* out);
}

inline Text text(std::string_view view) { return {view.data(), view.size()}; }

#ifdef __SANITIZE_THREAD__
// Of libtsan; GCC declares them nowhere.
extern "C" void AnnotateIgnoreReadsBegin(const char* file, int line);
extern "C" void AnnotateIgnoreReadsEnd(const char* file, int line);
extern "C" void AnnotateIgnoreWritesBegin(const char* file, int line);
extern "C" void AnnotateIgnoreWritesEnd(const char* file, int line);
#endif

// Every call of the library goes through here: call(tidemill_tokenizer_find, handle, text). The
// library is not instrumented, so ThreadSanitizer would see the memory that it allocates and
// compares and none of the locks that guard it; for the time of a call it looks away.
template <typename Function, typename... Arguments>
auto call(Function function, Arguments... arguments) {
#ifdef __SANITIZE_THREAD__
  struct LookAway {
    LookAway() {
      AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
      AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    }
    ~LookAway() {
      AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
      AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    }
  } look_away;
#endif
  return function(arguments...);
}

// Bytes that a call gives; freed with this object. Pass out() once.
class Answer {
 public:
  Answer() = default;
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;
  ~Answer() { call(tidemill_bytes_free, bytes_); }

  Bytes* out() { return &bytes_; }
  std::string_view view() const {
    return {reinterpret_cast<const char*>(bytes_.data), bytes_.size};
  }
  std::string string() const { return std::string(view()); }

 private:
  Bytes bytes_{nullptr, 0};
};

}  // namespace tidemill::rust

// Text to tokens and back, as the reference implementation does it: a tokenizer.json, run by the
// Rust library behind a small C ABI. Thread-safe: one Tokenizer serves all threads of the text
// pool.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/token_id.h"

namespace tidemill {

struct EncodeOptions {
  bool add_special_tokens = true;  // what the post-processor adds: begin of sequence, ...
  // Control tokens spelled in the text become their ids; otherwise only their marks do.
  bool parse_control_tokens = true;
};

// A special token. Its mark stands for it in a text whose author may spell control tokens without
// meaning them; marks hold kMarkBorder, a noncharacter, which must not stand elsewhere in the text.
inline constexpr std::string_view kMarkBorder = "\U0010ffff";
struct ControlToken {
  std::string spelling;
  std::string mark;
};

// How ids become text.
enum class Decoding {
  kBytes,           // their bytes one behind the other
  kBytesLessBlank,  // the same, and a blank in front of all of it goes
  kTogether,        // neighbours decide: only decode() knows
};

class Tokenizer {
 public:
  // Throws std::runtime_error with the reason when the file cannot be read as a tokenizer.
  explicit Tokenizer(std::string_view tokenizer_json);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;

  // kInvalidParameter when the text is not valid UTF-8 or the library refuses it.
  Result<std::vector<TokenId>> encode(std::string_view text, const EncodeOptions& options) const;
  // Always valid UTF-8; an id outside the vocabulary decodes to nothing. Of bytes that are no UTF-8
  // the library makes U+FFFD, and of a run of byte tokens (<0x41>) that holds such bytes, nothing
  // else.
  std::string decode(std::span<const TokenId> ids, bool skip_special_tokens) const;

  Decoding decoding() const;
  // What an id adds to a text, unless decoding() is kTogether; nothing outside the vocabulary.
  std::string_view decoded_bytes(TokenId id) const;

  // The raw bytes of one token (a byte-level piece may be part of a character); nullopt outside the
  // vocabulary. Special tokens give their spelling.
  std::optional<std::string> token_bytes(TokenId id) const;
  bool is_special(TokenId id) const;
  std::optional<TokenId> find(std::string_view token) const;
  int32_t vocab_size() const;  // with added tokens

  // What parse_control_tokens acts on.
  const std::vector<ControlToken>& control_tokens() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tidemill

#include "text/tokenizer.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <stdexcept>
#include <unordered_map>

#include "base/check.h"
#include "base/json.h"
#include "base/utf8.h"
#include "text/rust_abi.h"

namespace tidemill {
namespace {

constexpr std::string_view kSpace = "\u2581";  // what SentencePiece writes for a blank

// Byte-level vocabularies spell every byte as a printable character: printable Latin-1 as itself,
// the rest from U+0100 on in order (GPT-2's table). This is the way back.
std::unordered_map<std::string, char> byte_level_alphabet() {
  std::unordered_map<std::string, char> bytes;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool itself = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) ||
                        (byte >= 0xae && byte <= 0xff);
    std::string character;
    append_utf8(&character, itself ? byte : next++);
    bytes.emplace(std::move(character), static_cast<char>(byte));
  }
  return bytes;
}

size_t character_length(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

std::string bytes_of_byte_level(std::string_view piece) {
  static const auto alphabet = byte_level_alphabet();
  std::string out;
  for (size_t i = 0; i < piece.size();) {
    const std::string character(piece.substr(i, character_length(piece[i])));
    const auto found = alphabet.find(character);
    if (found == alphabet.end()) return std::string(piece);  // not of this alphabet: text as it is
    out += found->second;
    i += character.size();
  }
  return out;
}

// "<0x0A>" is one byte; otherwise U+2581 is a blank.
std::string bytes_of_sentencepiece(std::string_view piece) {
  if (piece.size() == 6 && piece.starts_with("<0x") && piece.ends_with(">")) {
    unsigned byte = 0;
    const auto [end, error] = std::from_chars(piece.data() + 3, piece.data() + 5, byte, 16);
    if (error == std::errc() && end == piece.data() + 5) {
      return std::string(1, static_cast<char>(byte));
    }
  }
  std::string out;
  while (!piece.empty()) {
    const size_t space = std::min(piece.find(kSpace), piece.size());
    out += piece.substr(0, space);
    piece.remove_prefix(space);
    if (!piece.empty()) {
      out += ' ';
      piece.remove_prefix(kSpace.size());
    }
  }
  return out;
}

// Is there a {"type": name} anywhere in it?
bool mentions_type(const JsonValue& value, std::string_view name) {
  if (value.is_array()) {
    return std::any_of(value.array().begin(), value.array().end(),
                       [&](const JsonValue& item) { return mentions_type(item, name); });
  }
  if (!value.is_object()) return false;
  if (const JsonValue* type = value.find("type")) {
    if (type->is_string() && type->string() == name) return true;
  }
  return std::any_of(value.object().begin(), value.object().end(),
                     [&](const JsonMember& member) { return mentions_type(member.second, name); });
}

}  // namespace

struct Tokenizer::State {
  rust::TokenizerHandle* handle = nullptr;
  bool byte_level = false;
  int32_t size = 0;
  std::unordered_map<TokenId, bool> added;  // id to "is special"
  std::vector<ControlToken> control_tokens;

  ~State() {
    if (handle != nullptr) rust::tidemill_tokenizer_free(handle);
  }

  void describe() {
    rust::Answer answer;
    CHECK(rust::tidemill_tokenizer_describe(handle, answer.out()), "a tokenizer that is open");
    const auto description = parse_json(answer.view(), kFileJsonLimits);
    CHECK(description.has_value(), "the text library's own JSON");
    byte_level = mentions_type(*description->find("decoder"), "ByteLevel");
    for (const JsonValue& id : description->find("added")->array()) {
      added.emplace(static_cast<TokenId>(id.integer()), false);
    }
    for (const JsonValue& token : description->find("control")->array()) {
      added[static_cast<TokenId>(token.find("id")->integer())] = true;
      control_tokens.push_back(
          {.spelling = token.find("spelling")->string(), .mark = token.find("mark")->string()});
    }
    size = static_cast<int32_t>(rust::tidemill_tokenizer_size(handle));
  }
};

Tokenizer::Tokenizer(std::string_view tokenizer_json) : state_(std::make_unique<State>()) {
  rust::Answer error;
  state_->handle = rust::tidemill_tokenizer_new(rust::text(tokenizer_json), error.out());
  if (state_->handle == nullptr) {
    throw std::runtime_error(format("tokenizer.json cannot be read: {}.", error.view()));
  }
  state_->describe();
}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;

Result<std::vector<TokenId>> Tokenizer::encode(std::string_view text,
                                               const EncodeOptions& options) const {
  rust::Answer answer;
  if (!rust::tidemill_tokenizer_encode(state_->handle, rust::text(text), options.add_special_tokens,
                                       options.parse_control_tokens, answer.out())) {
    return Error{.kind = ErrorKind::kInvalidParameter,
                 .field = "",
                 .message = format("the text cannot be tokenised: {}", answer.view())};
  }
  std::vector<TokenId> ids(answer.view().size() / sizeof(TokenId));
  if (!ids.empty()) std::memcpy(ids.data(), answer.view().data(), ids.size() * sizeof(TokenId));
  return ids;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  std::vector<uint32_t> known;
  for (const TokenId id : ids) {
    if (id >= 0 && id < state_->size) known.push_back(static_cast<uint32_t>(id));
  }
  rust::Answer answer;
  const bool decoded = rust::tidemill_tokenizer_decode(state_->handle, known.data(), known.size(),
                                                       skip_special_tokens, answer.out());
  // A decoder that fails on ids of its own vocabulary has no text for them.
  return decoded ? answer.string() : std::string();
}

std::optional<std::string> Tokenizer::token_bytes(TokenId id) const {
  if (id < 0) return std::nullopt;
  rust::Answer piece;
  if (!rust::tidemill_tokenizer_piece(state_->handle, static_cast<uint32_t>(id), piece.out())) {
    return std::nullopt;
  }
  if (state_->added.contains(id)) return piece.string();
  return state_->byte_level ? bytes_of_byte_level(piece.view())
                            : bytes_of_sentencepiece(piece.view());
}

bool Tokenizer::is_special(TokenId id) const {
  const auto found = state_->added.find(id);
  return found != state_->added.end() && found->second;
}

std::optional<TokenId> Tokenizer::find(std::string_view token) const {
  const int64_t id = rust::tidemill_tokenizer_find(state_->handle, rust::text(token));
  if (id < 0) return std::nullopt;
  return static_cast<TokenId>(id);
}

int32_t Tokenizer::vocab_size() const { return state_->size; }

const std::vector<ControlToken>& Tokenizer::control_tokens() const {
  return state_->control_tokens;
}

}  // namespace tidemill

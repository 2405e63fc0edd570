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

// A file may number its tokens as it likes; beyond this many no table is made of them.
constexpr int32_t kMaxTabledIds = 1 << 22;

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

bool has_type(const JsonValue& value, std::string_view name) {
  const JsonValue* type = value.is_object() ? value.find("type") : nullptr;
  return type != nullptr && type->is_string() && type->string() == name;
}

// SentencePiece's own steps, as checkpoints write them; nothing when there is any other.
std::optional<Decoding> decoding_of_steps(const JsonArray& steps) {
  const auto is = [&](size_t i, std::string_view name) {
    return i < steps.size() && has_type(steps[i], name);
  };
  const auto says = [](const JsonValue& step, const char* key, const JsonValue& value) {
    const JsonValue* found = step.find(key);
    return found != nullptr && to_json(*found) == to_json(value);
  };
  if (!is(0, "Replace") || !is(1, "ByteFallback") || !is(2, "Fuse")) return std::nullopt;
  if (!says(steps[0], "pattern", JsonObject{{"String", std::string(kSpace)}}) ||
      !says(steps[0], "content", " ")) {
    return std::nullopt;
  }
  if (steps.size() == 3) return Decoding::kBytes;
  const bool one_blank = steps.size() == 4 && is(3, "Strip") && says(steps[3], "content", " ") &&
                         says(steps[3], "start", 1) && says(steps[3], "stop", 0);
  if (!one_blank) return std::nullopt;
  return Decoding::kBytesLessBlank;
}

Decoding decoding_of(const JsonValue& decoder) {
  if (has_type(decoder, "ByteLevel")) return Decoding::kBytes;
  const JsonValue* steps = has_type(decoder, "Sequence") ? decoder.find("decoders") : nullptr;
  if (steps == nullptr || !steps->is_array()) return Decoding::kTogether;
  return decoding_of_steps(steps->array()).value_or(Decoding::kTogether);
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
  Decoding decoding = Decoding::kTogether;
  std::string all_bytes;  // unless kTogether: what each id adds to a text, one behind the other
  std::vector<uint32_t> byte_begins;        // size + 1
  std::unordered_map<TokenId, bool> added;  // id to "is special"
  std::vector<ControlToken> control_tokens;

  ~State() {
    if (handle != nullptr) rust::call(rust::tidemill_tokenizer_free, handle);
  }

  void describe() {
    rust::Answer answer;
    CHECK(rust::call(rust::tidemill_tokenizer_describe, handle, answer.out()),
          "a tokenizer that is open");
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
    size = static_cast<int32_t>(rust::call(rust::tidemill_tokenizer_size, handle));
    decoding = decoding_of(*description->find("decoder"));
    if (size > kMaxTabledIds) decoding = Decoding::kTogether;
    if (decoding != Decoding::kTogether) tabulate();
  }

  std::string bytes_of(std::string_view piece) const {
    return byte_level ? bytes_of_byte_level(piece) : bytes_of_sentencepiece(piece);
  }

  void tabulate() {
    byte_begins.reserve(static_cast<size_t>(size) + 1);
    for (int32_t id = 0; id < size; ++id) {
      byte_begins.push_back(static_cast<uint32_t>(all_bytes.size()));
      rust::Answer piece;
      const bool known = rust::call(rust::tidemill_tokenizer_piece, handle,
                                    static_cast<uint32_t>(id), piece.out());
      if (known) all_bytes += bytes_of(piece.view());
    }
    byte_begins.push_back(static_cast<uint32_t>(all_bytes.size()));
  }
};

Tokenizer::Tokenizer(std::string_view tokenizer_json) : state_(std::make_unique<State>()) {
  rust::Answer error;
  state_->handle =
      rust::call(rust::tidemill_tokenizer_new, rust::text(tokenizer_json), error.out());
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
  if (!rust::call(rust::tidemill_tokenizer_encode, state_->handle, rust::text(text),
                  options.add_special_tokens, options.parse_control_tokens, answer.out())) {
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
  const bool decoded = rust::call(rust::tidemill_tokenizer_decode, state_->handle, known.data(),
                                  known.size(), skip_special_tokens, answer.out());
  // A decoder that fails on ids of its own vocabulary has no text for them.
  return decoded ? answer.string() : std::string();
}

std::optional<std::string> Tokenizer::token_bytes(TokenId id) const {
  if (id < 0) return std::nullopt;
  const bool added = state_->added.contains(id);
  if (!added && state_->decoding != Decoding::kTogether) {  // the same; for every token generated
    const std::string_view bytes = decoded_bytes(id);
    if (!bytes.empty()) return std::string(bytes);
  }
  rust::Answer piece;
  if (!rust::call(rust::tidemill_tokenizer_piece, state_->handle, static_cast<uint32_t>(id),
                  piece.out())) {
    return std::nullopt;
  }
  if (added) return piece.string();
  return state_->bytes_of(piece.view());
}

Decoding Tokenizer::decoding() const { return state_->decoding; }

std::string_view Tokenizer::decoded_bytes(TokenId id) const {
  if (id < 0 || id >= state_->size) return {};
  const auto begin = state_->byte_begins[static_cast<size_t>(id)];
  return std::string_view(state_->all_bytes)
      .substr(begin, state_->byte_begins[static_cast<size_t>(id) + 1] - begin);
}

bool Tokenizer::is_special(TokenId id) const {
  const auto found = state_->added.find(id);
  return found != state_->added.end() && found->second;
}

std::optional<TokenId> Tokenizer::find(std::string_view token) const {
  const int64_t id = rust::call(rust::tidemill_tokenizer_find, state_->handle, rust::text(token));
  if (id < 0) return std::nullopt;
  return static_cast<TokenId>(id);
}

int32_t Tokenizer::vocab_size() const { return state_->size; }

const std::vector<ControlToken>& Tokenizer::control_tokens() const {
  return state_->control_tokens;
}

}  // namespace tidemill

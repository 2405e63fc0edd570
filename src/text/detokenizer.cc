#include "text/detokenizer.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"

namespace tidemill {
namespace {

constexpr std::string_view kReplacement = "\ufffd";  // what decoding gives for half a character

// Ids decoded together at most while no character is finished: longer runs of broken bytes are
// released as they are.
constexpr size_t kMaxHeldIds = 16;

// What `now` adds to `before`. Decoders may change earlier characters when broken bytes follow them
// (a run of byte tokens is one string or none); what was shown stays shown, so as many characters
// as were shown are skipped.
std::string added_text(std::string_view before, std::string_view now) {
  if (now.starts_with(before)) return std::string(now.substr(before.size()));
  size_t shown = count_code_points(before);
  size_t begin = 0;
  while (begin < now.size() && shown > 0) {
    ++begin;
    while (begin < now.size() && (static_cast<unsigned char>(now[begin]) & 0xc0) == 0x80) ++begin;
    --shown;
  }
  return std::string(now.substr(begin));
}

}  // namespace

Detokenizer::Detokenizer(const Tokenizer* tokenizer, bool skip_special_tokens,
                         std::vector<TokenId> context)
    : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {
  if (skip_special_tokens) {
    std::erase_if(context, [&](TokenId id) { return tokenizer->is_special(id); });
  }
  if (tokenizer->decoding() == Decoding::kTogether) {
    ids_ = std::move(context);
    read_begin_ = ids_.size();
    return;
  }
  const bool continues = std::any_of(context.begin(), context.end(), [&](TokenId id) {
    return !tokenizer->decoded_bytes(id).empty();
  });
  drops_blank_ = tokenizer->decoding() == Decoding::kBytesLessBlank && !continues;
}

std::string Detokenizer::push(TokenId id) {
  if (skip_special_tokens_ && tokenizer_->is_special(id)) return "";
  if (tokenizer_->decoding() == Decoding::kTogether) return push_together(id);
  return push_bytes(tokenizer_->decoded_bytes(id));
}

std::string Detokenizer::push_bytes(std::string_view bytes) {
  if (bytes.empty()) return "";
  if (std::exchange(drops_blank_, false) && bytes.front() == ' ') bytes.remove_prefix(1);
  held_ += bytes;
  const size_t num_whole = held_.size() - unfinished_bytes(held_);
  std::string text = lossy_utf8(std::string_view(held_).substr(0, num_whole));
  held_.erase(0, num_whole);
  return text;
}

// The text of ids_[prefix_begin_..] minus the text of ids_[prefix_begin_..read_begin_): decoding a
// token alone would lose what its neighbours decide (leading blanks, joined bytes).
std::string Detokenizer::push_together(TokenId id) {
  ids_.push_back(id);
  const std::span<const TokenId> all = std::span(ids_).subspan(prefix_begin_);
  const std::string before = tokenizer_->decode(all.first(read_begin_ - prefix_begin_), false);
  const std::string now = tokenizer_->decode(all, false);
  const bool unfinished = now.ends_with(kReplacement) && ids_.size() - read_begin_ < kMaxHeldIds;
  if (unfinished) return "";
  std::string added = added_text(before, now);
  if (added.empty()) return "";
  prefix_begin_ = read_begin_;
  read_begin_ = ids_.size();
  return added;
}

std::string Detokenizer::finish() {
  if (tokenizer_->decoding() != Decoding::kTogether) return lossy_utf8(std::exchange(held_, {}));
  const std::span<const TokenId> all = std::span(ids_).subspan(prefix_begin_);
  const std::string before = tokenizer_->decode(all.first(read_begin_ - prefix_begin_), false);
  const std::string now = tokenizer_->decode(all, false);
  prefix_begin_ = read_begin_ = ids_.size();
  return added_text(before, now);
}

}  // namespace tidemill

#include "text/detokenizer.h"

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
    : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens), ids_(std::move(context)) {
  read_begin_ = ids_.size();
}

// The text of ids_[prefix_begin_..] minus the text of ids_[prefix_begin_..read_begin_): decoding a
// token alone would lose what its neighbours decide (leading blanks, joined bytes).
std::string Detokenizer::push(TokenId id) {
  ids_.push_back(id);
  const std::span<const TokenId> all = std::span(ids_).subspan(prefix_begin_);
  const std::string before =
      tokenizer_->decode(all.first(read_begin_ - prefix_begin_), skip_special_tokens_);
  const std::string now = tokenizer_->decode(all, skip_special_tokens_);
  const bool unfinished = now.ends_with(kReplacement) && ids_.size() - read_begin_ < kMaxHeldIds;
  if (unfinished) return "";
  std::string added = added_text(before, now);
  if (added.empty()) return "";
  prefix_begin_ = read_begin_;
  read_begin_ = ids_.size();
  return added;
}

std::string Detokenizer::finish() {
  const std::span<const TokenId> all = std::span(ids_).subspan(prefix_begin_);
  const std::string before =
      tokenizer_->decode(all.first(read_begin_ - prefix_begin_), skip_special_tokens_);
  const std::string now = tokenizer_->decode(all, skip_special_tokens_);
  prefix_begin_ = read_begin_ = ids_.size();
  return added_text(before, now);
}

}  // namespace tidemill

// Stands in for the Rust library in a build with TIDEMILL_TEXT=OFF: nothing can be constructed, and
// the reason names the option.
#ifdef TIDEMILL_NO_TEXT

#include <cstring>

#include "text/rust_abi.h"

namespace tidemill::rust {
namespace {

constexpr std::string_view kReason =
    "this program was built with TIDEMILL_TEXT=OFF and serves token-id prompts only; build it with "
    "TIDEMILL_TEXT=ON";

bool refuse(Bytes* out) {
  out->data = new unsigned char[kReason.size()];
  out->size = kReason.size();
  std::memcpy(out->data, kReason.data(), kReason.size());
  return false;
}

}  // namespace

void tidemill_bytes_free(Bytes bytes) { delete[] bytes.data; }
TokenizerHandle* tidemill_tokenizer_new(Text, Bytes* error) {
  refuse(error);
  return nullptr;
}
void tidemill_tokenizer_free(TokenizerHandle*) {}
bool tidemill_tokenizer_encode(const TokenizerHandle*, Text, bool, bool, Bytes* out) {
  return refuse(out);
}
bool tidemill_tokenizer_decode(const TokenizerHandle*, const uint32_t*, size_t, bool, Bytes* out) {
  return refuse(out);
}
bool tidemill_tokenizer_piece(const TokenizerHandle*, uint32_t, Bytes* out) { return refuse(out); }
int64_t tidemill_tokenizer_find(const TokenizerHandle*, Text) { return -1; }
uint32_t tidemill_tokenizer_size(const TokenizerHandle*) { return 0; }
bool tidemill_tokenizer_describe(const TokenizerHandle*, Bytes* out) { return refuse(out); }
TemplateHandle* tidemill_template_new(Text, TemplateLimits, Bytes* error) {
  refuse(error);
  return nullptr;
}
void tidemill_template_free(TemplateHandle*) {}
bool tidemill_template_render(const TemplateHandle*, Text, Bytes* out) { return refuse(out); }

}  // namespace tidemill::rust

#endif

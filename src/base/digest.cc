#include "base/digest.h"

#include <openssl/evp.h>

#include <array>

#include "base/check.h"
#include "base/mapped_file.h"

namespace tidemill {

struct Sha256::Context {
  EVP_MD_CTX* md = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(md); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  CHECK(EVP_DigestInit_ex(context_->md, EVP_sha256(), nullptr) == 1, "SHA-256 is not available");
}
Sha256::~Sha256() = default;

void Sha256::add(std::span<const std::byte> bytes) {
  EVP_DigestUpdate(context_->md, bytes.data(), bytes.size());
}

void Sha256::add(std::string_view text) { add(std::as_bytes(std::span(text))); }

std::string Sha256::hex() {
  std::array<unsigned char, 32> raw{};
  unsigned int size = 0;
  EVP_DigestFinal_ex(context_->md, raw.data(), &size);
  std::string out;
  for (const unsigned char byte : raw) out += format("{:02x}", byte);
  return out;
}

std::string sha256_of(std::string_view text) {
  Sha256 digest;
  digest.add(text);
  return digest.hex();
}

std::string sha256_of_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  Sha256 digest;
  digest.add(file.bytes());
  return digest.hex();
}

}  // namespace tidemill

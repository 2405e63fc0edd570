#include "base/digest.h"

#include <openssl/evp.h>

#include <array>
#include <fstream>
#include <stdexcept>
#include <vector>

#include "base/check.h"

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
  // Not mapped: a file that shrinks meanwhile would end the process.
  std::ifstream file(path, std::ios::binary);
  std::vector<char> chunk(size_t{1} << 20);
  Sha256 digest;
  while (file.read(chunk.data(), static_cast<std::streamsize>(chunk.size())), file.gcount() > 0) {
    digest.add(std::string_view(chunk.data(), static_cast<size_t>(file.gcount())));
  }
  if (!file.eof()) throw std::runtime_error(format("{}: cannot be read", path.string()));
  return digest.hex();
}

}  // namespace tidemill

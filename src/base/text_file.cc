#include "base/text_file.h"

#include <cerrno>
#include <fstream>
#include <stdexcept>
#include <system_error>

#include "base/check.h"

namespace tidemill {

std::string read_text_file(const std::filesystem::path& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::string text;
  char piece[1 << 16];
  while (in.read(piece, sizeof piece) || in.gcount() > 0) {
    text.append(piece, static_cast<size_t>(in.gcount()));
  }
  // A folder can be opened, but not read.
  if (!in.is_open() || in.bad()) {
    throw std::runtime_error(
        format("{}: cannot be read: {}", path.string(), std::generic_category().message(errno)));
  }
  return text;
}

}  // namespace tidemill

#include "base/build_id.h"

#include <fmt/core.h>
#include <link.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <utility>

namespace tidemill {
namespace {

// The id that stands among the notes of a segment; "" without one. Names and contents are padded to
// the segment's alignment, which is 4, or 8 where the compiler tells of the processor.
std::string id_among(std::string_view notes, size_t alignment) {
  constexpr std::string_view kOwner{"GNU", 4};  // with its final zero
  const auto padded = [alignment](size_t bytes) {
    return (bytes + alignment - 1) / alignment * alignment;
  };
  ElfW(Nhdr) note{};
  while (notes.size() >= sizeof note) {
    std::memcpy(&note, notes.data(), sizeof note);
    const size_t content = padded(sizeof note + note.n_namesz);
    const size_t end = content + note.n_descsz;
    if (end > notes.size()) break;
    if (note.n_type == NT_GNU_BUILD_ID && notes.substr(sizeof note, note.n_namesz) == kOwner) {
      std::string digits;
      for (const char byte : notes.substr(content, note.n_descsz)) {
        digits += fmt::format("{:02x}", static_cast<unsigned char>(byte));
      }
      return digits;
    }
    notes.remove_prefix(std::min(padded(end), notes.size()));
  }
  return "";
}

// The first object that is shown is the program itself.
int read_program(dl_phdr_info* object, size_t /*bytes*/, void* id) {
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const auto* begin = reinterpret_cast<const char*>(object->dlpi_addr + segment.p_vaddr);
    std::string found = id_among({begin, segment.p_memsz}, segment.p_align == 8 ? 8 : 4);
    if (!found.empty()) *static_cast<std::string*>(id) = std::move(found);
  }
  return 1;  // no further ones
}

}  // namespace

std::string build_id() {
  std::string id;
  dl_iterate_phdr(read_program, &id);
  return id;
}

}  // namespace tidemill

// Which build of the program runs.
#pragma once

#include <string>

namespace tidemill {

// The linker's id of this program (NT_GNU_BUILD_ID: a digest of all that it was linked from), in
// hexadecimal digits. Empty where the linker was told to write none.
std::string build_id();

}  // namespace tidemill

// Whether an engine is still what was written. Everything but the weights is compared every time;
// the weights are read when their file is met the first time, and remembered by its identity.
#pragma once

#include <filesystem>
#include <string>

#include "compiler/digest_memory.h"

namespace tidemill {

// Throws DamagedEngine, or std::runtime_error when it is no engine of this version.
void check_engine(const std::filesystem::path& dir, const DigestMemory& memory);

// What stands under an engine's name.
struct FoundEngine {
  bool whole = false;  // a complete engine of the digest that was asked for
  std::string damage;  // not empty: it was an engine once, and this is wrong with it now
};
FoundEngine find_engine(const std::filesystem::path& dir, const std::string& source_digest,
                        const DigestMemory& memory);

// Gives what stands there the name NAME.bad, for whoever wants to know what happened to it. An
// older folder of that name is removed.
void set_aside(const std::filesystem::path& dir);

}  // namespace tidemill

// The command line: verb, model, settings. Every row of options.cc that the verb reads is a flag.
#pragma once

#include <optional>

#include "settings/options.h"

namespace tidemill {

struct CommandLineResult {
  std::optional<CommandLine> command;  // absent: help or version was printed, or it was misuse
  int exit_code = 0;                   // 2 for misuse
};

CommandLineResult parse_command_line(int argc, const char* const* argv);

}  // namespace tidemill

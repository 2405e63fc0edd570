// Picks the verb; the one place that turns an exception into an exit code.
//
// Exit codes: 0 ended as asked; 1 refused or failed, with the sentence on standard error; 2 misuse
// of the command line; 128 + signal when one ends a verb other than serve, or the third ends serve.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <new>

#include "base/log.h"
#include "command_line.h"
#include "stop_signals.h"
#include "verbs.h"

namespace tidemill {
namespace {

LogLevel level_of(std::string_view name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "warning") return LogLevel::kWarning;
  if (name == "error") return LogLevel::kError;
  if (name == "off") return LogLevel::kOff;
  return LogLevel::kInfo;
}

int run(int argc, const char* const* argv) {
  const CommandLineResult parsed = parse_command_line(argc, argv);
  if (!parsed.command) return parsed.exit_code;
  const SettingsReport report =
      read_settings(*parsed.command, process_environment(), std::filesystem::current_path());
  const VerbArguments& arguments = report.settings.verb;
  set_log(level_of(arguments.log_level),
          arguments.log_format == "json" ? LogFormat::kJson : LogFormat::kText);
  for (const std::string& note : report.notes) log_info("{}", note);
  for (const std::string& warning : report.warnings) log_warning("{}", warning);
  for (const Verb& verb : all_verbs()) {
    if (verb.name == parsed.command->verb) return verb.run(report);
  }
  return 2;  // the command line accepts no other verb
}

}  // namespace
}  // namespace tidemill

int main(int argc, char** argv) {
  try {
    return tidemill::run(argc, argv);
  } catch (const tidemill::Stopped& stopped) {
    return 128 + stopped.signal();
  } catch (const std::bad_alloc&) {
    std::fputs("tidemill: out of memory\n", stderr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tidemill: %s\n", error.what());
  }
  return 1;
}

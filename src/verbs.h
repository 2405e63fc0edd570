// The verbs: one function each, in the file of that name. Throws std::exception for what ends the
// command; returns the exit code otherwise.
#pragma once

#include <span>
#include <string_view>

#include "settings/options.h"

namespace tidemill {

int serve(const SettingsReport& report);
int compile(const SettingsReport& report);
int generate(const SettingsReport& report);
int chat(const SettingsReport& report);
int bench(const SettingsReport& report);
int eval(const SettingsReport& report);
int inspect(const SettingsReport& report);

struct Verb {
  const char* name;
  const char* sentence;
  const char* model;  // what the argument that is no flag may be
  int (*run)(const SettingsReport& report);
};

std::span<const Verb> all_verbs();

}  // namespace tidemill

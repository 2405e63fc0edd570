// tidemill bench --url: requests to a running server, this program's or another's.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "settings/options.h"

namespace tidemill {

// Throws std::runtime_error when a flag was given that does not go with the others: some are for
// bench with --url alone, some for bench without.
void check_bench_flags(const SettingsReport& report);

// --concurrency: numbers from 1 to `most`, separated by commas. Throws std::runtime_error.
std::vector<int64_t> concurrencies(std::string_view text, int64_t most);

// Exit code 1 when no request succeeded.
int bench_server(const SettingsReport& report);

}  // namespace tidemill

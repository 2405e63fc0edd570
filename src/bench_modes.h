// What bench does without --url: cells that the flags name, the grid of docs/performance.md, or
// kernels by themselves.
#pragma once

#include "settings/options.h"

namespace tidemill {

int bench_cells(const SettingsReport& report);
int bench_grid(const SettingsReport& report);
int bench_kernels(const SettingsReport& report);

}  // namespace tidemill

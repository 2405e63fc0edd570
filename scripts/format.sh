#!/usr/bin/env bash
# Formats every source file as .clang-format says.
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files 'src/*.h' 'src/*.cc' 'tests/*.cc' | xargs clang-format-14 -i

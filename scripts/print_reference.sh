#!/usr/bin/env bash
# Prints the reference pages anew: scripts/print_reference.sh [BINARY]
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:-build/tidemill}
mkdir -p docs/reference
"$binary" inspect --print-settings >docs/reference/settings.md
"$binary" inspect --print-api >docs/reference/api.md

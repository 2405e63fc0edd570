#!/usr/bin/env bash
# Fuzzes: every target of src/*/*_fuzz.cc under libFuzzer with AddressSanitizer and UBSan, one on
# each core.
#
#   scripts/fuzz.sh [SECONDS [NAME...]]     45 seconds each, all of them
#
# A finding fails, and its file is named: fix the cause, keep the file in tests/fuzz/NAME. An input
# may take 10 seconds (sanitizers cost about that factor; the replay in every build allows one) and
# 512 MiB. Needs clang-19. The text library is in Rust and is not instrumented.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh

seconds=${1:-45}
shift || true
names=("$@")
install_packages clang-19 libclang-rt-19-dev
jobs=$(nproc)
out=build-fuzz/run

if [ ${#names[@]} = 0 ]; then
  for source in src/*/*_fuzz.cc; do names+=("$(basename "$source" _fuzz.cc)"); done
fi
say "building the fuzz targets in build-fuzz"
cmake -S . -B build-fuzz -G Ninja -DTIDEMILL_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++-19 \
  -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
cmake --build build-fuzz -j "$jobs" --target "${names[@]/#/fuzz_}" "${names[@]/#/replay_}"

# Of this run only.
rm -rf "$out/findings" && mkdir -p "$out/findings"

fuzz_one() { # fuzz_one NAME SECONDS OUT
  local name=$1 seconds=$2 out=$3 memory=512
  # A template that asks for too much memory never gives back what it has (text/rust/src/memory.rs).
  [ "$name" = chat_template ] && memory=4096
  mkdir -p "$out/corpus/$name"
  build-fuzz/fuzz/replay_"$name" --seeds "$out/corpus/$name"
  local folders=("$out/corpus/$name")
  [ -d "tests/fuzz/$name" ] && folders+=("tests/fuzz/$name")
  if ASAN_OPTIONS=quarantine_size_mb=32:detect_leaks=0 nice build-fuzz/fuzz/fuzz_"$name" \
    "${folders[@]}" -max_total_time="$seconds" -timeout=10 -rss_limit_mb="$memory" -max_len=4096 \
    -artifact_prefix="$PWD/$out/findings/$name-" -print_final_stats=1 >"$out/$name.log" 2>&1; then
    echo "$name: $(sed -n 's/stat::number_of_executed_units: *//p' "$out/$name.log") inputs"
  else
    tail -n 40 "$out/$name.log"
    echo "$name: FAILED. The input lies in $(ls "$out/findings/$name-"* 2>/dev/null | tail -n 1)"
    touch "$out/findings/$name-failed"
  fi
}
export -f fuzz_one

say "fuzzing: ${#names[@]} targets, $seconds seconds each"
printf '%s\n' "${names[@]}" | xargs -P "$jobs" -I NAME bash -c "fuzz_one NAME $seconds $out"
[ -z "$(ls "$out/findings")" ] || die "there are findings in $out/findings"

#!/usr/bin/env bash
# Builds and tests. Ends with a line "N passed, N failed".
#
#   scripts/test.sh              one tree (assertions on, warnings are errors): unit, property,
#                                golden and outside tests
#   scripts/test.sh --sanitize   a second tree with AddressSanitizer and UBSan
#   scripts/test.sh --race       a third one with ThreadSanitizer: what has threads, with the script
#   scripts/test.sh --long       what is too slow for every change, in the first tree; the build
#                                without Rust; 45 seconds of fuzzing for each target
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh

mode=plain
for argument in "$@"; do
  case $argument in
    --sanitize) mode=sanitize ;;
    --race) mode=race ;;
    --long) mode=long ;;
    *) die "$argument is not an option; there are --sanitize, --race and --long." ;;
  esac
done

javascript=()  # nodejs of another origin brings npm with it, and Debian's would conflict
command -v npm >/dev/null || javascript=(nodejs npm)
install_packages curl libgtest-dev libgmock-dev libbenchmark-dev binutils python3-venv qemu-user \
  "${javascript[@]}"
jobs=$(nproc)
targets=  # all
passed=0
failed=0
failures=$(mktemp)  # their names and last lines, shown at the end
environment=  # the process that makes it
trap 'rm -f "$failures"; [ -z "$environment" ] || kill "$environment" 2>/dev/null || true' EXIT

build() { # build FOLDER CMAKE_OPTION...
  local folder=$1
  shift
  say "building in $folder"
  # The Rust library is the same in every tree, and takes minutes.
  cmake -S . -B "$folder" -G Ninja -DTIDEMILL_TESTS=ON -DTIDEMILL_WERROR=ON \
    -DTIDEMILL_CARGO_TARGET_DIR="$PWD/.cache/rust" -DCMAKE_BUILD_TYPE=RelWithDebInfo "$@" >/dev/null
  cmake --build "$folder" -j "$jobs" ${targets:+--target $targets}
  # Nobody needs it before. What failed there fails here, once.
  [ -z "$environment" ] || wait "$environment"
  environment=
}

# Adds a report's numbers to the sum, and what failed to what is shown at the end.
add_report() { # add_report JUNIT_FILE
  read -r good bad < <(python3 scripts/test_report.py "$1" "$failures")
  passed=$((passed + good))
  failed=$((failed + bad))
}

# Reports stay in the tree's folder `reports`: scripts/robustness_table.py reads them.
new_report() { # new_report JUNIT_FILE
  mkdir -p "$(dirname "$1")"
  rm -f "$1"
}

run_ctest() { # run_ctest FOLDER ARGUMENT...
  local folder=$1 report=$PWD/$1/reports/ctest.xml
  shift
  new_report "$report"
  ctest --test-dir "$folder" --output-on-failure -j "$jobs" --progress --no-tests=error \
    --output-junit "$report" "$@" || true
  add_report "$report"
}

run_some() { # run_some BINARY REPORT MARKS ARGUMENT...
  local binary=$1 report marks=$3
  report=$(dirname "$binary")/reports/$2.xml
  shift 3
  new_report "$report"
  TIDEMILL_BINARY=$binary .cache/venv/bin/python -m pytest tests -q -p no:cacheprovider \
    --junit-xml="$report" -m "$marks" "$@" || true
  add_report "$report"
}

# What says no times, two files at a time, for much of it is waiting; each of their servers has a
# thread for each core. The rest by itself.
run_pytest() { # run_pytest BINARY MARKS ARGUMENT...
  local binary=$1 marks=$2
  shift 2
  run_some "$binary" pytest "($marks) and not measured and not timed" -n 2 --dist loadfile "$@"
  run_some "$binary" pytest-timed "($marks) and (measured or timed)" "$@"
}

# Shares of what the machine can do, beside their floors: a test of each format. Half a minute each.
run_floors() { # run_floors BINARY
  local format report
  for format in none w8a8 int4; do
    report=$(dirname "$1")/reports/performance-$format.json
    if .cache/venv/bin/python scripts/performance_floors.py --binary "$1" --save "$report" \
      .cache/models/SmolLM2-135M-Instruct.Q4_1.gguf --dtype bf16 --quantize "$format"; then
      passed=$((passed + 1))
    else
      failed=$((failed + 1))
      echo "FAILED: speed beside its floors, in $report" >>"$failures"
    fi
  done
}

python_environment() {
  [ -x .cache/venv/bin/python ] || python3 -m venv .cache/venv
  .cache/venv/bin/python -m pip install --quiet -r tests/requirements.txt
  python3 scripts/fetch_smollm2.py .cache/models >/dev/null
  # The same model as Hugging Face folders, where the design library is at hand.
  if [ -f ../shared/models/get_smollm2.py ]; then
    .cache/venv/bin/python ../shared/models/get_smollm2.py .cache/models --hf --f32 >/dev/null
  fi
}

# Sanitizers run what is checked with small models; the real one takes too long with them. Nor do
# they see more in what only measures, or in the same way taken with other numbers.
under_sanitizers="not long and not real_model and not measured and not bits"
[ "$mode" = sanitize ] || [ "$mode" = race ] || export TIDEMILL_MODELS=$PWD/.cache/models
python_environment &  # a minute of one core, while the first tree is built
environment=$!
case $mode in
  plain)
    build build-test -DTIDEMILL_BENCHES=ON
    say "unit, property and golden tests"
    run_ctest build-test
    say "outside tests"
    run_pytest "$PWD/build-test/tidemill" "not long"
    say "speed beside its floors"
    run_floors "$PWD/build-test/tidemill"
    ;;
  long)
    build build-test -DTIDEMILL_BENCHES=ON
    say "long tests"
    run_ctest build-test
    run_pytest "$PWD/build-test/tidemill" "long or not long"
    say "the build without Rust"
    build build-notext -DTIDEMILL_TEXT=OFF
    # Servers of text need the library; what lies below them does not.
    run_ctest build-notext -R '^(base|parallel|kernels|scheduler|checkpoint|model|sampling|text)[.]'
    if scripts/fuzz.sh; then
      passed=$((passed + 1))
    else
      failed=$((failed + 1))
      echo "FAILED: scripts/fuzz.sh" >>"$failures"
    fi
    ;;
  sanitize)
    build build-sanitize -DTIDEMILL_SANITIZE=ON
    export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1
    export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
    say "unit tests under sanitizers"
    run_ctest build-sanitize
    say "outside tests under sanitizers"
    run_pytest "$PWD/build-sanitize/tidemill" "$under_sanitizers"
    ;;
  race)
    targets="parallel_test scheduler_test executor_test server_test tidemill"
    build build-thread -DTIDEMILL_SANITIZE=thread
    # A program that ends without a step that is stuck joins nobody, and that is no fault.
    export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:report_thread_leaks=0
    say "unit tests of what has threads"
    # StarvedSteps and FrontSimulation call the loop in one thread, where there is nothing to find.
    run_ctest build-thread -R '^(parallel|scheduler|executor|server)[.]' \
      -E '[.](StarvedSteps|FrontSimulation)[.]'
    say "clients and streams against the script"
    run_pytest "$PWD/build-thread/tidemill" "$under_sanitizers" \
      -k "clients or robustness or streams"
    ;;
esac

if [ -s "$failures" ]; then
  echo
  cat "$failures"
fi
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]

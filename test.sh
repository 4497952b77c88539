#!/usr/bin/env bash
# Installs what is missing, builds everything, runs every test, a sample with sanitizers, and the fuzzers. See --help.
set -uo pipefail
cd "$(dirname "$0")"

usage() {
  cat <<'TEXT'
usage: ./test.sh [--install-only] [--no-install] [--quick | --long] [--only STAGE,...]
  --install-only  install dependencies (apt, as root or with sudo) and stop; after it a plain CMake build works
  --no-install    install nothing
  --quick         the release build's tests alone; else a sample runs under sanitizers, too, and each reader of
                  files is fuzzed for 20 seconds (clang 14, tests/fuzz)
  --long          full counts (kill trials, all curves, all tests under sanitizers, 5 minutes of fuzzing a reader);
                  keeps docs/last-long-run.md
  --only STAGES   of build, tests, build-asan, tests-asan, fuzz, build-tsan, tests-tsan these alone: a run too long
                  for one job goes in several, and docs/last-long-run.md keeps each stage's last outcome
TEXT
}

install=yes
only_install=no
long=no
sanitizers=yes
only=
while (($#)); do
  case "$1" in
    --install-only) only_install=yes ;;
    --no-install) install=no ;;
    --quick) sanitizers=no ;;
    --long) long=yes ;;
    --only)
      for name in $(tr , ' ' <<<"${2:?test.sh: --only wants names of stages}"); do
        case "$name" in
          build|tests|build-asan|tests-asan|fuzz|build-tsan|tests-tsan) ;;
          *) echo "test.sh: --only: no stage '$name'; see --help" >&2; exit 2 ;;
        esac
      done
      only=",$2,"
      shift ;;
    -h|--help) usage; exit 0 ;;
    *) echo "test.sh: unknown option '$1'" >&2; usage >&2; exit 2 ;;
  esac
  shift
done

if [ "$install" = yes ]; then scripts/install_dependencies.sh --for tests || exit 1; fi
if [ "$only_install" = yes ]; then exit 0; fi
if [ "$long" = yes ]; then export SONDE_LONG=1; fi

release=release
if [ -n "${CI:-}" ]; then release=ci; fi  # warnings are errors
jobs="$(nproc)"
export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1  # clones share what was compiled
launcher=()
if command -v ccache >/dev/null; then launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
logs=build/logs
mkdir -p "$logs"
stages=()
failed=no
commit="$(git rev-parse --short HEAD 2>/dev/null || echo unknown)$(git diff --quiet HEAD 2>/dev/null || echo '+changes')"
if [ -z "$only" ]; then rm -f "$logs"/*.outcome "$logs"/*.xml "$logs/fuzz.md"; fi  # of an earlier run

# stage NAME COMMAND...: runs it, shows its output, keeps it in build/logs, remembers time and outcome.
stage() {
  local name="$1" start=$SECONDS outcome=passed
  shift
  if [ -n "$only" ] && [[ "$only" != *",$name,"* ]]; then return 0; fi
  echo "==== $name"
  "$@" 2>&1 </dev/null | tee "$logs/$name.log"
  [ "${PIPESTATUS[0]}" = 0 ] || outcome=FAILED
  if grep -q 'HDF5-DIAG' "$logs/$name.log"; then
    echo "test.sh: $name: HDF5 printed an error that nothing caught (HDF5-DIAG above)"
    outcome=FAILED
  fi
  [ "$outcome" = passed ] || failed=yes
  stages+=("$(printf '%-12s %-6s %5d s  %s  %s' "$name" "$outcome" $((SECONDS - start)) "$(date -u +%F)" "$commit")")
  echo "${stages[-1]}" >"$logs/$name.outcome"
  [ "$outcome" = passed ]
}

configure() {
  cmake --preset "$1" "${launcher[@]}" >"$logs/configure-$1.log" || { cat "$logs/configure-$1.log"; return 1; }
}
build() {
  configure "$1" && cmake --build "build/$1" -j "$jobs" -- --quiet
}
build_rooms() {  # preset, targets: those alone
  configure "$1" && cmake --build "build/$1" -j "$jobs" -- --quiet "${@:2}"
}

run_tests() {  # preset, then arguments of ctest
  ctest --test-dir "build/$1" --output-on-failure --no-tests=error --timeout 3600 \
    --test-output-size-passed 1000000 --output-junit "$PWD/$logs/$1.xml" "${@:2}"
}

# The rooms' tests once more under sanitizers: every fourth of them, or all with --long; counts of trials stay short.
# Threads are in the kernels and in the store's writer; --long runs the models' under TSan, too.
asan_rooms=(test_runtime test_kernels test_distributed test_io test_models)
tsan_rooms=(test_kernels test_io)
if [ "$long" = yes ]; then tsan_rooms+=(test_models); fi
rooms_pattern() { printf '^(%s)$' "$(IFS='|'; echo "${*#test_}")"; }
sample() {
  unset SONDE_LONG
  if [ "$long" = no ]; then export GTEST_TOTAL_SHARDS=4 GTEST_SHARD_INDEX=0; fi
}
tests_asan() {
  sample
  echo 'leak:libomp' >"$logs/lsan.supp"  # what clang's OpenMP keeps for its threads
  export LSAN_OPTIONS="suppressions=$PWD/$logs/lsan.supp:print_suppressions=0"
  export ASAN_OPTIONS=strict_string_checks=1:allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
  run_tests asan -R "$(rooms_pattern "${asan_rooms[@]}")"
}
tests_tsan() {  # more threads than cores, for other interleavings
  sample
  export TSAN_OPTIONS=ignore_noninstrumented_modules=1:halt_on_error=1 OMP_NUM_THREADS=4
  export GTEST_FILTER='-*emulated*'  # TSan does not follow the fibers of the emulated GPU
  run_tests tsan -R "$(rooms_pattern "${tsan_rooms[@]}")"
}

# Readers under libFuzzer: the same 20 seconds a target each time, or 5 minutes of new inputs with --long.
run_fuzz() {
  local seconds=20 seed=1
  if [ "$long" = yes ]; then seconds=300 seed=0; fi
  python3 tests/fuzz/run_fuzz.py build/asan --seconds "$seconds" --seed "$seed" --jobs "$jobs" --report "$logs/fuzz.md"
}

if stage build build "$release"; then stage tests run_tests "$release"; fi
if [ "$sanitizers" = yes ]; then
  if command -v clang++-14 >/dev/null; then
    if stage build-asan build_rooms asan "${asan_rooms[@]}" fuzz_targets; then
      stage tests-asan tests_asan
      stage fuzz run_fuzz
    fi
    if stage build-tsan build_rooms tsan "${tsan_rooms[@]}"; then stage tests-tsan tests_tsan; fi
  else
    echo "test.sh: no clang++-14 here, so no test under sanitizers and no fuzzing"
    stages+=("sanitizers   skipped")
  fi
fi

write_report() {
  echo "# The last run of ./test.sh --long"
  printf '\n```\n%s\n```\n' "$("build/$release/apps/sonde" devices)"
  printf '\n```\n'
  for name in build tests build-asan tests-asan fuzz build-tsan tests-tsan; do cat "$logs/$name.outcome" 2>/dev/null; done
  printf '```\n'
  printf '\n## Fuzzing\n%s\n' "$(cat "$logs/fuzz.md" 2>/dev/null || echo skipped)"
  python3 tests/scripts/summarise_tests.py "Tests=$logs/$release.xml" "Under ASan and UBSan=$logs/asan.xml" "Under TSan=$logs/tsan.xml"
}
if [ "$long" = yes ]; then
  write_report >docs/last-long-run.md
  echo "==== docs/last-long-run.md is written"
fi

echo "==== summary"
printf '%s\n' "${stages[@]}"
if [ "$failed" = yes ]; then echo "test.sh: something FAILED; the logs are in $logs"; exit 1; fi
echo "test.sh: all passed in $((SECONDS / 60)) min $((SECONDS % 60)) s"

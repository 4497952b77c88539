#!/usr/bin/env bash
# Every header compiles alone (a *_body.h is the body of several sources, not a header): check_headers.sh ROOT COMPILER [FLAGS...] (flags as of the build: -std, -I, -fopenmp).
set -uo pipefail
cd "$1"
export compiler="$2"
shift 2
export flags="$*"

check_one() {
  # A file that includes the header twice: the guard is checked, too.
  # shellcheck disable=SC2086
  printf '#include "%s"\n#include "%s"\n' "$1" "$1" | $compiler $flags -I. -fsyntax-only -x c++ - 2>&1 | sed "s|^|$1: |"
  [ "${PIPESTATUS[1]}" = 0 ] || { echo "$1: does not compile alone"; return 1; }
}
export -f check_one

headers="$(find runtime kernels io models apps tests -name '*.h' ! -name '*_body.h' | sort)"
[ -n "$headers" ] || { echo "found no headers under $PWD"; exit 1; }
xargs -P 2 -n 1 bash -c 'check_one "$0"' <<<"$headers" || exit 1
echo "$(wc -l <<<"$headers") headers compile alone"

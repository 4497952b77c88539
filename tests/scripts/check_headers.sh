#!/usr/bin/env bash
# Every header compiles alone: check_headers.sh ROOT COMPILER [FLAGS...] (flags as of the build: -std, -I, -fopenmp).
# The build itself proves it for a header that its own source includes first; the others are compiled here, twice in
# one file, so that the guard is checked, too. A *_body.h is the body of several sources and no header.
set -uo pipefail
cd "$1"
export compiler="$2"
shift 2
export flags="$*"

check_one() {
  # shellcheck disable=SC2086
  printf '#include "%s"\n#include "%s"\n' "$1" "$1" | $compiler $flags -I. -fsyntax-only -x c++ - 2>&1 | sed "s|^|$1: |"
  [ "${PIPESTATUS[1]}" = 0 ] || { echo "$1: does not compile alone"; return 1; }
}
export -f check_one

rest=()
count=0
while read -r header; do
  count=$((count + 1))
  grep -q '^#pragma once$' "$header" || { echo "$header: no #pragma once"; exit 1; }
  first="$(grep -m 1 '^#include' "${header%.h}.cpp" 2>/dev/null)"
  [ "$first" = "#include \"$header\"" ] || rest+=("$header")
done < <(find runtime kernels distributed io models apps tests -name '*.h' ! -name '*_body.h' | sort)
((count)) || { echo "found no headers under $PWD"; exit 1; }
printf '%s\n' "${rest[@]}" | xargs -P "$(nproc)" -n 1 bash -c 'check_one "$0"' || exit 1
echo "$count headers compile alone, $((count - ${#rest[@]})) of them first in their own source"

#!/usr/bin/env bash
# Every source is as clang-format would write it: check_format.sh ROOT CLANG_FORMAT [--fix].
set -euo pipefail
cd "$1"
mapfile -t files < <(find runtime kernels distributed io models apps tests \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) | sort)
((${#files[@]})) || { echo "found no sources under $PWD"; exit 1; }
if [ "${3:-}" = --fix ]; then "$2" -i "${files[@]}"; exit; fi
wrong=()
for file in "${files[@]}"; do
  "$2" --dry-run -Werror "$file" 2>/dev/null || wrong+=("$file")
done
if ((${#wrong[@]})); then
  echo "${#wrong[@]} files are not as $2 writes them"
  echo "HINT: $2 -i ${wrong[*]}"
  exit 1
fi
echo "${#files[@]} files are formatted"

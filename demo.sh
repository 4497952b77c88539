#!/usr/bin/env bash
# Installs what is missing, builds, gets the default model, and shows at which depth facts become readable. See --help.
set -euo pipefail
from="$PWD"
cd "$(dirname "$0")"

usage() {
  cat <<'TEXT'
usage: ./demo.sh [--no-install] [--model PATH]
  --no-install  install nothing (README.md lists the packages)
  --model PATH  a Hugging Face folder or a .gguf file instead of the default, SmolLM2-135M-Instruct
TEXT
}

install=yes
model=
while (($#)); do
  case "$1" in
    --no-install) install=no ;;
    --model)
      [ $# -ge 2 ] || { echo "demo.sh: --model wants a path" >&2; exit 2; }
      model="$(cd "$from" && realpath -m -- "$2")"
      shift ;;
    -h|--help) usage; exit 0 ;;
    *) echo "demo.sh: unknown option '$1'" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
if [ -n "$model" ] && [ ! -e "$model" ]; then echo "demo.sh: $model: no such file or folder" >&2; exit 1; fi

if [ "$install" = yes ]; then scripts/install_dependencies.sh --for build; fi

log="$(mktemp)"
trap 'rm -f "$log"' EXIT
export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1  # clones share what was compiled
launcher=()
if command -v ccache >/dev/null; then launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
if ! { cmake --preset release "${launcher[@]}" && cmake --build build/release -j "$(nproc)" --target sonde -- -n; } >"$log" 2>&1; then
  cat "$log" >&2
  echo "demo.sh: the build could not be configured. HINT: README.md lists the packages it needs" >&2
  exit 1
fi
if ! grep -q 'no work to do' "$log"; then
  echo "Building (a few minutes the first time)"
  cmake --build build/release -j "$(nproc)" --target sonde -- --quiet
fi
sonde=build/release/apps/sonde

if [ -z "$model" ]; then model="$(scripts/get_model.sh)"; fi
"$sonde" depth "$model" --data data/demo/cities.csv --data data/demo/coin_flip.csv --site 'blocks.*.hook_resid_post' \
  --split-column split --standardise yes --out demo/
echo "The table: demo/depth.csv. The report, for a browser: $PWD/demo/report.html"

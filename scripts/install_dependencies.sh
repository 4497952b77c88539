#!/usr/bin/env bash
# Installs what Sonde is built and tested with, from Debian 12's packages (Ubuntu 24.04: untested). Says what it
# installs, and is silent when nothing is missing. Needs root or sudo; --list prints the packages for those without.
set -euo pipefail

build_packages=(cmake ninja-build g++ pkg-config libboost-program-options-dev nlohmann-json3-dev libfmt-dev
  libhdf5-dev zlib1g-dev libzstd-dev libgtest-dev libgmock-dev libbenchmark-dev libdnnl-dev libeigen3-dev
  libpcre2-dev libopenmpi-dev openmpi-bin)
run_packages=(python3 python3-numpy python3-h5py python3-venv python3-pip unzip hdf5-tools ca-certificates)
check_packages=(clang-14 libomp-14-dev libclang-rt-14-dev clang-format-14 slurm-wlm munge)

usage() {
  cat <<'TEXT'
usage: scripts/install_dependencies.sh [--for build|tests] [--list]
  --for build   what ./demo.sh needs
  --for tests   everything (default)
  --list        print the packages and install nothing
TEXT
}

goal=tests
list=no
while (($#)); do
  case "$1" in
    --for) goal="${2:-}"; shift ;;
    --list) list=yes ;;
    -h|--help) usage; exit 0 ;;
    *) echo "install_dependencies.sh: unknown option '$1'" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
case "$goal" in
  build) packages=("${build_packages[@]}" "${run_packages[@]}") ;;
  tests) packages=("${build_packages[@]}" "${run_packages[@]}" "${check_packages[@]}") ;;
  *) echo "install_dependencies.sh: --for: found '$goal', expected build or tests" >&2; exit 2 ;;
esac
if [ "$list" = yes ]; then printf '%s\n' "${packages[@]}"; exit 0; fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "install_dependencies.sh: no apt here. HINT: install the likes of these yourself and use --no-install: ${packages[*]}" >&2
  exit 1
fi

missing=()
installed="$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' | sed -n 's/^.i *//p')"
for package in "${packages[@]}"; do
  grep -qxF "$package" <<<"$installed" || missing+=("$package")
done
((${#missing[@]})) || exit 0

if [ "$(id -u)" = 0 ]; then as_root=()
elif command -v sudo >/dev/null; then as_root=(sudo)
else
  echo "install_dependencies.sh: not root, and no sudo. HINT: ask for these packages, then use --no-install: ${missing[*]}" >&2
  exit 1
fi

echo "Installing ${#missing[@]} packages: ${missing[*]}"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
run() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1 </dev/null && return
  tail -n 30 "$log" >&2
  echo "install_dependencies.sh: failed: $*" >&2
  exit 1
}
run apt-get -q update
run apt-get -q install -y --no-install-recommends "${missing[@]}"

#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages of the named groups (default: build) that are not there yet.
# With nothing missing it needs no network and no root, and takes a fraction of a second.
#
# usage: scripts/setup.sh [GROUP...]     groups: see scripts/packages-debian.txt
set -euo pipefail
cd "$(dirname "$0")/.."

readonly list=scripts/packages-debian.txt
readonly cmake_minimum=3.25
readonly nvcc_minimum=13.0

say() { printf 'setup: %s\n' "$*" >&2; }

packages_of() {  # GROUP: its packages, one a line
  awk -v group="$1" '!/^#/ && $1 == group { print $2 }' "$list"
}

missing_of() {  # PACKAGE...: those that are not installed, one a line
  local package
  for package in "$@"; do
    [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || echo "$package"
  done
}

available_of() {  # PACKAGE...: those that the package lists of this machine know, one a line
  local package
  for package in "$@"; do
    if apt-cache show "$package" >/dev/null 2>&1; then echo "$package"; fi
  done
}

# Root installs, a person at a terminal is asked by sudo, and anybody else is told the line to run.
apt_get() {
  local -a root=()
  if [[ $(id -u) -ne 0 ]]; then
    if command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
      root=(sudo)
    else
      say "this needs root, and nobody is here to ask for a password. Run:"
      echo "  sudo apt-get update && sudo apt-get install --no-install-recommends -y ${missing[*]}" >&2
      exit 1
    fi
  fi
  ${root[@]+"${root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null >&2
}

install_groups() {
  local group
  local -a wanted=() wished=() missing absent
  for group in "$@"; do
    mapfile -t -O "${#wanted[@]}" wanted < <(packages_of "$group")
    mapfile -t -O "${#wished[@]}" wished < <(packages_of "$group?")
    if ! grep -qE "^$group\b" "$list"; then
      say "group: asked $group, accepted: $(awk '!/^#/ && NF { sub(/\?$/, "", $1); print $1 }' "$list" | sort -u | paste -sd ' ')"
      exit 2
    fi
  done
  mapfile -t missing < <(missing_of "${wanted[@]}")
  mapfile -t absent < <(missing_of ${wished[@]+"${wished[@]}"})
  if [[ ${#missing[@]} -eq 0 && -z "$(available_of ${absent[@]+"${absent[@]}"})" ]]; then return; fi

  say "missing: ${missing[*]}${absent[*]:+ (and, if this distribution has it: ${absent[*]})}"
  apt_get update
  # Only after the update is it known whether the distribution has what is only wished for.
  mapfile -t -O "${#missing[@]}" missing < <(available_of ${absent[@]+"${absent[@]}"})
  apt_get install --no-install-recommends -y "${missing[@]}"
}

at_least() {  # MINIMUM VERSION
  [[ -n "$2" && "$(printf '%s\n' "$1" "$2" | sort -V | head -1)" == "$1" ]]
}

cmake_is_new_enough() {
  at_least "$cmake_minimum" "$(PATH="$PWD/.venv/bin:$PATH" cmake --version 2>/dev/null | awk 'NR == 1 { print $3 }')"
}

# CMake looks in the same places: cmake/MegamoeDependencies.cmake.
nvcc_is_new_enough() {
  local nvcc
  for nvcc in "${CUDACXX:-}" .venv/lib/python3*/site-packages/nvidia/cu13/bin/nvcc nvcc; do
    if command -v "$nvcc" >/dev/null; then
      at_least "$nvcc_minimum" "$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p')"
      return
    fi
  done
  return 1
}

# nvcc looks for libraries in lib64 and CMake for libcudart.so: the wheels have neither name.
install_nvcc() {
  local root
  install_groups cuda
  python3 -m venv .venv
  .venv/bin/pip --quiet --disable-pip-version-check install -r scripts/cuda-wheels.txt
  for root in .venv/lib/python3*/site-packages/nvidia/cu13; do
    ln -sfn lib "$root/lib64"
    ln -sfn libcudart.so.13 "$root/lib/libcudart.so"
  done
}

if ! command -v dpkg-query >/dev/null; then
  say "this is neither Debian nor Ubuntu: install the equivalents of the packages in $list by hand; CMake names what it misses"
  exit 0
fi

groups=("${@:-build}")
for group in "${groups[@]}"; do
  if [[ $group != cuda ]]; then
    install_groups "$group"
  elif ! nvcc_is_new_enough; then
    say "there is no nvcc $nvcc_minimum or newer here: putting one into .venv (300 MB)"
    install_nvcc
    nvcc_is_new_enough
  fi
done

if ! cmake_is_new_enough; then
  say "cmake is older than $cmake_minimum here: putting a newer one into .venv"
  install_groups old-cmake
  python3 -m venv .venv
  .venv/bin/pip --quiet --disable-pip-version-check install "cmake>=$cmake_minimum,<4"
  cmake_is_new_enough
fi

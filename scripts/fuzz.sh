#!/usr/bin/env bash
# Runs every libFuzzer target of build/fuzz/bin in turn, starting from its corpus in fuzz/corpus/<target>.
# What it finds stays under build/fuzz/: new inputs in corpus/<target>, crashing ones in crashes/.
#
# usage: scripts/fuzz.sh SECONDS     for all targets together
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?usage: scripts/fuzz.sh SECONDS}
shopt -s nullglob
targets=(build/fuzz/bin/fuzz_*)
if [[ ${#targets[@]} -eq 0 ]]; then
  echo "fuzz: build/fuzz/bin has no fuzz_* program; make fuzz builds them" >&2
  exit 1
fi
each=$(((seconds + ${#targets[@]} - 1) / ${#targets[@]}))

mkdir -p build/fuzz/crashes
for target in "${targets[@]}"; do
  name=$(basename "$target")
  corpus=fuzz/corpus/$name
  found=build/fuzz/corpus/$name
  mkdir -p "$found"
  if [[ ! -d $corpus ]]; then
    echo "fuzz: $name has no corpus; expected at least one input in $corpus" >&2
    exit 1
  fi
  echo "fuzz: $name, $each s, from $(find "$corpus" -type f | wc -l) inputs"
  if ! "$target" -max_total_time="$each" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 -dict=fuzz/json.dict \
    -artifact_prefix="build/fuzz/crashes/$name-" "$found" "$corpus" >"build/fuzz/$name.log" 2>&1; then
    cat "build/fuzz/$name.log" >&2
    echo "fuzz: $name failed; the input is in build/fuzz/crashes/" >&2
    exit 1
  fi
  grep -E 'number_of_executed_units' "build/fuzz/$name.log" | sed "s/.*: */fuzz: $name ran /; s/\$/ inputs, none crashed/"
done

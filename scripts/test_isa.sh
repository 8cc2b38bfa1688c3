#!/usr/bin/env bash
# The tests labelled "isa", once for each instruction set that this build and machine have, forced by MEGAMOE_ISA. The test
# isa.the_one_that_is_asked_for_is_the_one_that_runs proves that each was. build/cpu has to be built.
#
# usage: test_isa.sh [JOBS]
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${1:-$(nproc)}

sets=$(build/cpu/bin/megamoe info --json | python3 -c 'import json, sys; print(*json.load(sys.stdin)["kernels"])')
if [[ -z $sets ]]; then
  echo "this build has no cpu backend: no instruction set to force"
  exit 0
fi

rc=0
results=()
for isa in $sets; do
  echo "MEGAMOE_ISA=$isa"
  results+=("build/cpu/ctest.isa.$isa.xml")
  rm -f "${results[-1]}"
  MEGAMOE_ISA=$isa ctest --preset cpu -j "$jobs" -L '^isa$' --progress --no-tests=error \
    --output-junit "ctest.isa.$isa.xml" || rc=1
done
python3 scripts/ctest_summary.py "${results[@]}" || rc=1
exit $rc

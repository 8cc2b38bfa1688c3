#!/usr/bin/env bash
# Everything that needs a GPU: is what the cuda backends compute right, and how fast is it. Ends with a table.
#
# usage: scripts/gpu_check.sh BUILD_DIR [checks|bench|quick]...      default: checks bench
#   checks  tests on the device, 10000 reruns, compute-sanitizer (memcheck and racecheck), which must find planted bugs
#   bench   four published shapes from 1 to 8192 tokens, NVFP4 activations, skewed routing
#   quick   some of both, in about a minute
# BUILD_DIR may have been built on another machine. Results go to $OUT (default: gpu-results). Exits with 1 if a check
# failed, 3 where no cuda backend runs here.
set -uo pipefail

usage() { sed -n '4,9s/^# \{0,1\}//p' "$0"; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-}
[[ -n $build && -x $build/bin/megamoe ]] || usage
shift
parts=${*:-checks bench}
for part in $parts; do [[ $part =~ ^(checks|bench|quick)$ ]] || usage; done
out=${OUT:-gpu-results}
mkdir -p "$out"
log=$out/checks.log
table=$out/table.md
: > "$log"; : > "$out/bench.json"; : > "$out/checks.md"
megamoe=$build/bin/megamoe
failures=0
export MEGAMOE_PROBLEMS=$root/problems

# Each check gets this long; one that hangs is a failure.
limit=240

note() { printf '| %s | %s | %s |\n' "$1" "$2" "$3" | tee -a "$out/checks.md"; }

# check NAME COMMAND...: one line of the table of checks; what the command prints goes to the log.
check() {
  local name=$1 began=$SECONDS result detail
  shift
  printf '\n===== %s: %s\n' "$name" "$*" >> "$log"
  if timeout "$limit" "$@" > "$out/last.log" 2>&1; then result=passed; else result="FAILED ($?)"; failures=$((failures + 1)); fi
  cat "$out/last.log" >> "$log"
  # GoogleTest's own counts, where it ran: a skipped test has not passed.
  detail=$(sed -n 's/^\[  \(PASSED\|SKIPPED\|FAILED\) *\] \([0-9]* tests\{0,1\}\).*/\1 \2/p; s/^=* *ERROR SUMMARY: //p; s/^=* *RACECHECK SUMMARY: //p' \
    "$out/last.log" | tr '[:upper:]\n' '[:lower:],' | sed 's/,$//; s/,/, /g')
  note "$name" "$result" "${detail:+$detail; }$((SECONDS - began)) s"
  [[ $result == passed ]] || tail -n 15 "$out/last.log"
}

verify=("$megamoe" verify "t=16 h=256 i=128 e=8 k=2 w=nvfp4" --activations bf16 --backend cuda)
# Where there is no device every test is skipped, which would look like a success.
"${verify[@]}" > "$out/last.log" 2>&1
if (($? == 3)); then
  cat "$out/last.log" >&2
  exit 3
fi
printf '| check | result | |\n|---|---|---|\n' | tee -a "$out/checks.md"
check "verify" "${verify[@]}"

run_tests() {
  local test
  export MEGAMOE_BACKEND=cuda
  for test in "$build"/bin/test_cuda* "$build"/bin/test_{base,moe,block,numeric,numeric_threads,allocation}; do
    [[ -x $test ]] && check "$(basename "$test")" "$test" --gtest_brief=1
  done
  unset MEGAMOE_BACKEND
}

run_reruns() {
  check "$1 reruns" env MEGAMOE_BACKEND=cuda MEGAMOE_RERUNS="$1" "$build/bin/test_numeric" --gtest_filter='*reruns_of*'
}

# finds TOOL BUG REPORT: the tool finds nothing in the program without its bug, and in the one with it says REPORT.
finds() {
  local run=("$sanitizer" --tool "$1" --error-exitcode 9 "$build/bin/cuda_planted_bugs")
  check "$1, no bug planted" "${run[@]}" none
  # shellcheck disable=SC2016
  check "$1 finds a planted bug ($2)" bash -c 'said=$("${@:2}" 2>&1); code=$?; echo "$said"
    ((code == 9)) && [[ $said == *"$1"* ]]' - "$3" "${run[@]}" "$2"
}

run_sanitizer() {
  local sanitizer problems tool
  sanitizer=$(command -v compute-sanitizer || compgen -G '/usr/local/cuda*/bin/compute-sanitizer' | tail -n 1)
  if [[ -z $sanitizer ]]; then
    note "compute-sanitizer" "NOT RUN" "it was not found"
    return
  fi
  finds memcheck out-of-bounds 'Invalid __global__ write'
  finds racecheck race 'Race reported'
  problems=$(grep -v '^#' "$root/problems/sanitizer.txt" | sed 's/ *#.*//; /^$/d')
  for tool in memcheck racecheck; do
    check "$tool, $(wc -l <<< "$problems") problems" env MEGAMOE_BACKEND=cuda MEGAMOE_PROBLEM="$problems" \
      "$sanitizer" --tool "$tool" --error-exitcode 9 "$build/bin/test_numeric" --gtest_filter=rerun.one_problem
  done
}

# bench SHAPE TOKENS ACTIVATIONS ROUTING [OPTION...]: JSON objects one after the other in one file.
bench() {
  local began=$SECONDS
  if "$megamoe" bench --backend cuda --shape "$1" --tokens "$2" --activations "$3" --routing "$4" --json --quiet "${@:5}" \
      > "$out/last.json" 2> "$out/last.log"; then
    cat "$out/last.json" >> "$out/bench.json"
    echo "bench $1, $3 activations, $4: $((SECONDS - began)) s"
  else
    failures=$((failures + 1))
    note "bench $1, $3 activations, $4" "FAILED" "$(tail -n 1 "$out/last.log")"
  fi
}

run_bench() {
  local all=1,4,16,64,256,1024,4096,8192
  bench qwen3-30b-a3b $all bf16 uniform --seconds 0.5
  bench deepseek-v3 $all bf16 uniform --seconds 0.5
  bench deepseek-v4-flash $all bf16 uniform,zipf:1 --seconds 0.5
  bench deepseek-v4-pro $all bf16 uniform --seconds 0.5
  bench deepseek-v4-flash 1,16,64,1024,8192 nvfp4 uniform --seconds 0.5
  bench deepseek-v4-pro 1,64,8192 nvfp4 uniform --seconds 0.5
  bench deepseek-v4-flash 1,4,16 bf16 uniform --seconds 0.5 --graph chain
  bench qwen3-30b-a3b 1,4,16 bf16 uniform --seconds 0.5 --graph chain
}

for part in $parts; do
  case $part in
    checks)
      run_tests
      run_reruns 10000
      run_sanitizer
      ;;
    bench) run_bench ;;
    quick)
      run_reruns 500
      bench deepseek-v4-flash 1,16,64,1024,8192 bf16 uniform --seconds 0.3
      bench qwen3-30b-a3b 1,64,8192 bf16 uniform --seconds 0.3
      ;;
  esac
done
rm -f "$out/last.log" "$out/last.json"

{
  cat "$out/checks.md"
  echo
  if [[ -s $out/bench.json ]]; then
    python3 "$root/scripts/gpu_table.py" "$out/bench.json" ||
      echo "no table of the benchmarks: scripts/gpu_table.py failed (their figures are in bench.json)"
    python3 "$root/scripts/gpu_table.py" --stages "$out/bench.json" > "$out/stages.md"
  fi
} > "$table"
rm -f "$out/checks.md"
printf '\n'
cat "$table"
((failures == 0)) || { echo "gpu_check: $failures failed" >&2; exit 1; }

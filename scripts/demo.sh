#!/usr/bin/env bash
# make demo: a small trained Mixture-of-Experts model, its experts quantised to NVFP4, run on held-out text and judged
# against the BF16 model. Everything it writes is below build/demo.
set -euo pipefail
cd "$(dirname "$0")/.."

megamoe=build/cpu/bin/megamoe
model=examples/models/tiny-qwen3-moe
io=$model/moe_io.safetensors   # what went into and came out of the model's MoE blocks on held-out text
out=build/demo
layers="0 1"
recipes="rne four_six mse bridge"
formats="bf16 int8 nvfp4"

bold() { if [[ -t 1 && -z "${NO_COLOR:-}" ]]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi; }
# Shows a command as a user would type it, and runs it.
show() { printf '$ megamoe %s\n' "$*"; "$megamoe" "$@"; }
# keep NAME ARGUMENTS...: runs a command for its JSON alone.
keep() { "$megamoe" "${@:2}" --quiet --json > "$out/json/$1.json"; }

[[ -x $megamoe ]] || { echo "demo: $megamoe is missing; run make build" >&2; exit 4; }
[[ -f $io ]] || { echo "demo: $io is missing; the clone is not complete" >&2; exit 4; }
rm -rf "$out"
mkdir -p "$out/json"

bold "1. Quantise the experts to NVFP4 (4.5 bits a weight); all other tensors are copied byte for byte"
show quantize "$model" -o "$out/nvfp4-rne" --dialect modelopt --recipe rne --quiet
for recipe in $recipes; do
  keep "quantize-$recipe" quantize "$model" -o "$out/nvfp4-$recipe" --dialect modelopt --recipe "$recipe" --overwrite
done

bold "2. Inspect the result"
show inspect "$out/nvfp4-rne"

bold "3. Run a layer on the hidden states of held-out text, and compare with the BF16 model"
show run "$out/nvfp4-rne" --layer 0 --input "$io:layers.0.mlp.input" --expect "$io:layers.0.mlp.output_f32" \
  --activations int8 --output "$out/layer0.safetensors"
for layer in $layers; do
  states="--layer $layer --input $io:layers.$layer.mlp.input --expect $io:layers.$layer.mlp.output_f32"
  # shellcheck disable=SC2086  # one word an option
  keep "run-plain-$layer-bf16" run "$model" $states
  for recipe in $recipes; do
    for format in $formats; do
      # shellcheck disable=SC2086
      keep "run-$recipe-$layer-$format" run "$out/nvfp4-$recipe" $states --activations "$format" --repeat 21
    done
  done
done

bold "4. A layer of real size beside this machine's read bandwidth (Qwen3-30B-A3B, 32 of its 128 experts, random weights)"
for format in $formats; do
  keep "bench-$format" bench --shape qwen3-30b-a3b --experts 32 --tokens 1,16 --seconds 1 --activations "$format"
done

python3 scripts/demo_report.py "$out"

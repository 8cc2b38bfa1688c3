#!/usr/bin/env python3
"""What make demo found, as tables and as one picture.

usage: demo_report.py DIR      reads DIR/json/*.json, prints tables, writes DIR/megamoe-demo.svg
"""

import json
import pathlib
import sys

from svg import BLUE, FAINT, GREEN, GREY, ORANGE, PURPLE, Bars, Svg, legend

FORMATS = {"bf16": BLUE, "int8": GREEN, "nvfp4": ORANGE}
RECIPES = {"rne": BLUE, "four_six": GREEN, "mse": PURPLE, "bridge": GREY}
KIB = 1024


class Found:
    """The JSON that the commands printed."""

    def __init__(self, folder):
        self.json = {path.stem: json.loads(path.read_text()) for path in (folder / "json").glob("*.json")}
        self.layers = sorted({run["layer"] for name, run in self.json.items() if name.startswith("run-")})

    def run(self, recipe, layer, activations):
        return self.json[f"run-{recipe}-{layer}-{activations}"]

    def error(self, recipe, layer, activations):
        return self.run(recipe, layer, activations)["rel_error"]


def table(head, rows):
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        print("  " + "  ".join([row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]).rstrip())


def print_errors(found):
    tokens = found.run("rne", found.layers[0], "bf16")["tokens"]
    print(f"\nRelative error of each layer's output against the BF16 model ({tokens} tokens of held-out text)")
    head = ["weights, recipe"] + [f"layer {layer} {a}" for layer in found.layers for a in FORMATS]
    rows = [["BF16, as trained"] + [f"{found.error('plain', layer, a):.4f}" if a == "bf16" else "-"
                                    for layer in found.layers for a in FORMATS]]
    rows += [[f"NVFP4, {recipe}"] + [f"{found.error(recipe, layer, a):.4f}" for layer in found.layers for a in FORMATS]
             for recipe in RECIPES]
    table(head, rows)
    print("  bf16, int8, nvfp4: the format in which activations meet the weights. bridge reproduces older outputs.")


def print_sizes(found):
    report = found.json["quantize-rne"]
    print("\nSize of the tensors")
    rows = [[what, f"{report['input' + key] / KIB:.0f} KiB", f"{report['output' + key] / KIB:.0f} KiB",
             f"{report['input' + key] / report['output' + key]:.2f}x smaller"]
            for what, key in (("experts", "_expert_bytes"), ("whole model", "_bytes"))]
    table(["", "before", "after", ""], rows)


def print_times(found):
    read = max(line["read_gb_per_s"] for a in FORMATS for line in found.json[f"bench-{a}"]["results"])
    print("\nTime of a layer of the small model, and its weights per second")
    rows = []
    for layer in found.layers:
        for a in FORMATS:
            run = found.run("rne", layer, a)
            rows.append([f"layer {layer}, {a}", f"{run['time_ms']:.2f} ms", f"{run['bytes_read'] / KIB:.0f} KiB",
                         f"{run['gb_per_s']:.3f}", f"{run['gb_per_s'] / read:.4f}", f"{run['gflop_per_s']:.1f}"])
    table(["", "time", "weights", "GB/s", "share of read", "GFLOP/s"], rows)
    small = found.run("rne", found.layers[0], "bf16")
    print(f"  These {small['bytes_read'] / KIB:.0f} KiB of weights stay in the cache and {small['tokens']} tokens share"
          " them: arithmetic sets the time,")
    print("  so the share of the read bandwidth says little here. At real size and few tokens it says all:")

    print("\nTime of a layer of Qwen3-30B-A3B's size (32 of 128 experts), beside the read bandwidth measured with it")
    rows = []
    for a in FORMATS:
        for line in found.json[f"bench-{a}"]["results"]:
            rows.append([f"{a}, {line['tokens']} token{'s' if line['tokens'] > 1 else ''}",
                         f"{line['median_us'] / 1000:.2f} ms", f"{line['weight_bytes'] / KIB / KIB:.1f} MiB",
                         f"{line['weight_gb_per_s']:.1f}", f"{line['read_gb_per_s']:.1f}", f"{line['read_share']:.2f}",
                         f"{line['gflop_per_s']:.1f}"])
    table(["", "time", "weights", "GB/s", "plain read GB/s", "share", "GFLOP/s"], rows)
    bench = found.json["bench-bf16"]
    print(f"  {bench['cpu']}, {bench['threads']} threads; {bench['plan']}")


def panel(svg, x, y, title, note):
    svg.text(x, y, title, 16, bold=True)
    svg.text(x, y + 19, note, 12, fill=FAINT)


def percent(value):
    return f"{100 * value:g} %"


def draw_formats(svg, found, x, y):
    panel(svg, x, y, "Error against the BF16 model, by activation format", "relative error of a layer's output, NVFP4 recipe rne")
    legend(svg, x, y + 42, [(fill, words) for words, fill in FORMATS.items()])
    most = max(found.error("rne", layer, a) for layer in found.layers for a in FORMATS)
    bars = Bars(svg, (x + 50, y + 70, 400, 200), most * 1.08, percent, [f"layer {layer}" for layer in found.layers])
    for group, layer in enumerate(found.layers):
        for index, (a, fill) in enumerate(FORMATS.items()):
            value = found.error("rne", layer, a)
            bars.bar(group, index, len(FORMATS), value, fill, f"{100 * value:.1f}")


def draw_recipes(svg, found, x, y):
    panel(svg, x, y, "The recipe matters at the same 4.5 bits", "relative error of a layer's output, bf16 activations")
    legend(svg, x, y + 42, [(fill, words) for words, fill in RECIPES.items()])
    most = max(found.error(recipe, layer, "bf16") for layer in found.layers for recipe in RECIPES)
    bars = Bars(svg, (x + 50, y + 70, 400, 200), most * 1.08, percent, [f"layer {layer}" for layer in found.layers])
    for group, layer in enumerate(found.layers):
        for index, (recipe, fill) in enumerate(RECIPES.items()):
            value = found.error(recipe, layer, "bf16")
            bars.bar(group, index, len(RECIPES), value, fill, f"{100 * value:.1f}")


def draw_load(svg, found, x, y):
    run = found.run("rne", found.layers[0], "bf16")
    experts = len(run["expert_load"])
    panel(svg, x, y, "What the router does with held-out text", f"tokens that chose each of {experts} experts; dashed: all alike")
    colours = [BLUE, ORANGE]
    legend(svg, x, y + 42, [(colours[i % 2], f"layer {layer}") for i, layer in enumerate(found.layers)])
    loads = [found.run("rne", layer, "bf16")["expert_load"] for layer in found.layers]
    bars = Bars(svg, (x + 50, y + 70, 400, 200), max(map(max, loads)) * 1.02, lambda tick: f"{tick:g}",
                [str(e) for e in range(experts)])
    for i, load in enumerate(loads):
        for expert, tokens in enumerate(load):
            bars.bar(expert, i, len(loads), tokens, colours[i % 2], gap=0.2)
    alike = y + 70 + 200 - 200 * sum(loads[0]) / experts / bars.top
    svg.line(x + 50, alike, x + 450, alike, FAINT, "5 4")


def draw_sizes(svg, found, x, y):
    report = found.json["quantize-rne"]
    ratio = report["input_expert_bytes"] / report["output_expert_bytes"]
    panel(svg, x, y, f"The experts are {ratio:.2f} times smaller", "MiB of tensors; the rest of the model is copied as it was")
    legend(svg, x, y + 42, [(BLUE, "experts"), (GREY, "all else")])
    most = report["input_bytes"]
    for row, (label, key) in enumerate((("BF16", "input"), ("NVFP4", "output"))):
        top = y + 90 + 85 * row
        experts = 300 * report[f"{key}_expert_bytes"] / most
        rest = 300 * (report[f"{key}_bytes"] - report[f"{key}_expert_bytes"]) / most
        svg.text(x + 60, top + 34, label, 13, "end")
        svg.rect(x + 70, top, experts, 54, BLUE)
        svg.rect(x + 70 + experts, top, rest, 54, GREY)
        svg.text(x + 80 + experts + rest, top + 34, f"{report[f'{key}_bytes'] / KIB / KIB:.2f} MiB", 13)


def draw(found, path):
    svg = Svg(1040, 800)
    run = found.run("rne", found.layers[0], "bf16")
    svg.text(40, 44, "megamoe: a trained Mixture-of-Experts model with NVFP4 experts", 21, bold=True)
    svg.text(40, 68, f"{run['problem']} · {len(found.layers)} layers · {run['tokens']} tokens of held-out text", 13, fill=FAINT)
    draw_formats(svg, found, 40, 115)
    draw_recipes(svg, found, 550, 115)
    draw_load(svg, found, 40, 470)
    draw_sizes(svg, found, 550, 470)
    svg.save(path)


def main():
    folder = pathlib.Path(sys.argv[1])
    found = Found(folder)
    print_errors(found)
    print_sizes(found)
    print_times(found)
    path = folder / "megamoe-demo.svg"
    draw(found, path)
    print(f"\nPicture: {path}")


if __name__ == "__main__":
    sys.exit(main())

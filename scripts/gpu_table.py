#!/usr/bin/env python3
"""Turns records of `megamoe bench --backend cuda --json` into Markdown tables, as they lie in bench/results/.

usage: gpu_table.py [--stages] FILE...     each file holds JSON objects, one after the other
"""

import argparse
import json
import pathlib
import sys

COLUMNS = ["tokens", "us", "p10", "p90", "experts", "GB/s", "of read", "TFLOP/s", "of peak", "floor us", "of floor"]


def records(text):
    decoder = json.JSONDecoder()
    text = text.strip()
    while text:
        record, end = decoder.raw_decode(text)
        yield record
        text = text[end:].lstrip()


def markdown(columns, rows, left=0):
    """The first `left` columns are words, the others numbers."""
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "".join("---|" if i < left else "--:|" for i in range(len(columns)))
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def short(value):
    """Three significant digits or the whole number, whichever is more."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def share(value):
    return "" if value is None else f"{value:.3f}"


def result_row(result):
    floor = result.get("floor_us")
    return [str(result["tokens"]), short(result["median_us"]), short(result["p10_us"]), short(result["p90_us"]),
            f"{result['active_experts']:.1f}", f"{result['weight_gb_per_s']:.0f}", share(result["read_share"]),
            short(result["gflop_per_s"] / 1000), share(result.get("peak_share")), "" if floor is None else short(floor),
            share(result.get("floor_share"))]


def routings(record):
    return list(dict.fromkeys(result["routing"] for result in record["results"]))


def title(record, routing):
    graph = ", one graph of all batches" if record.get("graph") == "chain" else ""
    return f"**{record['shape'] or record['problem']}**: `{record['problem']}`, {routing} routing{graph}"


def stage_rows(record, routing):
    for result in record["results"]:
        for stage in result["stages"]:
            if result["routing"] == routing:
                yield [str(result["tokens"]), stage["stage"], short(stage["us"]), share(stage["share"])]


def floors_line(record):
    floors = record["floors"]
    matrices = (f"{floors['bf16_tflop_per_s']:.0f} TFLOP/s with BF16 matrices ({floors['bf16_source']})"
                if floors["bf16_tflop_per_s"] else f"BF16 matrices {floors['bf16_source']}")
    return f"{floors['read_gb_per_s']:.0f} GB/s reading, {floors['copy_gb_per_s']:.0f} GB/s copying, {matrices}"


def lines(found, stages):
    machines = list(dict.fromkeys(record["gpu"] for record in found))
    if len(machines) > 1:
        raise ValueError("records of several machines are not for one table: " + "; ".join(machines))
    yield f"{machines[0]}."
    yield "Floors, measured in the process of each table: those of the first and of the last are"
    for record in dict.fromkeys([floors_line(found[0]), floors_line(found[-1])]):
        yield f"- {record}"
    yield ""
    yield ("Medians of CUDA-graph replays; experts: distinct ones of a batch, mean; GB/s and of read: their weights, read "
           "once; of floor: the longer one of reading them and of the products at the matrix rate. "
           f"Judged by the oracle on the timed batches: {checked(found)} of every size.")
    for record in found:
        for routing in routings(record):
            yield ""
            yield title(record, routing)
            yield ""
            yield from markdown(COLUMNS, [result_row(r) for r in record["results"] if r["routing"] == routing])
            rows = list(stage_rows(record, routing))
            if stages and rows:
                yield ""
                yield "Stages, each alone between two events:"
                yield ""
                yield from markdown(["tokens", "stage", "us", "share"], rows)


def checked(found):
    counts = sorted({result["verified_tokens"] for record in found for result in record["results"]})
    most = f"{counts[-1]} token{'s' if counts[-1] > 1 else ''}"
    return most if len(counts) == 1 else f"{counts[0]} to {most}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", action="store_true", help="with the times of each stage")
    parser.add_argument("files", nargs="+", metavar="FILE", type=pathlib.Path)
    arguments = parser.parse_args()
    try:
        found = [record for path in arguments.files for record in records(path.read_text())]
        if not found:
            raise ValueError("the files hold no record")
        print("\n".join(lines(found, arguments.stages)))
    except (OSError, ValueError, KeyError) as error:
        reason = f"a record has no {error}" if isinstance(error, KeyError) else error
        print(f"gpu_table: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

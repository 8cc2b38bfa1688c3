"""scripts/gpu_table.py: from records of `megamoe bench` to Markdown."""

import copy
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "gpu_table.py"

RESULT = {
    "tokens": 1, "routing": "uniform", "verified_tokens": 1, "median_us": 30.25, "p10_us": 30.0, "p90_us": 31.0,
    "active_experts": 6.0, "weight_gb_per_s": 2808.5, "read_share": 0.9002, "gflop_per_s": 9985.0, "peak_share": 0.0128,
    "floor_us": 27.2, "floor_share": 0.899,
    "stages": [{"stage": "gemm1", "us": 19.0, "share": 0.6}, {"stage": "gemm2", "us": 12.5, "share": 0.4}],
}
RECORD = {
    "gpu": "A GPU, 132 SMs", "shape": "deepseek-v4-flash", "problem": "h=4096 i=2048 e=256 k=6", "graph": "call",
    "floors": {"read_gb_per_s": 3120.0, "copy_gb_per_s": 3030.0, "bf16_tflop_per_s": 779.0, "bf16_source": "a library"},
    "results": [RESULT],
}


class Table(unittest.TestCase):
    def call(self, *texts, options=()):
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for number, text in enumerate(texts):
                files.append(pathlib.Path(folder, f"{number}.json"))
                files[-1].write_text(text)
            return subprocess.run([sys.executable, SCRIPT, *options, *files], capture_output=True, text=True, check=False)

    def table(self, *records, options=()):
        done = self.call("".join(json.dumps(record, indent=2) + "\n" for record in records), options=options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_a_line_a_result(self):
        other = copy.deepcopy(RESULT)
        other.update(tokens=8192, verified_tokens=4, median_us=3970.4, gflop_per_s=623000.0)
        record = dict(RECORD, results=[RESULT, other])
        text = self.table(record)
        self.assertIn("| 1 | 30.2 | 30.0 | 31.0 | 6.0 | 2808 | 0.900 | 9.98 | 0.013 | 27.2 | 0.899 |", text)
        self.assertIn("| 8192 | 3970 | ", text)
        self.assertIn("3120 GB/s reading, 3030 GB/s copying, 779 TFLOP/s with BF16 matrices (a library)", text)
        self.assertIn("1 to 4 tokens of every size", text)
        widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
        self.assertEqual(widths, {12})

    def test_a_table_for_each_routing_and_record(self):
        zipf = dict(RESULT, routing="zipf:1")
        text = self.table(dict(RECORD, results=[RESULT, zipf]), dict(RECORD, graph="chain"))
        self.assertEqual(text.count("| tokens |"), 3)
        self.assertIn("zipf:1 routing", text)
        self.assertEqual(text.count("one graph of all batches"), 1)

    def test_stages_only_when_asked_for(self):
        self.assertNotIn("gemm1", self.table(RECORD))
        self.assertIn("| 1 | gemm1 | 19.0 | 0.600 |", self.table(RECORD, options=["--stages"]))

    def test_no_figure_where_the_matrix_rate_is_not_known(self):
        result = {key: value for key, value in RESULT.items() if key not in ("peak_share", "floor_us", "floor_share")}
        floors = dict(RECORD["floors"], bf16_tflop_per_s=0.0, bf16_source="not measured: no library")
        text = self.table(dict(RECORD, floors=floors, results=[result]))
        self.assertIn("| 9.98 |  |  |  |", text)
        self.assertIn("BF16 matrices not measured: no library", text)

    def test_refuses_what_it_can_not_put_into_one_table(self):
        for text, reason in [("", "no record"), ("{", "gpu_table: "), (json.dumps({"gpu": "x"}), "a record has no"),
                             (json.dumps(RECORD) + json.dumps(dict(RECORD, gpu="Another")), "several machines")]:
            done = self.call(text)
            self.assertEqual((done.returncode, done.stdout), (1, ""), text)
            self.assertIn(reason, done.stderr)


if __name__ == "__main__":
    unittest.main()

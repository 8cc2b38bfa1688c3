"""prepare, and what run and bench do with its files."""

import os
import unittest

from harness import EXPERTS, HIDDEN, INTER, LAYERS, CommandLine


class Prepare(CommandLine):
    quantized = True

    def prepared(self, cache, *more):
        return self.json("prepare", "nvfp4", "-o", cache, "--activations", "int8", "--quiet", *more)

    def run_layer(self, *more):
        self.json("run", "nvfp4", "--layer", 1, "--input", "states.safetensors:x", "--activations", "int8", "--backend",
                  "cpu", *more)

    def setUp(self):
        cpu = next(backend for backend in self.json("info")["backends"] if backend["name"] == "cpu")
        if not cpu["usable"]:
            self.skipTest(cpu["refusal"])

    def test_a_file_for_each_layer(self):
        files = self.prepared("all")["files"]
        self.assertEqual([file["layer"] for file in files], list(range(LAYERS)))
        for file in files:
            self.assertEqual((self.folder / file["file"]).stat().st_size, file["bytes"])
        self.assertEqual([file["layer"] for file in self.prepared("one", "--layer", 1)["files"]], [1])

    def test_the_rate_is_that_of_what_went_in(self):
        report = self.prepared("rates")
        # Three matrices an expert of 4 bits a weight and a scale for 16.
        self.assertEqual(report["input_bytes"], LAYERS * EXPERTS * 3 * HIDDEN * INTER * 9 // 16)
        self.assertAlmostEqual(report["input_gb_per_s"] * report["seconds"], report["input_bytes"] * 1e-9)
        text = self.ok("prepare", "nvfp4", "-o", "rates", "--replace", "--quiet")
        self.assertRegex(text, r"rate +\S+ KiB in .*s, \d+\.\d+ GB/s")

    def test_mapped_weights_give_the_same_bytes(self):
        self.prepared("cache")
        self.run_layer("--output", "fresh.safetensors")
        self.run_layer("--output", "mapped.safetensors", "--cache", "cache")
        self.assertEqual((self.folder / "fresh.safetensors").read_bytes(),
                         (self.folder / "mapped.safetensors").read_bytes())
        bench = self.json("bench", "nvfp4", "--layer", 1, "--activations", "int8", "--cache", "cache", "--tokens", 2,
                          "--seconds", 0.02, "--repeat", 1, "--backend", "cpu", "--quiet")
        self.assertEqual(bench["backend"], "cpu")

    def test_files_are_not_written_over_unasked(self):
        self.prepared("kept")
        self.refused(4, "layer.0", "prepare", "nvfp4", "-o", "kept", "--activations", "int8")
        self.prepared("kept", "--replace")

    def test_other_files_are_refused_with_a_sentence(self):
        self.prepared("stale")
        arguments = ["run", "nvfp4", "--layer", 1, "--input", "states.safetensors:x", "--backend", "cpu", "--cache",
                     "stale", "--activations"]
        self.refused(4, "layer.1.bf16.prepared", *arguments, "bf16")  # not made
        # Another version of the layout: it stands in the file's header.
        path = self.folder / "stale/layer.1.int8.prepared"
        data = path.read_bytes()
        self.assertEqual(data.count(b'"layout": 2,'), 1)
        path.write_bytes(data.replace(b'"layout": 2,', b'"layout": 1,'))
        self.refused(3, "prepare the weights again", *arguments, "int8")
        path.write_bytes(data)
        # The checkpoint was changed since.
        os.utime(self.folder / "nvfp4/model.safetensors", (1, 1))
        self.refused(2, "made of", *arguments, "int8")


if __name__ == "__main__":
    unittest.main()

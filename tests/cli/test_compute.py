"""run, plan, verify and bench."""

import json
import math
import os
import unittest
import xml.etree.ElementTree

from harness import HIDDEN, LAYERS, TOKENS, TOP_K, CommandLine, floats, read_safetensors


class Run(CommandLine):
    quantized = True

    def run_layer(self, model, *more, tensor="x"):
        return self.json("run", model, "--layer", 1, "--input", f"states.safetensors:{tensor}", *more)

    def tearDown(self):
        for path in self.folder.glob("y*"):
            path.unlink()

    def test_output_has_the_name_type_and_shape(self):
        for dtype, name in (("bf16", "BF16"), ("f32", "F32")):
            self.run_layer("nvfp4", "--output", "y.safetensors", "--output-dtype", dtype)
            output = read_safetensors(self.folder / "y.safetensors")
            self.assertEqual(list(output), ["output"])
            self.assertEqual(output["output"][:2], (name, [TOKENS, HIDDEN]))
            self.assertGreater(max(map(abs, floats(output["output"]))), 0.01)

    def test_errors_against_an_expected_tensor(self):
        self.run_layer("model", "--output", "y.safetensors", "--output-dtype", "f32")
        same = self.run_layer("model", "--expect", "y.safetensors:output")
        self.assertEqual((same["rel_error"], same["cosine"], same["max_abs"]), (0, 1, 0))
        quantized = self.run_layer("nvfp4", "--expect", "y.safetensors:output", "--output", "y2.safetensors",
                                   "--output-dtype", "f32")
        want = floats(read_safetensors(self.folder / "y.safetensors")["output"])
        got = floats(read_safetensors(self.folder / "y2.safetensors")["output"])
        norm = math.sqrt(sum(v * v for v in want))
        error = math.sqrt(sum((a - b) ** 2 for a, b in zip(got, want))) / norm
        self.assertAlmostEqual(quantized["rel_error"], error, places=9)
        self.assertAlmostEqual(quantized["max_abs"], max(abs(a - b) for a, b in zip(got, want)), places=9)
        dot = sum(a * b for a, b in zip(got, want))
        self.assertAlmostEqual(quantized["cosine"], dot / norm / math.sqrt(sum(v * v for v in got)), places=9)
        self.assertLess(quantized["rel_error"], 0.3)

    def test_max_error_is_a_check(self):
        self.run_layer("model", "--output", "y.safetensors")
        arguments = ["run", "nvfp4", "--layer", "1", "--input", "states.safetensors:x", "--expect",
                     "y.safetensors:output", "--max-error"]
        self.assertEqual(self.call(*arguments, "1e-6").returncode, 1)
        self.assertEqual(self.call(*arguments, "0.9").returncode, 0)

    def test_every_backend_and_format(self):
        backends = [backend["name"] for backend in self.json("info")["backends"] if backend["usable"]]
        self.run_layer("model", "--output", "y.safetensors", "--output-dtype", "f32")
        for backend in backends:
            for activations in ("bf16", "nvfp4", "int8"):
                with self.subTest(backend=backend, activations=activations):
                    done = self.run_layer("nvfp4", "--backend", backend, "--activations", activations, "--threads", 1,
                                          "--expect", "y.safetensors:output")
                    self.assertEqual((done["backend"], done["activations"], done["threads"]), (backend, activations, 1))
                    self.assertLess(done["rel_error"], 0.4)
                    self.assertGreater(done["time_ms"], 0)
                    self.assertGreater(done["bytes_read"], 0)
                    self.assertGreater(done["gflop_per_s"], 0)

    def test_refusals_are_told_and_a_forced_backend_is_not_replaced(self):
        refused = self.call("run", "model", "--layer", 1, "--input", "states.safetensors:x", "--activations", "int8",
                            "--backend", "cpu")
        if refused.returncode == 0:
            self.skipTest("this cpu backend takes BF16 weights with int8 activations")
        self.assertEqual(refused.returncode, 3, refused.stderr)

    def test_other_types_are_rounded_with_a_message(self):
        done = self.call("run", "nvfp4", "--layer", 1, "--input", "states.safetensors:x32", "--output", "y.safetensors")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("rounded from F32 to BF16", done.stderr)
        self.run_layer("nvfp4", "--output", "y2.safetensors")
        self.assertEqual(read_safetensors(self.folder / "y.safetensors"), read_safetensors(self.folder / "y2.safetensors"))

    def test_poisoned_tokens_are_counted_and_their_output_is_nan(self):
        done = self.run_layer("nvfp4", "--output", "y.safetensors", tensor="poisoned")
        self.assertEqual(done["poisoned_tokens"], 1)
        values = floats(read_safetensors(self.folder / "y.safetensors")["output"])
        self.assertTrue(all(math.isnan(v) for v in values[:HIDDEN]))
        self.assertFalse(any(math.isnan(v) for v in values[HIDDEN:]))

    def test_no_tokens(self):
        done = self.run_layer("nvfp4", "--output", "y.safetensors", tensor="none")
        self.assertEqual(done["tokens"], 0)
        self.assertEqual(read_safetensors(self.folder / "y.safetensors")["output"][1], [0, HIDDEN])

    def test_expert_load_counts_every_choice(self):
        self.assertEqual(sum(self.run_layer("nvfp4")["expert_load"]), TOKENS * TOP_K)

    def test_mistakes_leave_no_output(self):
        base = ["run", "nvfp4", "--layer", "1", "--output", "y.safetensors", "--input"]
        self.refused(4, "no tensor 'z'", *base, "states.safetensors:z")
        self.refused(4, f"expected [tokens, {HIDDEN}]", *base, "states.safetensors:narrow")
        self.refused(2, "FILE:TENSOR", *base, "states.safetensors")
        self.refused(4, "narrow", *base, "states.safetensors:x", "--expect", "states.safetensors:narrow")
        self.refused(2, "layer", "run", "nvfp4", "--layer", 7, "--input", "states.safetensors:x")
        self.assertEqual(list(self.folder.glob("y*")), [])

    def test_what_is_read_is_not_written_over(self):
        before = (self.folder / "states.safetensors").read_bytes()
        self.refused(2, "read in this run", "run", "nvfp4", "--layer", 1, "--input", "states.safetensors:x", "--output",
                     "states.safetensors")
        self.refused(2, "model's directory", "run", "nvfp4", "--layer", 1, "--input", "states.safetensors:x",
                     "--output", "nvfp4/y.safetensors")
        self.assertEqual((self.folder / "states.safetensors").read_bytes(), before)
        self.assertFalse((self.folder / "nvfp4/y.safetensors").exists())

    def test_a_failed_write_leaves_nothing(self):
        self.refused(4, "nowhere", "run", "nvfp4", "--layer", 1, "--input", "states.safetensors:x", "--output",
                     "nowhere/y.safetensors")

    def test_people_read_time_rate_and_error(self):
        self.run_layer("nvfp4", "--output", "y.safetensors")
        text = self.ok("run", "nvfp4", "--layer", 1, "--input", "states.safetensors:x", "--expect", "y.safetensors:output")
        for words in ("time", "weights read", "GFLOP/s", "relative", "cosine"):
            self.assertIn(words, text)


class Plan(CommandLine):
    quantized = True

    def test_of_a_problem(self):
        plan = self.json("plan", "--problem", "h=64 i=32 e=4 k=2 a=int8", "--tokens", 7)
        self.assertEqual(plan["problem"], "h=64 i=32 e=4 k=2 w=nvfp4 a=int8")
        self.assertEqual(plan["max_tokens"], 7)
        self.assertGreater(plan["prepared_bytes"], 0)
        self.assertGreater(plan["workspace_bytes"], 0)
        self.assertEqual(plan["candidates"][-1], {"backend": "reference", "takes": True, "refusal": ""})

    def test_of_a_shape_and_of_a_checkpoint(self):
        plan = self.json("plan", "--shape", "qwen3-30b-a3b", "--experts", 8, "--activations", "nvfp4")
        self.assertEqual(plan["problem"], "h=2048 i=768 e=8 k=8 w=nvfp4 a=nvfp4")
        plan = self.json("plan", "nvfp4", "--layer", LAYERS - 1)
        self.assertEqual(plan["problem"], "h=64 i=32 e=4 k=2 w=nvfp4 a=bf16")

    def test_every_refusal_has_its_reason(self):
        plan = self.json("plan", "--problem", "h=64 i=32 e=4 k=2 w=bf16")
        for candidate in plan["candidates"]:
            self.assertEqual(candidate["takes"], candidate["refusal"] == "")


class Verify(CommandLine):
    quantized = True

    def test_problems_pass_on_every_backend(self):
        for text in ("t=9 e=4 k=2 h=64 i=48 w=nvfp4 a=nvfp4", "t=5 e=4 k=2 h=80 i=32 w=nvfp4 a=int8 route=skew",
                     "t=3 e=2 k=1 h=64 i=32 w=bf16 seed=5 route=dropped", "t=0 e=2 k=1 h=64 i=32",
                     "t=4 e=3 k=2 h=64 i=32 act=oai limit=7 bias shared=32:bf16:gated topk=before"):
            with self.subTest(text):
                result = self.json("verify", text)
                self.assertTrue(result["passed"])
                ran = [check for check in result["checks"] if not check["refusal"]]
                self.assertIn("reference", [check["backend"] for check in ran])
                if not text.startswith("t=0"):
                    self.assertGreater(ran[0]["output_elements"], 0)
                    self.assertGreater(ran[0]["worst_share_of_bound"], 0)

    def test_a_family_names_its_first_backend_that_can(self):
        problem = "t=2 e=2 k=1 h=64 i=32"
        hopper = next(backend for backend in self.json("info")["backends"] if backend["name"] == "cuda/sm90")
        for arguments in (["verify", problem], ["plan", "--problem", problem[4:]],
                          ["run", "nvfp4", "--layer", 0, "--input", "states.safetensors:x"]):
            if hopper["usable"]:
                self.assertIn("cuda/sm90", self.ok(*arguments, "--backend", "cuda"))
            else:
                self.refused(3, hopper["refusal"], *arguments, "--backend", "cuda")
        self.refused(2, "--backend", "verify", problem, "--backend", "sm90")

    def test_an_instruction_set_is_refused_where_none_is_chosen(self):
        """But MEGAMOE_ISA is a default of backend cpu, and nothing to others."""
        problem = "t=2 e=2 k=1 h=64 i=32"
        layer = ["--problem", problem[4:], "--backend", "reference"]
        for arguments in (["verify", problem, "--backend", "reference"], ["plan", *layer], ["bench", *layer],
                          ["run", "nvfp4", "--layer", 0, "--input", "states.safetensors:x", "--backend", "reference"]):
            self.refused(2, "isa: asked AVX2 of backend reference, which has no choice of them, accepted: of backend cpu",
                         *arguments, "--isa", "AVX2")
        self.refused(2, "--isa AVX2: asked with --backend auto", "verify", problem, "--isa", "AVX2")
        done = self.call("verify", problem, "--backend", "reference", MEGAMOE_ISA="AVX1024")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_one_backend(self):
        result = self.json("verify", "t=2 e=2 k=1 h=64 i=32", "--backend", "reference")
        self.assertEqual([check["backend"] for check in result["checks"]], ["reference"])

    def test_a_checkpoint(self):
        result = self.json("verify", "nvfp4")
        self.assertTrue(result["passed"])
        layers = {check["what"] for check in result["checks"]}
        self.assertEqual(len(layers), 3 * LAYERS)  # three activation formats
        self.assertIn("passed", self.ok("verify", "model"))

    def test_a_broken_checkpoint_fails(self):
        config = self.folder / "model2"
        os.mkdir(config)
        data = json.loads((self.folder / "model/config.json").read_text())
        data["num_experts"] = 5
        (config / "config.json").write_text(json.dumps(data))
        (config / "model.safetensors").write_bytes((self.folder / "model/model.safetensors").read_bytes())
        done = self.call("verify", "model2", "--json")
        self.assertEqual(done.returncode, 1)
        self.assertFalse(json.loads(done.stdout)["passed"])


class Bench(CommandLine):
    def test_figures_of_each_number_of_tokens(self):
        bench = self.json("bench", "--shape", "qwen3-30b-a3b", "--experts", 8, "--tokens", "1,3", "--seconds", 0.05,
                          "--activations", "int8", "--quiet")
        self.assertEqual([result["tokens"] for result in bench["results"]], [1, 3])
        one = bench["results"][0]
        self.assertEqual(one["active_experts"], 8)
        self.assertEqual(one["weight_bytes"], 8 * 3 * 2048 * 768 * 9 // 16)
        self.assertAlmostEqual(one["weight_gb_per_s"], one["weight_bytes"] / one["median_us"] / 1e3, places=6)
        # The share is that of each round to its own readings, so the quotient of the medians is only near it.
        self.assertLess(abs(one["read_share"] / (one["weight_gb_per_s"] / one["read_gb_per_s"]) - 1), 0.9)
        self.assertAlmostEqual(one["gflop_per_s"], 2 * 3 * 2048 * 768 * 8 / one["median_us"] / 1e3, places=6)

    def test_ratios_are_there_and_sane(self):
        """No threshold of speed: a machine may be busy. But a share is above nothing, and no machine's cache is 50 times
        as fast as its memory."""
        if not self.json("info")["kernels"]:
            self.skipTest("this build has no cpu backend")
        bench = self.json("bench", "--shape", "qwen3-30b-a3b", "--experts", 8, "--tokens", "1,32", "--seconds", 0.1,
                          "--activations", "int8", "--backend", "cpu", "--repeat", 3, "--quiet")
        self.assertEqual(bench["rounds"], 3)
        for result in bench["results"]:
            self.assertTrue(0 < result["read_share"] < 50, result["read_share"])
            if bench["int8_probe"]:
                self.assertTrue(0 < result["peak_share"] < 2, result["peak_share"])
                self.assertTrue(0 < result["floor_share"] < 50, result["floor_share"])
            self.assertGreaterEqual(result["repeats"], 1)
            self.assertGreaterEqual(result["dropped"], 0)
            self.assertEqual([stage["stage"] for stage in result["stages"]],
                             ["order and quantize", "gemm 1 and activation", "gemm 2", "combine"])

    def test_work_of_quantize_and_prepare_beside_what_memory_gives(self):
        """No threshold of speed here either: the figures are there, and no work takes less than a hundredth of its floor."""
        if not self.json("info")["kernels"]:
            self.skipTest("this build has no cpu backend")
        weights = 8 * 3 * 2048 * 768
        for stage, read, written in (("quantize", 2 * weights, weights * 9 // 16),
                                     ("prepare", weights * 9 // 16, weights * 9 // 16)):
            bench = self.json("bench", "--stage", stage, "--shape", "qwen3-30b-a3b", "--experts", 8, "--seconds", 0.05,
                              "--repeat", 3, "--threads", 2, "--quiet")
            self.assertEqual((bench["stage"], bench["input_bytes"], bench["output_bytes"]), (stage, read, written))
            self.assertEqual(bench["floor"], {"quantize": "read", "prepare": "copy"}[stage])
            self.assertTrue(0.01 < bench["over_floor"] < 10000, bench["over_floor"])
            self.assertAlmostEqual(bench["over_floor"] * bench["floor_share"], 1)
            self.assertAlmostEqual(bench["input_gb_per_s"] * bench["median_us"], read * 1e-3, delta=1)
            self.assertGreaterEqual(bench["repeats"], 1)
            self.assertLessEqual(bench["min_us"], bench["median_us"])
        text = self.ok("bench", "--stage", "prepare", "--problem", "h=64 i=64 e=8 k=2", "--seconds", 0.02, "--repeat", 1,
                       "--quiet")
        self.assertIn("times as long", text)
        for option in (["--csv"], ["--tokens", 1], ["--routing", "zipf:1"], ["--graph", "chain"]):
            self.refused(2, f"--stage quantize: asked with {option[0]}", "bench", "--stage", "quantize", "--problem",
                         "h=64 i=64 e=8 k=2", *option)
        self.refused(2, "--backend", "bench", "--stage", "prepare", "--problem", "h=64 i=64 e=8 k=2", "--backend", "cuda")

    def test_a_result_for_each_routing(self):
        bench = self.json("bench", "--problem", "h=64 i=64 e=32 k=2 a=int8", "--tokens", 24,
                          "--routing", "uniform,zipf:3", "--seconds", 0.05, "--quiet")
        uniform, zipf = bench["results"]
        self.assertEqual((uniform["routing"], zipf["routing"]), ("uniform", "zipf:3"))
        self.assertLess(2 * zipf["active_experts"], uniform["active_experts"])
        self.assertEqual(uniform["verified_tokens"], 2)
        self.assertLessEqual(uniform["p10_us"], uniform["median_us"])
        self.assertLessEqual(uniform["median_us"], uniform["p90_us"])
        self.assertNotIn("floors", bench)
        self.refused(2, "zipf:S", "bench", "--problem", "h=64 i=64 e=32 k=2 a=int8", "--routing", "uniform,popular")

    def test_csv_has_the_figures_of_the_json(self):
        lines = self.ok("bench", "--problem", "h=64 i=64 e=8 k=2 a=int8", "--tokens", "1,5", "--seconds", 0.02,
                        "--repeat", 2, "--quiet", "--csv").splitlines()
        self.assertEqual(len(lines), 3)
        titles = lines[0].split(",")
        for name in ("problem", "plan", "tokens", "median_us", "dropped", "read_share"):
            self.assertIn(name, titles)
        self.refused(2, "--csv", "bench", "--problem", "h=64 i=64 e=8 k=2", "--csv", "--json")

    def test_what_only_a_device_understands_is_refused_on_the_host(self):
        for option in (["--graph", "chain"], ["--bf16-tflops", 700]):
            self.refused(2, f"{option[0]}", "bench", "--problem", "h=64 i=64 e=8 k=2", "--backend", "cpu", *option)

    def test_what_only_the_host_understands_is_refused_on_a_device(self):
        """By the name of the backend: a machine without the device says the same."""
        self.refused(2, "--repeat 3: asked of a backend on a CUDA device", "bench", "--problem", "h=64 i=64 e=8 k=2",
                     "--backend", "cuda", "--repeat", 3)

    def test_the_picture_is_svg_with_a_point_for_each_result(self):
        self.ok("bench", "--problem", "h=64 i=64 e=8 k=2 a=int8", "--tokens", "1,5,9", "--seconds", 0.02, "--repeat", 2,
                "--quiet", "--routing", "uniform,zipf:1", "--plot", "times.svg")
        text = (self.folder / "times.svg").read_text()
        root = xml.etree.ElementTree.fromstring(text)
        self.assertTrue(root.tag.endswith("svg"))
        self.assertEqual(text.count('r="3.5"'), 2 * 2 * 3)
        for words in ("tokens of a call", "Time of a layer", "Share of the floor", "zipf:1"):
            self.assertIn(words, text)
        self.refused(4, "nowhere", "bench", "--problem", "h=64 i=64 e=8 k=2 a=int8", "--seconds", 0.02, "--repeat", 1,
                     "--tokens", 1, "--plot", "nowhere/times.svg")

    def test_a_forced_instruction_set_is_the_one_that_runs(self):
        sets = self.json("info")["kernels"]
        for isa in sets:
            for arguments, environment in ((["--isa", isa.lower()], {}), ([], {"MEGAMOE_ISA": isa})):
                done = self.call("bench", "--problem", "h=64 i=64 e=8 k=2 a=int8", "--tokens", 3, "--seconds", 0.02,
                                 "--repeat", 1, "--backend", "cpu", "--quiet", "--json", *arguments, **environment)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn(f"cpu: {isa},", json.loads(done.stdout)["plan"])
        if sets:
            self.refused(3, "AVX1024", "bench", "--problem", "h=64 i=64 e=8 k=2", "--backend", "cpu", "--isa", "AVX1024")

    def test_too_few_experts(self):
        self.refused(2, "at least the 8", "bench", "--shape", "qwen3-30b-a3b", "--experts", 4)

    def test_more_than_the_memory(self):
        self.refused(5, "--experts", "bench", "--problem", "h=65536 i=65536 e=65536 k=2")


if __name__ == "__main__":
    unittest.main()

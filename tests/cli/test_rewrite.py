"""inspect, quantize and convert on a small model."""

import json
import os
import pty
import shutil
import subprocess
import unittest

from harness import EXPERTS, LAYERS, MEGAMOE, CommandLine, read_safetensors, tree


class Rewrite(CommandLine):
    def setUp(self):
        self.before = tree(self.folder / "model")

    def tearDown(self):
        self.assertEqual(tree(self.folder / "model"), self.before, "the input has changed")
        for path in self.folder.glob("out*"):
            shutil.rmtree(path)

    def quantize(self, out, *more):
        return self.json("quantize", "model", "-o", out, *more)

    def test_every_recipe_and_dialect_gives_a_model_without_problems(self):
        for dialect in ("modelopt", "compressed-tensors"):
            for recipe in ("rne", "bridge", "four_six", "mse"):
                with self.subTest(dialect=dialect, recipe=recipe):
                    out = f"out-{dialect}-{recipe}"
                    report = self.quantize(out, "--dialect", dialect, "--recipe", recipe)
                    self.assertEqual(report["matrices"], 3 * EXPERTS * LAYERS)
                    self.assertLess(report["output_expert_bytes"], 0.3 * report["input_expert_bytes"])
                    self.assertLess(report["layers"][0]["error"]["gate"]["relative"], 0.15)
                    self.assertAlmostEqual(report["input_gb_per_s"] * report["seconds"], report["input_bytes"] * 1e-9)
                    inspected = self.json("inspect", out)
                    self.assertEqual((inspected["dialect"], inspected["problems"]), (dialect, []))

    def test_what_is_not_an_expert_is_copied_byte_for_byte(self):
        self.quantize("out")
        old = read_safetensors(self.folder / "model/model.safetensors")
        new = {}
        for path in (self.folder / "out").glob("*.safetensors"):
            new.update(read_safetensors(path))
        kept = [name for name in old if ".experts." not in name]
        self.assertTrue(kept)
        for name in kept:
            self.assertEqual(new[name], old[name], name)

    def test_lower_error_recipes(self):
        errors = {recipe: self.quantize(f"out-{recipe}", "--recipe", recipe)["layers"][0]["error"]["up"]["relative"]
                  for recipe in ("rne", "bridge", "four_six", "mse")}
        self.assertLess(errors["mse"], errors["rne"])
        self.assertLess(errors["four_six"], errors["rne"])
        self.assertLess(errors["rne"], errors["bridge"])

    def test_convert_there_and_back_gives_the_same_codes_and_scales(self):
        self.quantize("out")
        self.ok("convert", "out", "-o", "out-ct", "--dialect", "compressed-tensors")
        self.ok("convert", "out-ct", "-o", "out-back", "--dialect", "modelopt")
        first = read_safetensors(self.folder / "out/model.safetensors")
        back = read_safetensors(self.folder / "out-back/model.safetensors")
        self.assertEqual(sorted(first), sorted(back))
        for name, tensor in first.items():
            self.assertEqual(tensor[2], back[name][2], name)

    def test_tables_for_people(self):
        text = self.ok("quantize", "model", "-o", "out")
        self.assertIn("relative error", text)
        self.assertRegex(text, r"rate +\S+ KiB in .*s, \d+\.\d+ GB/s")
        self.assertIn("no problem found", self.ok("inspect", "out"))

    def test_an_output_that_holds_files_is_refused_and_kept(self):
        out = self.folder / "out"
        out.mkdir()
        (out / "mine.txt").write_text("mine")
        self.refused(2, "out", "quantize", "model", "-o", "out")
        self.assertEqual([path.name for path in out.iterdir()], ["mine.txt"])

    def test_output_is_input_is_refused(self):
        self.refused(2, "model", "quantize", "model", "-o", "model")
        self.refused(2, "model", "quantize", "model", "-o", "model/inside")

    def test_a_quantised_model_is_not_quantised_again(self):
        self.quantize("out")
        self.refused(3, "out", "quantize", "out", "-o", "out2")
        self.assertFalse((self.folder / "out2/config.json").exists())

    def test_resume_and_overwrite_exclude_each_other(self):
        self.refused(2, "--overwrite", "quantize", "model", "-o", "out", "--resume", "--overwrite")

    def test_messages_go_to_stderr_and_quiet_silences_them(self):
        done = self.call("quantize", "model", "-o", "out", "--json")
        json.loads(done.stdout)
        self.assertIn("quantising: 100%", done.stderr)
        self.assertEqual(self.call("quantize", "model", "-o", "out2", "--quiet").stderr, "")

    def test_a_bar_on_a_terminal(self):
        ours, theirs = pty.openpty()
        subprocess.run([MEGAMOE, "quantize", "model", "-o", "out"], cwd=self.folder, stdout=subprocess.DEVNULL,
                       stderr=theirs, check=True)
        os.close(theirs)
        self.assertIn("\rquantising [##############################] 100%", os.read(ours, 65536).decode())
        os.close(ours)


class Inspect(CommandLine):
    quantized = True

    def test_problems_are_listed_with_the_tensor_and_give_exit_code_1(self):
        path = self.folder / "nvfp4/model.safetensors"
        data = bytearray(path.read_bytes())
        tensors = read_safetensors(path)
        for expert in (1, 2):  # one NaN scale in each of two experts
            name = f"model.layers.1.mlp.experts.{expert}.up_proj.weight_scale"
            at = data.index(tensors[name][2])
            data[at] = 0x7F
        broken = self.folder / "broken"
        shutil.copytree(self.folder / "nvfp4", broken)
        (broken / "model.safetensors").write_bytes(data)

        done = self.call("inspect", "broken", "--json")
        self.assertEqual(done.returncode, 1)
        found = json.loads(done.stdout)["problems"]
        self.assertEqual([finding["tensor"] for finding in found],
                         [f"model.layers.1.mlp.experts.{expert}.up_proj.weight_scale" for expert in (1, 2)])
        people = self.call("inspect", "broken")
        self.assertEqual(people.returncode, 1)
        self.assertIn("experts.2.up_proj.weight_scale", people.stdout)
        self.refused(4, "experts.1.up_proj.weight_scale", "run", "broken", "--layer", "1", "--input",
                     "states.safetensors:x")

    def test_a_file_that_is_cut_off(self):
        cut = self.folder / "cut"
        shutil.copytree(self.folder / "nvfp4", cut)
        data = (cut / "model.safetensors").read_bytes()
        (cut / "model.safetensors").write_bytes(data[:-100])
        self.assertIn(self.call("inspect", "cut").returncode, (1, 4))
        self.refused(4, "model.safetensors", "run", "cut", "--layer", "0", "--input", "states.safetensors:x")


if __name__ == "__main__":
    unittest.main()

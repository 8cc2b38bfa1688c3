"""Help, exit codes, streams: what holds for every verb."""

import os
import pathlib
import pty
import subprocess
import unittest

from harness import MEGAMOE, VERBS, CommandLine

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


class Usage(CommandLine):
    def test_help_of_every_verb_gives_an_example_and_the_exit_codes(self):
        for verb in VERBS:
            text = self.ok(verb, "--help")
            self.assertIn(f"megamoe {verb}", text.split("Example:")[1], verb)
            self.assertIn("Exit codes: 0 done, 1 a check failed, 2 usage, 3 not supported, 4 bad or missing file", text)
            self.assertIn("--json", text)

    def test_help_names_every_verb(self):
        text = self.ok("--help")
        for verb in VERBS:
            self.assertIn(verb, text)

    def test_version(self):
        self.assertRegex(self.ok("--version"), r"^megamoe \d+\.\d+\.\d+\n$")

    def test_mistakes_are_usage(self):
        self.assertEqual((self.call().returncode, self.call().stdout), (2, ""))
        self.refused(2, "frobnicate", "frobnicate")
        self.refused(2, "--colour", "info", "--colour")
        self.refused(2, "megamoe run --help", "run", "model")
        self.refused(2, "DIR", "inspect")
        self.refused(2, "--recipe", "quantize", "model", "-o", "out", "--recipe", "best")
        self.refused(2, "--dialect", "convert", "model", "-o", "out", "--dialect", "gguf")
        self.refused(2, "--activations", "bench", "--shape", "qwen3-30b-a3b", "--activations", "fp8")
        self.refused(2, "--tokens", "bench", "--shape", "qwen3-30b-a3b", "--tokens", "1,x")
        self.refused(2, "--threads", "bench", "--shape", "qwen3-30b-a3b", "--threads", "-1")
        self.refused(2, "deepseek-v4-flash", "bench", "--shape", "deepseek-v9")
        self.refused(2, "hidden: asked 100", "plan", "--problem", "h=100 i=32 e=4 k=2")
        self.refused(2, "unknown word 'w=fp3'", "verify", "h=64 i=32 e=4 k=2 w=fp3")
        self.refused(2, "one of --shape, --problem and DIR", "plan")

    def test_missing_files(self):
        self.refused(4, "nowhere", "inspect", "nowhere")
        self.refused(4, "nowhere", "quantize", "nowhere", "-o", "out")
        self.refused(4, "nowhere", "verify", "nowhere")
        self.refused(4, "nowhere", "run", "nowhere", "--layer", "0", "--input", "states.safetensors:x")
        self.assertFalse((self.folder / "out").exists())

    def test_lost_output_is_an_error(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([MEGAMOE, "info"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, 4)
        self.assertIn("standard output", done.stderr)

    def test_colour_only_on_a_terminal_and_never_with_no_color(self):
        self.assertNotIn("\x1b", self.ok("info"))
        self.assertIn("\x1b[1m", self.on_terminal({"TERM": "xterm"}))
        self.assertNotIn("\x1b", self.on_terminal({"TERM": "xterm", "NO_COLOR": "1"}))
        self.assertNotIn("\x1b", self.on_terminal({"TERM": "dumb"}))

    def on_terminal(self, environment):
        clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        ours, theirs = pty.openpty()
        subprocess.run([MEGAMOE, "info"], stdout=theirs, check=True, env={**clean, **environment})
        os.close(theirs)
        text = b""
        try:
            while chunk := os.read(ours, 65536):
                text += chunk
        except OSError:  # Linux says EIO where the other side is closed
            pass
        os.close(ours)
        return text.decode()


class Info(CommandLine):
    def test_info(self):
        info = self.json("info")
        self.assertEqual([backend["name"] for backend in info["backends"]][-1], "reference")
        self.assertTrue(info["backends"][-1]["usable"])
        self.assertEqual(info["recipes"], ["rne", "bridge", "four_six", "mse"])
        self.assertEqual(info["dialects"], ["plain", "modelopt", "compressed-tensors"])
        self.assertIn("qwen3_moe", info["families"])
        self.assertGreaterEqual(info["threads"], 1)
        self.assertIn(info["cpu"], self.ok("info"))

    def test_gpus_are_named_or_their_absence_is(self):
        info, text = self.json("info"), self.ok("info")
        hopper = next(backend for backend in info["backends"] if backend["name"] == "cuda/sm90")
        if info["gpus"]:
            self.assertEqual(info["no_gpu"], "")
            for gpu in info["gpus"]:
                self.assertIn(f"{gpu['name']}, compute capability {gpu['compute_capability']}", text)
                self.assertGreater(gpu["multiprocessors"], 0)
                self.assertGreater(gpu["memory_bytes"], 2 ** 30)
        else:
            self.assertFalse(hopper["usable"])
            self.assertIn(f"none: {info['no_gpu']}", text)
            self.assertEqual(hopper["refusal"], info["no_gpu"])

    def test_readme_shows_the_example_that_is_compiled(self):
        body = (ROOT / "examples/ten_lines.cc").read_text().split("\n", 1)[1]
        self.assertIn("```cpp\n" + body + "```", README)

    def test_readme_has_this_support_table(self):
        table = README.split("<!-- support table: megamoe info --support-table -->\n")[1].split("<!-- end -->")[0]
        usable = {backend["name"] for backend in self.json("info")["backends"] if backend["usable"]}
        if "cpu" not in usable:
            self.skipTest("the cpu backend is not in this build: its column of README's table can not be compared")
        self.assertEqual(table, self.ok("info", "--support-table"))


if __name__ == "__main__":
    unittest.main()

"""Runs the built command line, and makes the small models that it is run on. Standard library only."""

import hashlib
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import tempfile
import unittest

MEGAMOE = os.environ["MEGAMOE"]  # the binary; ctest sets it
VERBS = ["info", "inspect", "quantize", "convert", "prepare", "plan", "run", "verify", "bench"]

HIDDEN, INTER, EXPERTS, TOP_K, LAYERS, TOKENS = 64, 32, 4, 2, 2, 5


def bf16(value):
    """The bits of a float, rounded to nearest even."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


def from_bf16(bits):
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


def write_safetensors(path, tensors):
    """tensors: name -> (dtype, shape, bytes)"""
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def read_safetensors(path):
    """name -> (dtype, shape, bytes)"""
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    body = data[8 + size:]
    return {name: (info["dtype"], info["shape"], body[info["data_offsets"][0]:info["data_offsets"][1]])
            for name, info in header.items() if name != "__metadata__"}


def floats(tensor):
    dtype, _, data = tensor
    if dtype == "F32":
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    return [from_bf16(bits) for bits in struct.unpack(f"<{len(data) // 2}H", data)]


def make_model(folder, seed=1):
    """A Qwen3-MoE model of two layers with random BF16 weights, and states.safetensors beside it, outside `folder`."""
    rng = random.Random(seed)

    def matrix(rows, cols):
        values = [bf16(rng.gauss(0, 1 / cols ** 0.5)) for _ in range(rows * cols)]
        return "BF16", [rows, cols], struct.pack(f"<{len(values)}H", *values)

    tensors = {"model.embed_tokens.weight": matrix(16, HIDDEN)}
    for layer in range(LAYERS):
        block = f"model.layers.{layer}.mlp"
        tensors[f"{block}.gate.weight"] = matrix(EXPERTS, HIDDEN)
        for expert in range(EXPERTS):
            tensors[f"{block}.experts.{expert}.gate_proj.weight"] = matrix(INTER, HIDDEN)
            tensors[f"{block}.experts.{expert}.up_proj.weight"] = matrix(INTER, HIDDEN)
            tensors[f"{block}.experts.{expert}.down_proj.weight"] = matrix(HIDDEN, INTER)
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": HIDDEN,
        "moe_intermediate_size": INTER, "intermediate_size": INTER, "num_experts": EXPERTS,
        "num_experts_per_tok": TOP_K, "num_hidden_layers": LAYERS, "norm_topk_prob": True, "hidden_act": "silu",
        "decoder_sparse_step": 1, "mlp_only_layers": []}))
    x = [bf16(rng.gauss(0, 1)) for _ in range(TOKENS * HIDDEN)]
    poisoned = list(x)
    poisoned[3] = 0x7FC0  # NaN in token 0
    pack = lambda values: struct.pack(f"<{len(values)}H", *values)
    write_safetensors(folder.parent / "states.safetensors", {
        "x": ("BF16", [TOKENS, HIDDEN], pack(x)),
        "x32": ("F32", [TOKENS, HIDDEN], struct.pack(f"<{len(x)}f", *[from_bf16(v) for v in x])),
        "poisoned": ("BF16", [TOKENS, HIDDEN], pack(poisoned)),
        "narrow": ("BF16", [TOKENS, 16], pack(x[:TOKENS * 16])),
        "none": ("BF16", [0, HIDDEN], b"")})


def tree(folder):
    """path -> hash of every file below a folder."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


class CommandLine(unittest.TestCase):
    """Each test class gets a folder with `model`, `states.safetensors` and, where it asks, `nvfp4`."""

    quantized = False

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="megamoe-cli-"))
        make_model(cls.folder / "model")
        if cls.quantized:
            done = cls.call("quantize", cls.folder / "model", "-o", cls.folder / "nvfp4", "--quiet")
            assert done.returncode == 0, done.stderr

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def call(cls, *arguments, **environment):
        return subprocess.run([MEGAMOE, *map(str, arguments)], capture_output=True, text=True, timeout=240,
                              env={**os.environ, **environment}, cwd=cls.folder)

    def ok(self, *arguments):
        done = self.call(*arguments)
        self.assertEqual(done.returncode, 0, f"{arguments}: {done.stderr}")
        return done.stdout

    def json(self, *arguments):
        """Standard output is one JSON object and nothing else; NaN and Infinity are no JSON."""
        def refuse(constant):
            raise ValueError(constant)
        return json.loads(self.ok(*arguments, "--json"), parse_constant=refuse)

    def refused(self, code, words, *arguments):
        """Exit code `code`, one sentence on stderr that holds `words`, nothing on stdout."""
        done = self.call(*arguments, "--quiet")
        self.assertEqual(done.returncode, code, f"{arguments}: {done.stderr}")
        self.assertEqual(done.stdout, "")
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertTrue(lines[0].startswith("megamoe: error: "), lines[0])
        self.assertIn(words, lines[0])

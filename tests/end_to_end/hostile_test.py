"""Files that are not what they say: each is refused in one line, with exit code 1, by name."""
import dataclasses
import json
import os
import random
import struct
import subprocess
import tempfile
import time

import harness
import tiny_model


class HostileGguf(harness.Case):
    def setUp(self):
        super().setUp()
        self.model = tiny_model.TinyModel(layers=1)
        self.path = self.folder / "model.gguf"

    def write(self, **options):
        tensors = [(name, *tensor) for name, tensor in self.model.tensors.items()]
        tiny_model.write_gguf(self.path, self.model.metadata, options.pop("tensors", tensors), **options)

    def is_refused(self, *says):
        self.refused("inspect", self.path, says=["model.gguf", *says])

    def test_the_model_itself_is_fine(self):
        self.write()
        self.fewbits("inspect", self.path)

    def test_truncated_anywhere(self):
        self.write()
        data = self.path.read_bytes()
        start = tiny_model.GgufReader(self.path).data_start
        for size in (1, 4, 8, 20, 24, 40, start // 2, start - 32, start, start + 1, len(data) // 2, len(data) - 32):
            with self.subTest(size):
                self.path.write_bytes(data[:size])
                self.is_refused()

    def test_versions_and_magic(self):
        self.write()
        data = self.path.read_bytes()
        for head in (b"GGML", b"GGUF" + struct.pack("<I", 1), b"GGUF" + struct.pack("<I", 4), b"GGUF\0\0\0\3"):
            with self.subTest(head):
                self.path.write_bytes(head + data[len(head):])
                self.is_refused()

    def test_counts_beyond_the_file(self):
        self.write()
        data = self.path.read_bytes()
        for at in (8, 16, 24):  # tensors, keys, length of the first key
            for count in (1 << 32, 1 << 62, (1 << 64) - 1):
                with self.subTest(f"{at}: {count}"):
                    self.path.write_bytes(data[:at] + struct.pack("<Q", count) + data[at + 8:])
                    self.is_refused()

    def test_offsets(self):
        size = len(self.model.tensors["token_embd.weight"][2])
        for offset in (1, size - 32, 1 << 40, 1 << 63, (1 << 64) - 32):
            with self.subTest(offset):
                self.write(offsets={"blk.0.attn_norm.weight": offset})
                self.is_refused("blk.0.attn_norm.weight")

    def test_duplicate_and_unknown(self):
        tensors = [(name, *tensor) for name, tensor in self.model.tensors.items()]
        self.write(tensors=tensors + [tensors[1]])
        self.is_refused("blk.0.attn_norm.weight")
        self.write(tensors=[(tensors[0][0], tensors[0][1], 99, tensors[0][3])] + tensors[1:])
        self.is_refused("99", "Q4_K")

    def test_missing_left_over_and_wrong_shape(self):
        lost = self.model.tensors.pop("blk.0.ffn_up.weight")
        self.write()
        self.is_refused("blk.0.ffn_up.weight")
        self.model.tensors["blk.0.ffn_up.weight"] = lost
        self.model.tensors["blk.7.ffn_up.weight"] = lost
        self.write()
        self.is_refused("blk.7.ffn_up.weight")
        del self.model.tensors["blk.7.ffn_up.weight"]
        self.model.tensors["blk.0.ffn_up.weight"] = [[256, 512], *lost[1:]]
        self.write()
        self.is_refused("blk.0.ffn_up.weight", "256", "512")

    def test_sizes_that_overflow(self):
        for shape in ([1 << 62, 256], [1 << 32, 1 << 32], [0, 256], [(1 << 64) - 1]):
            with self.subTest(shape):
                self.model.tensors["blk.0.ffn_up.weight"][0] = shape
                self.write()
                self.is_refused()

    def test_metadata_that_contradicts(self):
        for key, value in (("llama.attention.head_count", 0), ("llama.attention.head_count_kv", 3),
                           ("llama.block_count", 1 << 31), ("llama.embedding_length", 257)):
            with self.subTest(key):
                self.model = tiny_model.TinyModel(layers=1)
                self.model.metadata[key] = (tiny_model.UINT32, value)
                self.write()
                self.is_refused()

    def test_unknown_architecture_lists_the_known(self):
        self.model.metadata["general.architecture"] = (tiny_model.STRING, "hyena")
        self.write()
        self.is_refused("hyena.embedding_length")  # Llama's tensors: tried as one
        del self.model.tensors["blk.0.ffn_gate.weight"]
        self.write()
        self.is_refused("hyena", "llama")

    def test_weights_that_are_no_numbers(self):
        for value in (float("nan"), float("inf"), float("-inf")):
            with self.subTest(value):
                shape, kind, data = tiny_model.TinyModel(layers=1).tensors["blk.0.ffn_up.weight"]
                self.model.tensors["blk.0.ffn_up.weight"] = [shape, kind, tiny_model.halves_with(data, 300, value)]
                self.write()
                text = self.folder / "text.txt"
                text.write_text("the thin thing in the inn. " * 20)
                calibrate = ("--calibrate", text, "--samples", 1, "--sample-length", 32)
                for options in ((), calibrate):
                    self.refused("quantize", self.path, self.folder / "out.gguf", "--to", "Q4_0", *options,
                                 says=["blk.0.ffn_up.weight"])
                    self.assertEqual(self.files(), ["model.gguf", "text.txt"])


class HostileFolder(harness.Case):
    def setUp(self):
        super().setUp()
        self.model = tiny_model.TinyModel(layers=1)
        self.path = self.folder / "model"
        self.model.write_folder(self.path)

    def is_refused(self, *says):
        self.refused("inspect", self.path, says=says)

    def edit(self, file, **changes):
        value = json.loads((self.path / file).read_text()) | changes
        tiny_model.write_json(self.path / file, value)

    def rewrite_header(self, change):
        """Passes the safetensors header through `change`, which may also give bytes."""
        path = self.path / "model.safetensors"
        data = path.read_bytes()
        length, = struct.unpack_from("<Q", data)
        header = change(json.loads(data[8:8 + length]))
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length:])

    def test_the_model_itself_is_fine(self):
        self.fewbits("inspect", self.path)

    def test_broken_json(self):
        for file in ("config.json", "tokenizer.json"):
            for text in ("", "{", "[]", '{"a": 1, "a": 2}', "[" * 100000, "\xff\xfe", "null"):
                with self.subTest(f"{file}: {text[:8]}"):
                    self.model.write_folder(self.path)
                    (self.path / file).write_text(text, encoding="latin-1")
                    self.is_refused(file)

    def test_config_that_contradicts(self):
        for key, value in (("num_hidden_layers", 2), ("hidden_size", 512), ("num_attention_heads", 3),
                           ("intermediate_size", 0), ("vocab_size", -1), ("hidden_size", "wide")):
            with self.subTest(key):
                self.model.write_folder(self.path)
                self.edit("config.json", **{key: value})
                self.is_refused()

    def test_unknown_architecture_lists_the_known(self):
        self.edit("config.json", model_type="hyena", architectures=["HyenaForCausalLM"])
        self.fewbits("inspect", self.path)  # Llama's tensors: taken for one, with a warning
        self.rewrite_header(lambda header: {name.replace("gate_proj", "filter"): tensor
                                            for name, tensor in header.items()})
        self.is_refused("hyena", "llama")

    def test_dtype_and_offsets(self):
        name = "model.norm.weight"
        for field, value in (("dtype", "I8"), ("dtype", "F16"), ("shape", [255]), ("data_offsets", [0, 1024]),
                             ("data_offsets", [8, 4]), ("data_offsets", [1 << 62, (1 << 62) + 1024]),
                             ("shape", [1 << 40, 1 << 40]), ("shape", [-256])):
            with self.subTest(f"{field}: {value}"):
                self.model.write_folder(self.path)
                self.rewrite_header(lambda header: header | {name: header[name] | {field: value}})
                self.is_refused()

    def test_header_length(self):
        path = self.path / "model.safetensors"
        data = path.read_bytes()
        for length in (0, 1, len(data), 1 << 40, (1 << 64) - 1):
            with self.subTest(length):
                path.write_bytes(struct.pack("<Q", length) + data[8:])
                self.is_refused("model.safetensors")

    def test_truncated(self):
        path = self.path / "model.safetensors"
        data = path.read_bytes()
        for size in (0, 7, 8, 100, len(data) // 2, len(data) - 1):
            with self.subTest(size):
                path.write_bytes(data[:size])
                self.is_refused("model.safetensors")

    def test_missing_shard(self):
        (self.path / "model.safetensors").unlink()
        self.model.write_folder(self.path, shards=2)
        self.fewbits("inspect", self.path)
        (self.path / "model-00002-of-00002.safetensors").unlink()
        self.is_refused("model-00002-of-00002.safetensors")

    def test_index_that_points_elsewhere(self):
        (self.path / "model.safetensors").unlink()
        self.model.write_folder(self.path, shards=2)
        index = json.loads((self.path / "model.safetensors.index.json").read_text())
        for shard in ("../../secret.safetensors", "/etc/passwd", "model-00009.safetensors", ""):
            with self.subTest(shard):
                changed = index["weight_map"] | {"model.norm.weight": shard}
                tiny_model.write_json(self.path / "model.safetensors.index.json", {"weight_map": changed})
                self.is_refused()

    def test_a_header_of_nothing_but_json(self):
        """90 MB of header that says nothing: refused, and not at 20 bytes of memory for each."""
        for text in (b"[" + b"1," * 45_000_000 + b"1]", b'{"a":[' + b"[]," * 30_000_000 + b"[]]}"):
            with self.subTest(text[:8]):
                self.rewrite_header(lambda header: text)
                result = run_measured("inspect", self.path)
                self.assertEqual(result.code, harness.THEIR_ERROR, result.stderr)
                if not harness.SANITIZED:
                    self.assertLess(result.memory, MOST_MEMORY)


MOST_MEMORY = 1_000_000_000
MOST_SECONDS = 10


@dataclasses.dataclass
class Measured:
    code: int
    stderr: str
    seconds: float
    memory: int


def run_measured(*arguments):
    """Runs the program and tells what it took."""
    begin = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([harness.PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        text = errors.read().decode(errors="replace")
    return Measured(process.returncode, text, time.monotonic() - begin, usage.ru_maxrss * 1024)


class CalibrationText(harness.Case):
    def setUp(self):
        super().setUp()
        self.model = tiny_model.TinyModel(layers=1, context=64).write_gguf(self.folder / "model.gguf")
        self.text = self.folder / "text.txt"
        self.command = ["quantize", self.model, self.folder / "out.gguf", "--to", "Q4_0", "--calibrate", self.text]

    def test_no_text(self):
        for data, says in ((b"", "empty"), (b"\x7fELF\0\0\1", "binary"), (b"a word", "at least")):
            with self.subTest(says):
                self.text.write_bytes(data)
                self.refused(*self.command, "--sample-length", 32, says=["text", says])
        self.text.unlink()
        self.refused(*self.command, says="text.txt")
        self.assertEqual(self.files(), ["model.gguf"])

    def test_bytes_that_are_no_utf8(self):
        self.text.write_bytes(bytes(range(1, 256)) * 4)
        self.fewbits(*self.command, "--samples", 2, "--sample-length", 32)

    def test_less_than_wanted_is_said(self):
        self.text.write_text("the thin thing in the inn. " * 20)
        result = self.fewbits(*self.command, "--samples", 1000, "--sample-length", 32)
        self.assertIn("1000 were wanted", result.stderr)

    def test_samples_longer_than_the_context(self):
        self.text.write_text("the thin thing in the inn. " * 200)
        result = self.fewbits(*self.command, "--samples", 2, "--sample-length", 100)
        self.assertIn("the model was made for 64", result.stderr)


class Mutated(harness.Case):
    """Real files with flipped bits, cut short, with parts swapped: an answer or one clear line, every time."""

    COUNT = 10_000 if harness.LONG else 60

    def mutate(self, data, source):
        data = bytearray(data)
        kind = source.randrange(4)
        size = min(len(data), 4096) if source.random() < 0.7 else len(data)  # mostly headers
        if kind == 0:
            return bytes(data[:source.randrange(size)])
        if kind == 1:
            a, b, length = source.randrange(size), source.randrange(size), source.randrange(1, 64)
            data[a:a + length], data[b:b + length] = data[b:b + length], data[a:a + length]
            return bytes(data)
        for _ in range(source.choice([1, 1, 2, 8])):
            data[source.randrange(size)] ^= 1 << source.randrange(8)
        return bytes(data)

    def answers(self, *arguments):
        result = run_measured(*arguments)
        self.assertIn(result.code, (harness.DONE, harness.THEIR_ERROR), result.stderr)
        lines = [line for line in result.stderr.splitlines()
                 if line.startswith("fewbits: ") and not line.startswith("fewbits: warning: ")]
        self.assertEqual(len(lines), 0 if result.code == harness.DONE else 1, result.stderr)
        if not harness.SANITIZED:
            self.assertLess(result.memory, MOST_MEMORY)
            self.assertLess(result.seconds, 12 * MOST_SECONDS if not harness.LONG else MOST_SECONDS)

    def mutated_runs(self, folder, name, *command):
        original = (folder / name).read_bytes()
        for number in range(-(-self.COUNT // 6)):
            with self.subTest(f"{name} {number}"):
                (folder / name).write_bytes(self.mutate(original, random.Random(f"{name} {number}")))
                self.answers(*command)
        (folder / name).write_bytes(original)

    def test_gguf(self):
        model = tiny_model.TinyModel(layers=1).write_gguf(self.folder / "model.gguf")
        self.fewbits("quantize", model, self.folder / "small.gguf", "--to", "Q4_K_M")
        self.mutated_runs(self.folder, "model.gguf", "quantize", model, self.folder / "out.gguf", "--to", "Q8_0")
        self.mutated_runs(self.folder, "small.gguf", "run", self.folder / "small.gguf", "the", "--tokens", "2")

    def test_folder(self):
        source = harness.shared("stories260k-f32")
        folder = self.folder / "model"
        folder.mkdir()
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((source / name).read_bytes())
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
            self.mutated_runs(folder, name, "quantize", folder, self.folder / "out.gguf", "--to", "Q8_0")


if __name__ == "__main__":
    harness.main()

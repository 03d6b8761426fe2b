"""What happens around a quantize that cannot finish: full disks, forbidden folders, signals, readers that go away.

Whatever happens, under the final name lies the old file or a whole new one, never something in between.
"""
import contextlib
import os
import random
import resource
import signal
import subprocess
import time
import unittest

import harness
import tiny_model

MEBIBYTE = 1 << 20
NOBODY = 65534


@contextlib.contextmanager
def mounted(folder, options):
    """A small file system in memory at `folder`."""
    folder.mkdir()
    if os.geteuid() != 0:
        raise unittest.SkipTest("needs root, to mount a small file system")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True).returncode != 0:
        raise unittest.SkipTest("this machine does not let us mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


class Paths(harness.Case):
    def setUp(self):
        super().setUp()
        self.model = tiny_model.TinyModel().write_gguf(self.folder / "tiny.gguf")
        self.before = self.model.read_bytes()

    def test_output_equal_to_input(self):
        (self.folder / "symbolic.gguf").symlink_to(self.model)
        os.link(self.model, self.folder / "hard.gguf")
        for name in ("tiny.gguf", "symbolic.gguf", "hard.gguf", "../" + self.folder.name + "/tiny.gguf"):
            with self.subTest(name):
                self.refused("quantize", self.model, self.folder / name, "--to", "Q8_0", says=name)
                self.assertEqual(self.model.read_bytes(), self.before)

    def test_output_inside_the_input_folder(self):
        source = tiny_model.TinyModel().write_folder(self.folder / "source")
        weights = source / "model.safetensors"
        before = weights.read_bytes()
        self.refused("quantize", source, weights, "--to", "Q8_0", says="model.safetensors")
        self.refused("quantize", source, source, "--to", "Q8_0", says="source")
        self.assertEqual(weights.read_bytes(), before)

    def test_output_that_cannot_be(self):
        (self.folder / "folder").mkdir()
        for name in ("folder", "nowhere/out.gguf", "tiny.gguf/out.gguf"):
            with self.subTest(name):
                self.refused("quantize", self.model, self.folder / name, "--to", "Q8_0", says=name)
        self.refused("quantize", self.model, "", "--to", "Q8_0")
        self.assertEqual(self.files(), ["folder", "tiny.gguf"])

    def test_devices_and_pipes_as_output(self):
        self.refused("quantize", self.model, "/dev/null", "--to", "Q8_0", says="/dev/null")
        os.mkfifo(self.folder / "pipe")
        self.refused("quantize", self.model, self.folder / "pipe", "--to", "Q8_0", says="pipe")

    def test_read_only_folder(self):
        with mounted(self.folder / "mounted", "size=16m") as folder:
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
            self.refused("quantize", self.model, folder / "out.gguf", "--to", "Q8_0", says="out.gguf")

    def test_unwritable_folder(self):
        user = {"user": NOBODY} if os.geteuid() == 0 else {}  # root may write everywhere
        try:
            self.fewbits("inspect", self.model, **user)
        except PermissionError:
            self.skipTest("only root may run the program where it lies")
        folder = self.folder / "closed"
        folder.mkdir(mode=0o555)
        self.refused("quantize", self.model, folder / "out.gguf", "--to", "Q8_0", says="out.gguf", **user)


class Disk(harness.Case):
    def setUp(self):
        super().setUp()
        self.model = tiny_model.TinyModel().write_gguf(self.folder / "tiny.gguf")

    def test_too_little_space_is_known_before_work(self):
        with mounted(self.folder / "mounted", "size=512k") as folder:
            (folder / "out.gguf").write_bytes(b"old")
            self.refused("quantize", self.model, folder / "out.gguf", "--to", "Q8_0", says="out.gguf")
            self.assertEqual(self.files(folder), ["out.gguf"])
            self.assertEqual((folder / "out.gguf").read_bytes(), b"old")

    def test_a_limit_met_on_the_way(self):
        """A file size limit is to write() what a disk that fills up is: an error after half of the bytes."""
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (MEBIBYTE // 2, MEBIBYTE // 2))
        out = self.folder / "out.gguf"
        out.write_bytes(b"old")
        self.refused("quantize", self.model, out, "--to", "Q8_0", says="out.gguf", preexec_fn=limit)
        self.assertEqual(self.files(), ["out.gguf", "tiny.gguf"])
        self.assertEqual(out.read_bytes(), b"old")


class Signals(harness.Case):
    """Quantizes a model that takes a second or two, and interrupts it."""

    def setUp(self):
        super().setUp()
        model = tiny_model.wide_model(layers=1 if harness.SANITIZED else 4)
        self.model = model.write_gguf(self.folder / "model.gguf")
        self.out = self.folder / "out.gguf"
        self.whole = None

    def start(self):
        return subprocess.Popen([harness.PROGRAM, "quantize", self.model, self.out, "--to", "Q4_K_M"],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def seconds_needed(self):
        begin = time.monotonic()
        process = self.start()
        process.communicate(timeout=harness.SECONDS_AT_MOST)
        self.assertEqual(process.returncode, 0)
        self.whole = self.out.read_bytes()
        return time.monotonic() - begin

    def interrupted_after(self, seconds, number):
        """The result of a run that gets a signal; None where it finished before."""
        self.out.write_bytes(b"old")
        process = self.start()
        time.sleep(seconds)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=harness.SECONDS_AT_MOST)
        self.assertIn(self.out.read_bytes(), (b"old", self.whole))
        return None if process.returncode == 0 else harness.Result(process.returncode, stdout, stderr)

    def test_kill_leaves_the_old_file_or_the_new_one(self):
        needed = self.seconds_needed()
        moments = random.Random(3)
        for _ in range(100 if harness.LONG else 5):
            self.interrupted_after(moments.uniform(0, needed), signal.SIGKILL)
        self.out.unlink()
        self.fewbits("quantize", self.model, self.out, "--to", "Q4_K_M")
        self.assertEqual(self.out.read_bytes(), self.whole)

    def test_interrupts_say_what_stays(self):
        """Either nothing, or what the same command goes on from."""
        needed = self.seconds_needed()
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                result = self.interrupted_after(needed / 3, number)
                if result is None:
                    continue  # the run finished before the signal came
                self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
                self.assertTrue(result.stderr.startswith("fewbits: interrupted"))
                self.assertGreater(result.code, 0)
                kept = [".out.gguf.fewbits-journal", ".out.gguf.fewbits-partial"]
                stays = kept if "the same command goes on" in result.stderr else []
                self.assertEqual(self.files(), [*stays, "model.gguf", "out.gguf"])
                self.fewbits("quantize", self.model, self.out, "--to", "Q4_K_M")
                self.assertEqual(self.out.read_bytes(), self.whole)
                self.assertEqual(self.files(), ["model.gguf", "out.gguf"])


class Output(harness.Case):
    def setUp(self):
        super().setUp()
        self.model = tiny_model.TinyModel().write_gguf(self.folder / "tiny.gguf")

    def test_reader_that_goes_away(self):
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "wb") as closed:
            result = self.fewbits("inspect", self.model, "--json", code=harness.THEIR_ERROR, capture_output=False,
                                  stdout=closed, stderr=subprocess.PIPE)
        self.assertEqual(result.stderr.count("\n"), 1)

    def test_full_device(self):
        with open("/dev/full", "wb") as full:
            for verb in (["inspect", self.model], ["run", self.model, "the", "--tokens", "3"]):
                with self.subTest(verb[0]):
                    self.fewbits(*verb, code=harness.THEIR_ERROR, capture_output=False, stdout=full,
                                 stderr=subprocess.PIPE)

    def test_closed_descriptors(self):
        for number in (0, 1, 2):
            with self.subTest(number):
                out = self.folder / "out.gguf"
                subprocess.run([harness.PROGRAM, "quantize", self.model, out, "--to", "Q8_0"],
                               preexec_fn=lambda: os.close(number), timeout=harness.SECONDS_AT_MOST)
                # The program's own text must not end up in a file that took the descriptor's place.
                if out.exists():
                    self.fewbits("inspect", out)
                out.unlink(missing_ok=True)


if __name__ == "__main__":
    harness.main()

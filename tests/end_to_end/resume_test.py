"""Runs that are stopped and go on: killed at any moment or write, out of disk, out of power; the final file has the
same bytes as that of a run nobody disturbed.
"""
import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
import unittest

import harness
import tiny_model

FAULT_LAYER = os.environ.get("FEWBITS_FAULT_LAYER", "build/tests/libfault_layer.so")
KILLED = -signal.SIGKILL
STOPS_IN_SECONDS = 5 if not harness.SANITIZED else 30  # one, and what a busy machine adds
WORDS = "the cat sat on a mat and it was all that the end of an hour in town can be for men who hear no one".split()


def text(words, seed=1):
    random_words = random.Random(seed)
    return " ".join(random_words.choice(WORDS) for _ in range(words))


class Resume(harness.Case):
    def setUp(self):
        super().setUp()
        self.model = tiny_model.TinyModel(layers=2).write_gguf(self.folder / "tiny.gguf")
        self.text = self.folder / "text.txt"
        self.text.write_text(text(2000))
        self.out = self.folder / "out.gguf"
        self.to = ["--to", "Q4_K_M"]
        self.copies = self.folder / "copies"
        self.calibrated = ["--calibrate", self.text, "--samples", "2", "--sample-length", "32"]
        self.inputs = self.files()

    def command(self, *more, to=None):
        method = self.to if to is None else ["--to", to]
        return ["quantize", self.model, self.out, *method, *more]

    def written(self):
        """What can be seen of outputs, by name."""
        seen = [path for path in self.folder.rglob("*") if path.is_file() and
                not any(part.startswith(".") for part in path.relative_to(self.folder).parts)]
        names = {str(path.relative_to(self.folder)): path for path in seen}
        return {name: path.read_bytes() for name, path in names.items()
                if name.split("/")[0] not in [*self.inputs, "copies"]}

    def remove_written(self):
        for name in {name.split("/")[0] for name in self.written()}:
            path = self.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.assertEqual([name for name in self.files() if name != "copies"], self.inputs)

    def undisturbed_files(self, *more):
        self.fewbits(*self.command(*more))
        files = self.written()
        self.remove_written()
        return files

    def undisturbed(self, *more):
        return self.undisturbed_files(*more)["out.gguf"]

    def need_faults(self):
        """Before anything that takes time: the fault layer is preloaded, and so is a sanitizer."""
        if harness.SANITIZED:
            self.skipTest("a sanitizer wants to be loaded first")

    def fault(self, kind, number, *more):
        """A run on a disk that fails at the given time; the result and whether it was struck."""
        self.need_faults()
        self.copies.mkdir(exist_ok=True)
        for file in self.copies.iterdir():
            file.unlink()
        environment = {"LD_PRELOAD": os.path.abspath(FAULT_LAYER), "FEWBITS_FAULT": f"{kind}:{number}",
                       "FEWBITS_FAULT_FOLDER": str(self.copies)}
        return subprocess.run([harness.PROGRAM, *map(str, self.command(*more))], capture_output=True, text=True,
                              env=os.environ | environment, timeout=harness.SECONDS_AT_MOST)

    def at_every_write(self, kind, codes, *more, step=5):
        self.need_faults()
        whole = self.undisturbed_files(*more)
        struck = 0
        for number in range(1, 1000) if harness.LONG else range(len(more) + 1, 1000, step):
            result = self.fault(kind, number, *more)
            if result.returncode == harness.DONE:
                break
            struck += 1
            self.assertIn(result.returncode, codes, f"{kind}:{number}: {result.stderr}")
            seen = self.written()  # renamed, and struck behind that
            self.assertEqual(seen, {name: whole[name] for name in seen})
            if self.out.is_dir():
                shutil.rmtree(self.out)  # what is whole is never replaced
            self.fewbits(*self.command(*more))
            self.assertEqual(self.written(), whole, f"{kind}:{number}")
            self.remove_written()
        self.assertGreater(struck, 10 if harness.LONG else 2)

    def test_killed_at_every_write(self):
        self.at_every_write("kill", [KILLED], *self.calibrated)

    def test_power_lost_at_every_write(self):
        self.at_every_write("power", [KILLED], *self.calibrated)

    def test_disk_full_at_every_write(self):
        self.at_every_write("full", [harness.THEIR_ERROR], *self.calibrated)

    def test_plain_runs_killed_at_every_write(self):
        self.at_every_write("kill", [KILLED])

    def use_folder(self):
        self.model = tiny_model.TinyModel(layers=2).write_folder(self.folder / "model")
        self.out = self.folder / "out"
        self.to = ["--to", "int4_g128", "--split", "300K"]
        self.inputs = [name for name in self.files() if name != "copies"]

    def test_folders_killed_at_every_write(self):
        self.use_folder()
        self.at_every_write("kill", [KILLED], *self.calibrated, step=11)

    def test_folders_with_sorted_columns_killed(self):
        """What an earlier run rounded is of no use without the order of its columns."""
        self.use_folder()
        self.to += ["--layout", "gptq", "--act-order"]
        self.at_every_write("kill", [KILLED], *self.calibrated, step=17)

    def test_folders_and_power_lost(self):
        self.use_folder()
        self.at_every_write("power", [KILLED], *self.calibrated, step=11)

    def test_plain_folders_and_full_disks(self):
        self.use_folder()
        self.at_every_write("full", [harness.THEIR_ERROR], step=11)

    def test_emulating_runs_killed_at_every_write(self):
        self.to = ["--emulate", "int4_g128"]
        self.at_every_write("kill", [KILLED], *self.calibrated, step=7)

    def use_tuning(self):
        small = self.folder / "small.gguf"
        self.fewbits("quantize", self.model, small, "--to", "Q4_0")
        self.inputs = [name for name in self.files() if name != "copies"]
        self.command = lambda *more: [
            "tune", small, self.out, "--against", self.model, "--text", self.text, "--samples", 12,
            "--sample-length", 32, "--epochs", 2, "--rate", 0.01, *more]

    def test_tuning_killed_at_every_write(self):
        self.use_tuning()
        self.at_every_write("kill", [KILLED], step=13)

    def test_tuning_and_full_disks(self):
        self.use_tuning()
        self.at_every_write("full", [harness.THEIR_ERROR], step=13)

    def test_tuning_goes_on_with_the_same_options_only(self):
        self.use_tuning()
        self.assertEqual(self.fault("kill", 40).returncode, KILLED)
        self.refused(*self.command("--batch", 2), says="cannot go on")
        self.fewbits(*self.command("--batch", 2, "--restart"))
        other = self.written()
        self.remove_written()
        self.assertEqual(other, self.undisturbed_files("--batch", 2))

    def test_split_files_killed_at_every_write(self):
        self.to = ["--to", "Q4_K_M", "--split", "300K"]
        self.at_every_write("kill", [KILLED], *self.calibrated, step=7)

    def test_other_splits_leave_nothing_behind(self):
        self.to = ["--to", "Q8_0", "--split", "300K"]
        self.fault("kill", 20)
        self.assertNotEqual(self.files(), self.inputs)
        self.fewbits(*self.command("--restart", to="Q4_0"))
        self.remove_written()

    def test_what_the_disk_holds_is_read_back(self):
        """A bit that turns in any write is found, or does not count."""
        self.need_faults()
        for to in (["--to", "Q4_K_M", "--split", "300K"], None):
            if to is None:
                self.use_folder()
            else:
                self.to = to
            whole = self.undisturbed_files(*self.calibrated)
            found = 0
            for number in range(1, 1000, 1 if harness.LONG else 5):
                result = self.fault("rot", number, *self.calibrated)
                if result.returncode == harness.DONE:
                    self.assertEqual(self.written(), whole)
                else:
                    found += 1
                    self.assertEqual(result.returncode, harness.THEIR_ERROR)
                    self.assertRegex(result.stderr, "fewbits: .* reads back as something else [^\n]*\n$")
                    self.assertEqual(self.written(), {})
                self.remove_written()
                if number > 70 and result.returncode == harness.DONE:
                    break
            self.assertGreater(found, 1)

    def test_reading_back_can_be_left_out(self):
        self.need_faults()
        whole = self.undisturbed()
        for number in range(1, 100):
            result = self.fault("rot", number, "--no-verify")
            self.assertEqual(result.returncode, harness.DONE, result.stderr)
            data = self.out.read_bytes()
            self.out.unlink()
            if data != whole:
                return
        self.fail("no write of the output was struck")

    def test_killed_again_and_again(self):
        """Each run gets a little further than the one before."""
        self.need_faults()
        whole = self.undisturbed(*self.calibrated)
        for number in range(4, 200, 3):
            if self.fault("kill", number, *self.calibrated).returncode == harness.DONE:
                break
        self.assertEqual(self.out.read_bytes(), whole)

    def test_killed_at_random_moments(self):
        begin = time.monotonic()
        whole = self.undisturbed(*self.calibrated)
        needed = time.monotonic() - begin
        moments = random.Random(5)
        for _ in range(50 if harness.LONG else 2 if harness.SANITIZED else 5):
            process = subprocess.Popen([harness.PROGRAM, *map(str, self.command(*self.calibrated))],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(moments.uniform(0, needed))
            process.kill()
            process.wait()
        self.fewbits(*self.command(*self.calibrated))
        self.assertEqual(self.out.read_bytes(), whole)
        self.assertEqual(self.files(), sorted(self.inputs + ["out.gguf"]))

    def lines_of_journal(self):
        journal = self.folder / ".out.gguf.fewbits-journal"
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    def leave_unfinished(self):
        for number in range(20, 4, -1):
            self.fault("kill", number, *self.calibrated)
            if (self.folder / ".out.gguf.fewbits-journal").exists():
                return
        self.fail("no run left a journal")

    def test_what_changed_is_named(self):
        self.need_faults()
        whole = self.undisturbed(*self.calibrated)
        self.leave_unfinished()
        self.refused(*self.command(*self.calibrated, to="Q5_K_M"), says=["to was", "Q4_K_M", "Q5_K_M", "--restart"])
        self.refused(*self.command(*self.calibrated, "--search", "none"), says=["search", "--restart"])
        self.text.write_text(text(2000, seed=2))
        self.refused(*self.command(*self.calibrated), says=["calibration", "--restart"])
        self.text.write_text(text(2000))
        data = bytearray(self.model.read_bytes())
        data[-1] ^= 1
        self.model.write_bytes(data)
        self.refused(*self.command(*self.calibrated), says=["tiny.gguf", "--restart"])
        data[-1] ^= 1
        self.model.write_bytes(data)
        self.fewbits(*self.command(*self.calibrated))
        self.assertEqual(self.out.read_bytes(), whole)

    def test_another_version_does_not_go_on(self):
        self.leave_unfinished()
        journal = self.folder / ".out.gguf.fewbits-journal"
        first, rest = journal.read_bytes().split(b"\n", 1)
        for key, value, says in (("version", "0.0.1", "version was"), (None, 99, "another version")):
            line = json.loads(first[17:])
            if key is None:
                line["fewbits_journal"] = value
            else:
                line["identity"][key] = value
            text = json.dumps(line)
            journal.write_text(f"{hashlib.sha256(text.encode()).hexdigest()[:16]} {text}\n" + rest.decode())
            self.refused(*self.command(*self.calibrated), says=[says])

    def test_ctrl_c_in_every_phase(self):
        """Hashing, calibrating, rounding, measuring: wherever it comes, the run stops soon and says what stays."""
        if not harness.SANITIZED:  # which is slow enough with the usual model
            model = tiny_model.TinyModel(hidden=512, ffn=1024, layers=4)
            self.model = model.write_gguf(self.folder / "tiny.gguf")
        options = [*self.calibrated, "--certify", self.text]
        begin = time.monotonic()
        whole = self.undisturbed(*options)
        needed = time.monotonic() - begin
        moments = 20 if harness.LONG else 3 if harness.SANITIZED else 6
        for moment in range(moments):
            process = subprocess.Popen([harness.PROGRAM, *map(str, self.command(*options, "--restart"))],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            time.sleep(0.05 + needed * moment / moments)
            process.send_signal(signal.SIGINT)
            sent = time.monotonic()
            _, stderr = process.communicate(timeout=harness.SECONDS_AT_MOST)
            self.assertLess(time.monotonic() - sent, STOPS_IN_SECONDS)
            self.assertIn(process.returncode, (harness.DONE, 130, -signal.SIGINT))  # the last: before main
            if process.returncode == 130:
                self.assertRegex(stderr, "fewbits: interrupted(; |\n)")
            self.out.unlink(missing_ok=True)
        self.fewbits(*self.command(*options))
        self.assertEqual(self.out.read_bytes(), whole)

    def test_restart(self):
        whole = self.undisturbed(*self.calibrated)
        self.leave_unfinished()
        self.fewbits(*self.command(*self.calibrated, "--restart"))
        self.assertEqual(self.out.read_bytes(), whole)

    def test_a_journal_that_is_damaged(self):
        whole = self.undisturbed(*self.calibrated)
        self.leave_unfinished()
        journal = self.folder / ".out.gguf.fewbits-journal"
        before, partial = journal.read_bytes(), (self.folder / ".out.gguf.fewbits-partial").read_bytes()
        damage = random.Random(7)
        for _ in range(200 if harness.LONG else 10):
            data = bytearray(before)
            data[damage.randrange(len(data))] ^= 1 << damage.randrange(8)
            journal.write_bytes(data[:damage.randrange(1, len(data) + 1)] if damage.random() < 0.3 else data)
            (self.folder / ".out.gguf.fewbits-partial").write_bytes(partial[:damage.randrange(len(partial) + 1)])
            self.fewbits(*self.command(*self.calibrated))
            self.assertEqual(self.out.read_bytes(), whole)
            self.out.unlink()

    def test_a_second_run_into_the_same_output_is_refused(self):
        with open(self.folder / ".out.gguf.fewbits-journal", "wb") as journal:
            fcntl.flock(journal, fcntl.LOCK_EX)
            self.refused(*self.command(), says=["out.gguf", "another run"])
        self.fewbits(*self.command())
        self.assertEqual(self.files(), sorted(self.inputs + ["out.gguf"]))

    def test_interrupts_say_how_to_go_on(self):
        model = tiny_model.TinyModel(hidden=512, ffn=1024, layers=6)
        self.model = model.write_gguf(self.folder / "tiny.gguf")
        whole = self.undisturbed(*self.calibrated)
        for number in (signal.SIGINT, signal.SIGTERM):
            process = subprocess.Popen([harness.PROGRAM, *map(str, self.command(*self.calibrated))],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            before = self.lines_of_journal()
            while process.poll() is None and self.lines_of_journal() < max(before + 1, 3):
                time.sleep(0.02)
            process.send_signal(number)
            _, stderr = process.communicate(timeout=harness.SECONDS_AT_MOST)
            self.assertIn("the same command goes on", stderr)
            self.assertEqual(process.returncode, 130)
        self.fewbits(*self.command(*self.calibrated))
        self.assertEqual(self.out.read_bytes(), whole)


class Budgets(harness.Case):
    def test_the_same_bytes_for_any_threads_and_memory(self):
        model = tiny_model.TinyModel(layers=2).write_gguf(self.folder / "tiny.gguf")
        (self.folder / "text.txt").write_text(text(20000))
        samples, length = (2, 64) if harness.SANITIZED else (16, 512)
        command = ["quantize", model, self.folder / "out.gguf", "--to", "Q4_K_M", "--calibrate",
                   self.folder / "text.txt", "--samples", samples, "--sample-length", length, "--json"]
        outputs, spilled = set(), set()
        budgets = [["--memory", "1G"]]
        if not harness.SANITIZED:  # whose own memory is larger
            budgets.append(["--memory", "40M"])
        for options in (["--threads", "1"], ["--threads", "2"], ["--threads", "7"], *budgets):
            facts = self.fewbits(*command, *options).facts
            outputs.add((self.folder / "out.gguf").read_bytes())
            spilled.add(facts["estimate"]["spilled_bytes"] > 0)
            if not harness.SANITIZED:
                self.assertLessEqual(facts["peak_memory_bytes"], facts["estimate"]["memory_limit_bytes"])
                self.assertLess(abs(facts["estimate"]["memory_bytes"] / facts["peak_memory_bytes"] - 1), 0.25, options)
                self.assertLess(abs(facts["estimate"]["disk_bytes"] / facts["disk_bytes"] - 1), 0.25, options)
        self.assertEqual(len(outputs), 1)
        self.assertEqual(spilled, {False} if harness.SANITIZED else {False, True})

    def test_too_little_memory_is_refused_before_work(self):
        model = tiny_model.TinyModel().write_gguf(self.folder / "tiny.gguf")
        self.refused("quantize", model, self.folder / "out.gguf", "--to", "Q8_0", "--memory", "1M",
                     says=["memory", "--memory"])
        self.refused("quantize", model, self.folder / "out.gguf", "--to", "Q8_0", "--memory", "much", says="--memory")
        self.assertEqual(self.files(), ["tiny.gguf"])

    def test_dry_run_says_what_it_takes(self):
        model = tiny_model.TinyModel().write_gguf(self.folder / "tiny.gguf")
        command = ["quantize", model, self.folder / "out.gguf", "--to", "Q8_0"]
        planned = self.fewbits(*command, "--dry-run", "--json").facts["estimate"]
        table = self.fewbits(*command, "--dry-run").stdout
        for word in ("memory", "disk", "time"):
            self.assertIn(word, table)
        self.assertEqual(self.files(), ["tiny.gguf"])
        facts = self.fewbits(*command, "--json").facts
        self.assertLess(abs(planned["disk_bytes"] / facts["disk_bytes"] - 1), 0.25)
        self.assertEqual(planned["read_bytes"], 2 * model.stat().st_size)


if __name__ == "__main__":
    harness.main()

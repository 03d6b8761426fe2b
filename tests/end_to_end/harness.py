"""Runs the built program from outside, as a user does.

ctest names the program and a scratch folder in the environment:
  FEWBITS           the program
  FEWBITS_WORK      a folder for this test's files, emptied at the start
  FEWBITS_SANITIZE  the sanitizers it was built with, if any
  FEWBITS_LONG      set where the long tests are wanted too
"""
import dataclasses
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import unittest

PROGRAM = os.environ.get("FEWBITS", "build/fewbits")
WORK = pathlib.Path(os.environ.get("FEWBITS_WORK", "build/tests/end_to_end/by_hand")).resolve()
SANITIZED = bool(os.environ.get("FEWBITS_SANITIZE"))
LONG = bool(os.environ.get("FEWBITS_LONG"))
DATA = pathlib.Path(os.environ.get("FEWBITS_SHARED", pathlib.Path(__file__).resolve().parents[3] / "shared")) / "data"
DONE, THEIR_ERROR = 0, 1
SKIPPED = 77
SECONDS_AT_MOST = 120


def shared(name):
    """A folder or file of ../shared/data; the test is skipped where it is missing."""
    path = DATA / name
    if not path.exists():
        raise unittest.SkipTest(f"../shared/data/{name} is missing")
    return path


@dataclasses.dataclass
class Result:
    code: int
    stdout: str
    stderr: str

    @property
    def facts(self):
        return json.loads(self.stdout)


class Case(unittest.TestCase):
    """A test with a folder of its own at `self.folder`."""

    def setUp(self):
        self.folder = WORK / self.id().split(".", 1)[-1]
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def tearDown(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def fewbits(self, *arguments, code=DONE, **options):
        """Runs the program and expects its exit code. `options` are subprocess.run's."""
        options = {"stdin": subprocess.DEVNULL, "capture_output": True} | options
        result = subprocess.run([PROGRAM, *map(str, arguments)], timeout=SECONDS_AT_MOST, text=True, errors="replace",
                                **options)
        self.assertEqual(result.returncode, code, f"fewbits {' '.join(map(str, arguments))}\n{result.stderr}")
        return Result(result.returncode, result.stdout or "", result.stderr or "")

    def refused(self, *arguments, says=(), **options):
        """Expects exit code 1, nothing on stdout and, after any warnings, one line that holds all the words."""
        result = self.fewbits(*arguments, code=THEIR_ERROR, **options)
        self.assertEqual(result.stdout, "")
        lines = [line for line in result.stderr.splitlines() if not line.startswith("fewbits: warning: ")]
        self.assertEqual(len(lines), 1, result.stderr)
        self.assertTrue(lines[0].startswith("fewbits: "), lines[0])
        for word in [says] if isinstance(says, str) else says:
            self.assertIn(str(word).lower(), lines[0].lower())
        return lines[0]

    def files(self, folder=None):
        return sorted(path.name for path in (folder or self.folder).iterdir())


def peak_memory_of_children():
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


class Report(unittest.TextTestResult):
    """Names every skipped test with its reason in one line, as tools/skipped_tests.py reads it."""

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        print(f"[  SKIPPED ] {test.id().split('.', 1)[-1]}: {reason}", flush=True)


def main():
    if not pathlib.Path(PROGRAM).is_file():
        sys.exit(f"{PROGRAM} is missing; FEWBITS names the program to test")
    result = unittest.main(testRunner=unittest.TextTestRunner(resultclass=Report, verbosity=2), exit=False).result
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(SKIPPED if result.testsRun > 0 and len(result.skipped) == result.testsRun else 0)

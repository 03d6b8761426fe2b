"""What the interop scripts share: arguments, the reference model, running fewbits."""
import argparse
import os
import pathlib
import subprocess
import sys

SKIPPED = 77


def arguments(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fewbits", required=True, type=pathlib.Path)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    args = parser.parse_args()
    args.fewbits = args.fewbits.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    return args


def skip(reason):
    print(f"SKIP: {reason}")
    sys.exit(SKIPPED)


def shared():
    """The folder of data and scripts beside the repository; skips where there is none."""
    path = os.environ.get("FEWBITS_SHARED")
    if not path or not pathlib.Path(path).is_dir():
        skip("the shared data folder is missing")
    return pathlib.Path(path)


def run(command, **options):
    """Runs a command that must succeed; gives its standard output."""
    result = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, **options)
    if result.returncode != 0:
        raise SystemExit(f"exit {result.returncode}: {' '.join(str(part) for part in command)}")
    return result.stdout


def reference_model(work, wide=False):
    """The 16-bit reference model as a Hugging Face folder, made once."""
    folder = work / ("reference-wide" if wide else "reference")
    if not (folder / "model.safetensors").exists():
        script = shared() / "tools" / "make_reference_model.py"
        run([sys.executable, script, folder] + (["--wide"] if wide else []))
    return folder

#!/usr/bin/env python3
"""Renders real models' chat templates with fewbits and with jinja2 and compares texts and refusals.

    chat_templates.py --fewbits build/fewbits --work build/interop        model_test lies beside fewbits

FEWBITS_PEERS_DIR/models/templates holds them (from llama-cpp-python's source package); they are not ours to ship.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import common

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "golden" / "templates"))
import oracle


def main():
    args = common.arguments(__doc__)
    folder = pathlib.Path(os.environ.get("FEWBITS_PEERS_DIR", args.work)) / "models" / "templates"
    program = args.fewbits.parent / "model_test"
    sources = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.jinja")}
    if not sources or not program.exists():
        common.skip(f"{folder} or {program} is missing")
    with tempfile.TemporaryDirectory() as scratch:
        cases_path = os.path.join(scratch, "cases.json")
        cases = oracle.write_cases(cases_path, oracle.contexts(), sources)
        result = subprocess.run(
            [program, "--gtest_filter=*.brought_cases_equal_jinja2"],
            env=os.environ | {"FEWBITS_CHAT_CASES": cases_path},
            check=False,
        )
    texts = [text for case in cases for text in case["texts"]]
    refused = sum(text is None for text in texts)
    print(f"{len(cases)} templates, {len(texts)} renderings, {refused} of them refused by jinja2")
    sys.exit(result.returncode)


if __name__ == "__main__":
    main()

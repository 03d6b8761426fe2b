#!/usr/bin/env python3
"""Renders real models' chat templates with fewbits and with jinja2 and compares texts and refusals.

    chat_templates.py TEMPLATES_FOLDER build/model_test

The folder holds *.jinja files, e.g. models/templates of llama-cpp-python's source package; they are not ours to ship.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "golden" / "templates"))
import oracle


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folder, program = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
    sources = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.jinja")}
    if not sources:
        sys.exit(f"{folder}: no *.jinja files")
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

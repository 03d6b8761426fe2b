#!/usr/bin/env python3
"""Writes the case files beside this file; needs PyPI's jinja2.

conversations_cases.json: the *.jinja files on oracle.contexts().
snippets_cases.json: each of snippets.json, which together use every construct, most of them also wrongly.
"""

import json
import pathlib

import oracle

HERE = pathlib.Path(__file__).parent
SNIPPET_CONTEXT = {
    "text": "Hello World",
    "list": [1, 2, 3, 4],
    "user": {"name": "Ann", "tags": ["a", "bc"], "age": 41.0, "admin": True, "boss": None, "é": {}},
    "people": [
        {"name": "Bob", "age": 30, "address": {"city": "Rome"}},
        {"name": "al", "age": 41},
        {"name": "Cy", "age": 30},
    ],
}


def main():
    conversations = {path.name: path.read_text(encoding="utf-8") for path in HERE.glob("*.jinja")}
    oracle.write_cases(HERE / "conversations_cases.json", oracle.contexts(), conversations)
    snippets = json.loads((HERE / "snippets.json").read_text(encoding="utf-8"))
    oracle.write_cases(HERE / "snippets_cases.json", [SNIPPET_CONTEXT], {text: text for text in snippets})


if __name__ == "__main__":
    main()

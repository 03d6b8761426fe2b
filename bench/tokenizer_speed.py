#!/usr/bin/env python3
"""Times fewbits' tokenizers and PyPI's `tokenizers` on one text, one thread each, in turn.

    bench/tokenizer_speed.py --fewbits build/fewbits --text wiki.test.raw FOLDER...

FOLDER holds a tokenizer.json. Needs `tokenizers`, and tokenizer_speed beside fewbits (tests/).
"""

import argparse
import json
import os
import pathlib
import subprocess
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers  # noqa: E402

ROUNDS = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fewbits", required=True, type=pathlib.Path)
    parser.add_argument("--text", required=True, type=pathlib.Path)
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    program = args.fewbits.resolve().parent / "tests" / "tokenizer_speed"
    lines = args.text.read_text().splitlines()
    # Documents of some thousand characters: what both are given in practice.
    texts = ["\n".join(lines[i : i + 40]) for i in range(0, len(lines), 40)]
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{size:.2f} MB in {len(texts)} texts; MB/s, the best of {ROUNDS} rounds")
    for folder in args.folders:
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        ours, theirs, tokens = [], [], 0
        request = json.dumps({"model": str(folder), "texts": texts})
        for _ in range(ROUNDS):
            start = time.perf_counter()
            tokens = sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts)
            theirs.append(time.perf_counter() - start)
            done = subprocess.run([program], input=request, capture_output=True, text=True, check=True)
            result = json.loads(done.stdout)
            ours.append(result["seconds"])
            if result["tokens"] != tokens:
                raise SystemExit(f"{folder}: {result['tokens']} tokens, tokenizers has {tokens}")
        fast, slow = size / min(ours), size / min(theirs)
        print(f"{folder.name:<24} fewbits {fast:6.2f}   tokenizers {slow:6.2f}   {fast / slow:5.1f} times", flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Compares what fewbits' normalizers and pre-tokenizers make of every character, and of 10,000 random texts, with
PyPI's `tokenizers`.

    text_parts.py --fewbits build/fewbits --work build/interop        text_parts lies in tests/ beside fewbits
"""

import json
import pathlib
import subprocess
import sys
import unicodedata

import common
from tokenizers import normalizers, pre_tokenizers

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "golden" / "tokenizers"))
import random_texts

COUNT = 10_000
NORMALIZERS = {
    "NFC": normalizers.NFC(),
    "NFD": normalizers.NFD(),
    "NFKC": normalizers.NFKC(),
    "NFKD": normalizers.NFKD(),
    "Lowercase": normalizers.Lowercase(),
    "StripAccents": normalizers.StripAccents(),
    "accents": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
    "Strip": normalizers.Strip(),
    "bert uncased": normalizers.BertNormalizer(),
    "bert cased": normalizers.BertNormalizer(lowercase=False, strip_accents=False),
    "bert accents": normalizers.BertNormalizer(lowercase=False, strip_accents=True, handle_chinese_chars=False),
    "bert unclean": normalizers.BertNormalizer(clean_text=False),
}
PRE_TOKENIZERS = {
    "BertPreTokenizer": pre_tokenizers.BertPreTokenizer(),
    "Digits": pre_tokenizers.Digits(individual_digits=True),
    "Punctuation": pre_tokenizers.Punctuation(),
    "Whitespace": pre_tokenizers.Whitespace(),
    "WhitespaceSplit": pre_tokenizers.WhitespaceSplit(),
    "Metaspace": pre_tokenizers.Metaspace(),
}


def state(part):
    return json.loads(part.__getstate__())


def ours(program, kind, part, texts):
    request = json.dumps({kind: state(part), "texts": texts})
    return json.loads(common.run([program], input=request))


def compare(name, texts, got, want):
    wrong = [(text, g, w) for text, g, w in zip(texts, got, want) if g != w]
    for text, g, w in wrong[:20]:
        print(f"{name}: {text!r} {[hex(ord(c)) for c in text][:6]}: fewbits {g!r}, tokenizers {w!r}")
    print(f"{name}: {len(texts) - len(wrong)} of {len(texts)} equal", flush=True)
    return len(wrong)


def unsorted_marks():
    """Combining marks that are younger than the Unicode tables of `tokenizers`: it does not sort them."""
    last = "\u0345"  # of the highest combining class, so that every other mark belongs before it
    form = normalizers.NFD()
    texts = {code: f"a{last}{chr(code)}" for code in range(0x300, 0x110000) if unicodedata.combining(chr(code))}
    return {code: None for code, text in texts.items()
            if form.normalize_str(text) != unicodedata.normalize("NFD", text)}


def main():
    args = common.arguments(__doc__)
    program = args.fewbits.parent / "tests" / "text_parts"
    if not program.exists():
        common.skip("text_parts is not beside fewbits")
    # Digits takes its categories from Unicode 17; PCRE2 and its supplement in fewbits end with 16.
    unknown = {*range(0x11DE0, 0x11DEA), *range(0x16FF4, 0x16FF7), *range(0xD800, 0xE000)}
    every = [f"a{chr(code)}b" for code in range(1, 0x110000) if code not in unknown]
    younger = unsorted_marks()
    texts = every + [text.translate(younger) for text in random_texts.random_texts(COUNT, seed=9)]
    wrong = 0
    for name, part in NORMALIZERS.items():
        want = [part.normalize_str(text) for text in texts]
        wrong += compare(name, texts, ours(program, "normalizer", part, texts), want)
    for name, part in PRE_TOKENIZERS.items():
        want = [[word for word, _ in part.pre_tokenize_str(text)] for text in texts]
        wrong += compare(name, texts, ours(program, "pre_tokenizer", part, texts), want)
    if wrong:
        raise SystemExit(f"{wrong} differences")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Compares fewbits' tokens with PyPI's `tokenizers` and with stock llama.cpp on 10,000 random texts for real
vocabularies:

  the reference model and stories260K as Hugging Face folders, and the GGUF files that fewbits makes of them;
  Llama 3, Qwen2 and GPT-2 from the vocabulary files in FEWBITS_PEERS_DIR/models (of llama-cpp-python's source package).

    tokens.py --fewbits build/fewbits --work build/interop        model_test lies beside fewbits
"""

import json
import os
import pathlib
import subprocess
import sys

import common
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, processors

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "golden" / "tokenizers"))
import random_texts

COUNT = 10_000
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
EXPRESSIONS = {
    "llama-bpe": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST,
    "qwen2": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST,
    "gpt-2": None,
}


def compare(args, name, model, tokenizer):
    """Lets model_test, which loads the tokenizer once, go through the cases."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    cases = random_texts.cases(tokenizer, random_texts.random_texts(COUNT, seed=7))
    path = args.work / f"tokenizer-{name}.json"
    path.write_text(json.dumps({"model": str(model), "cases": cases}))
    environment = os.environ | {"FEWBITS_TOKENIZER_CASES": str(path.resolve())}
    command = [args.fewbits.parent / "model_test", "--gtest_filter=TokenizerInterop.*", "--gtest_brief=1"]
    if subprocess.run(command, env=environment, check=False).returncode != 0:
        raise SystemExit(f"{name}: fewbits and tokenizers differ")
    count = sum(len(case["ids"]) for case in cases)
    print(f"{name}: {len(cases)} texts, {count} tokens, all equal to tokenizers", flush=True)


def compare_with_llama(args, name, folder):
    """What fewbits writes, read by stock llama.cpp, against what `tokenizers` makes of the folder."""
    import llama_cpp

    gguf = args.work / f"tokenizer-{name}.gguf"
    common.run([args.fewbits, "quantize", folder, gguf, "--to", "Q8_0"])
    llama = llama_cpp.Llama(str(gguf), vocab_only=True, verbose=False)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    texts = [text for text in random_texts.random_texts(COUNT, seed=8) if text and "\0" not in text]
    # SmolLM2 has no token for the bytes F1 and F2, with which only planes without characters begin. Such a byte
    # vanishes, and then llama.cpp alone keeps its neighbours from merging.
    texts = [text for text in texts if not any(0x40000 <= ord(character) < 0xC0000 for character in text)]
    for text in texts:
        want = tokenizer.encode(text, add_special_tokens=False).ids
        got = llama.tokenize(text.encode(), add_bos=False, special=False)
        if got != want:
            raise SystemExit(f"{name}: {text!r}: llama.cpp gives {got}, tokenizers {want}")
    compare(args, f"{name}-gguf", gguf, tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")))
    gguf.unlink()
    print(f"{name}: {len(texts)} texts, our GGUF in llama.cpp all equal to tokenizers", flush=True)


def from_vocabulary(path, expression):
    """A byte-level tokenizer as its tokenizer.json has it, from the vocabulary in a GGUF file."""
    from gguf import GGUFReader

    fields = GGUFReader(str(path)).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    vocabulary = {token: i for i, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, merges, ignore_merges="llama" in path.name))
    if expression:
        split = pre_tokenizers.Split(Regex(expression), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(False)
    if "llama" in path.name:
        begin = tokens[fields["tokenizer.ggml.bos_token_id"].contents()]
        template = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, vocabulary[begin])])
        tokenizer.post_processor = template
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, kinds) if kind == 3])
    tokenizer.add_tokens([token for token, kind in zip(tokens, kinds) if kind == 4])
    return tokenizer


def main():
    args = common.arguments(__doc__)
    if not (args.fewbits.parent / "model_test").exists():
        common.skip("model_test is not beside fewbits")
    folders = {"reference": common.reference_model(args.work), "stories": common.shared() / "data" / "stories260k-f32"}
    for name, folder in folders.items():
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        compare(args, name, folder.resolve(), tokenizer)
        compare_with_llama(args, name, folder)
    peers = pathlib.Path(os.environ.get("FEWBITS_PEERS_DIR", args.work)) / "models"
    for name, expression in EXPRESSIONS.items():
        path = peers / f"ggml-vocab-{name}.gguf"
        if path.exists():
            compare(args, name, path.resolve(), from_vocabulary(path, expression))
        else:
            print(f"{name}: {path} is missing, not compared")


if __name__ == "__main__":
    main()

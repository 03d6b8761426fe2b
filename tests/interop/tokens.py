#!/usr/bin/env python3
"""Compares fewbits' tokens with PyPI's `tokenizers` and with stock llama.cpp on 10,000 random texts for real
vocabularies:

  the reference model and stories260K as Hugging Face folders, and the GGUF files that fewbits makes of them;
  Llama 3, Qwen2 and GPT-2 from the vocabulary files in FEWBITS_PEERS_DIR/models (of llama-cpp-python's source package);
  WordPiece, Unigram and SentencePiece's own models, trained here; the last two where PyPI's `sentencepiece` is there.

    tokens.py --fewbits build/fewbits --work build/interop        model_test lies beside fewbits
"""

import json
import os
import pathlib
import subprocess
import sys

import common
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

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
    run_cases(args, name, model, random_texts.cases(tokenizer, random_texts.random_texts(COUNT, seed=7)))


def run_cases(args, name, model, cases):
    path = args.work / f"tokenizer-{name}.json"
    path.write_text(json.dumps({"model": str(model), "cases": cases}))
    environment = os.environ | {"FEWBITS_TOKENIZER_CASES": str(path.resolve())}
    command = [args.fewbits.parent / "model_test", "--gtest_filter=TokenizerInterop.*", "--gtest_brief=1"]
    if subprocess.run(command, env=environment, check=False).returncode != 0:
        raise SystemExit(f"{name}: fewbits and its peer differ")
    count = sum(len(case["ids"]) for case in cases)
    print(f"{name}: {len(cases)} texts, {count} tokens, all equal", flush=True)


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


def training_text():
    text = (pathlib.Path(__file__).parents[2] / "LICENSE").read_text()
    wiki = common.shared() / "data" / "wikitext2-raw-test" / "wiki.test.raw"
    return text + wiki.read_text()[:400_000]


def word_piece(cased):
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=4000, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([training_text()], trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def unigram(charsmap, prepend, byte_fallback):
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    if charsmap:
        steps = [normalizers.Precompiled(charsmap), normalizers.Replace(Regex(" {2,}"), " ")]
        tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=prepend)
    special = ["<pad>", "</s>", "<unk>"] + [f"<0x{byte:02X}>" for byte in range(256) if byte_fallback]
    trainer = trainers.UnigramTrainer(vocab_size=4000, unk_token="<unk>", special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([training_text()], trainer)
    if byte_fallback:
        data = json.loads(tokenizer.to_str())
        data["model"]["byte_fallback"] = True
        data["added_tokens"] = data["added_tokens"][:3]
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(data))
    tokenizer.add_tokens(["<sep>", " spaced"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def compare_trained(args, name, tokenizer):
    folder = args.work / f"tokenizer-{name}"
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    compare(args, name, folder.resolve(), tokenizer)


def sentence_piece(args):
    """SentencePiece's own files against SentencePiece; the character map inside one of them, or nothing."""
    try:
        import sentencepiece
    except ImportError:
        print("sentencepiece is missing, not compared")
        return None
    corpus = args.work / "sentencepiece.txt"
    corpus.write_text(training_text())
    for kind in ["unigram", "bpe"]:
        path = args.work / f"{kind}.model"
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus),
            model_prefix=str(path.with_suffix("")),
            model_type=kind,
            byte_fallback=kind == "bpe",
            vocab_size=3000,
            user_defined_symbols=["<sep>", "<word>"],
            minloglevel=2,
        )
        peer = sentencepiece.SentencePieceProcessor(model_file=str(path))
        # What looks like a special token is one to fewbits where it is asked to parse them.
        texts = [text for text in random_texts.random_texts(COUNT, seed=11) if not has_special(text)]
        cases = []
        for text in texts:
            ids = peer.encode(text)
            case = {"text": text, "ids": ids, "parsed": ids + [2] if kind == "unigram" else [1] + ids}
            cases.append(case if 0 in ids else case | {"decoded": peer.decode(ids)})
        run_cases(args, f"sentencepiece-{kind}", path.resolve(), cases)
    return charsmap_of((args.work / "unigram.model").read_bytes())


def has_special(text):
    return any(special in text for special in ["<s>", "</s>", "<unk>"])


def charsmap_of(message):
    """Field 2 of field 3 of the message: normalizer_spec.precompiled_charsmap."""
    return fields_of(fields_of(message)[3])[2]


def fields_of(message):
    """The fields of a message in Protocol Buffers' wire format, the last of each number."""
    fields, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        tag = varint()
        size = {1: 8, 5: 4}.get(tag & 7)
        if tag & 7 == 0:
            fields[tag >> 3] = varint()
            continue
        size = varint() if size is None else size
        fields[tag >> 3] = message[at : at + size]
        at += size
    return fields


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
    compare_trained(args, "word-piece", word_piece(cased=False))
    compare_trained(args, "word-piece-cased", word_piece(cased=True))
    charsmap = sentence_piece(args)
    compare_trained(args, "unigram", unigram(charsmap, "always", byte_fallback=False))
    compare_trained(args, "unigram-bytes", unigram(charsmap, "first", byte_fallback=True))


if __name__ == "__main__":
    main()

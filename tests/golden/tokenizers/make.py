#!/usr/bin/env python3
"""Makes the golden files beside it: small tokenizers of every kind, trained here on the licence of this repository,
each with random texts and what PyPI's `tokenizers` makes of them.

    python3 make.py        needs tokenizers==0.23.3
"""

import json
import pathlib

from random_texts import cases, random_texts
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
TEXT = (HERE.parents[2] / "LICENSE").read_text() + " It's 1234 o'clock, we've 56 naïve cafés; they'll cost €7.\n" * 20
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def trained(tokenizer, **options):
    trainer = trainers.BpeTrainer(show_progress=False, **options)
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer


def gpt2():
    """Like SmolLM2: digits, then GPT-2's expression. No byte but those of the text, so some vanish."""
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return trained(tokenizer, vocab_size=500, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"])


def llama3():
    """Like Llama 3: an expression, merges that whole words ignore, a template that adds BOS."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(LLAMA3), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained(tokenizer, vocab_size=600, initial_alphabet=alphabet)
    data = json.loads(tokenizer.to_str())
    data["model"]["vocab"]["ĠfooBar"] = tokenizer.get_vocab_size()  # a word that only ignoring the merges finds
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_special_tokens(["<s>", "<|eot_id|>"])
    begin = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), begin])
    return tokenizer


def merges_of_scores(vocabulary):
    """All pairs of tokens that join to a token, in the order of the joined token."""
    merges = []
    for joined in sorted(vocabulary, key=vocabulary.get):
        for cut in range(1, len(joined)):
            if joined[:cut] in vocabulary and joined[cut:] in vocabulary:
                merges.append((joined[:cut], joined[cut:]))
    return merges


def sentence_piece():
    """Like Llama 2: space marks, byte fallback, and merges that follow from the order of the tokens."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    trained(learned, vocab_size=400)
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokens += [token for token, _ in sorted(learned.get_vocab().items(), key=lambda item: item[1])]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    merges = merges_of_scores({token: i for token, i in vocabulary.items() if i >= 259})
    model = models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def everything():
    """What the others lack: normal forms, Metaspace, unknown tokens, all that added tokens can be told."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([metaspace, pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trained(tokenizer, vocab_size=300, special_tokens=["<unk>"])
    tokenizer.add_tokens([
        AddedToken("<word>", single_word=True, normalized=False),
        AddedToken("[left]", lstrip=True, normalized=False),
        AddedToken("[right]", rstrip=True, normalized=False),
        AddedToken("hello", normalized=True),
    ])
    return tokenizer


def word_piece():
    """Like BERT, uncased: its own text stages, marks on what continues a word, a template."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def unigram():
    """Like T5, but for the character map: Unigram, space marks, EOS behind the text."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=400, unk_token="<unk>", special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def write(name, tokenizer, count, seed):
    texts = random_texts(count, seed)
    if name == "unigram":
        # `tokenizers` lets the model find special tokens even where they are to stay text, and puts no mark in front
        # of another; GGUF, where these cases must hold too, does neither.
        texts = [text for text in texts if "</s>" not in text and "<unk>" not in text and text[:1] not in " ▁"]
    golden = {"tokenizer": json.loads(tokenizer.to_str()), "cases": cases(tokenizer, texts)}
    lines = ",\n".join(json.dumps(case, ensure_ascii=True, separators=(",", ":")) for case in golden["cases"])
    head = json.dumps(golden["tokenizer"], ensure_ascii=True, separators=(",", ":"))
    (HERE / f"{name}.json").write_text(f'{{"tokenizer":{head},\n"cases":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    makers = [everything, gpt2, llama3, sentence_piece, unigram, word_piece]
    for seed, make in enumerate(makers):
        write(make.__name__, make(), 400, seed)

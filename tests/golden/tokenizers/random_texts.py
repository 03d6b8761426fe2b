"""Random texts that try a tokenizer: every script, white space of all kinds, contractions, digits, what looks like a
special token. The same seed gives the same texts."""

import random
import unicodedata

CHARACTERS = (
    " \t\n\r'0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,;:!?-_()[]{}<>|/\\@#$%^&*+=~`\""
    "éüñßàçøåæœšžłđ\u00a0\u2009\u3000\u2028\u0085\u180e\u200b\u0301\u0308中文日本語한국어кириллицаابتहिन्दी😀👍🏽🇩🇪\u1160ﬁﬆſİŉ²½Ⅷ٣"
)
PIECES = [
    "it's", "I'LL", "we've", "don't", "the", " of", "  ", "\n\n", "\r\n", "1234567", "Hello", "▁", "<0x0A>", "<s>",
    "</s>", "<|im_end|>", "<|im_start|>", "<|eot_id|>", "<|endoftext|>", "<unk>", "   x", "naïve", "fooBar", "https://x.y/z?q=1",
    "İstanbul", "'S", "'ſ", "<word>", "[left]", "[right]", "Ａ",
]
LENGTHS = [1, 2, 5, 10, 20, 50]


def any_character(source):
    """Any code point; most of those that mean nothing yet are drawn again."""
    while True:
        code = source.randrange(0x110000)
        if 0xD800 <= code < 0xE000:
            continue
        if unicodedata.category(chr(code)) != "Cn" or source.random() < 0.03:
            return chr(code)


def random_texts(count, seed):
    source = random.Random(seed)
    texts = [""]
    while len(texts) < count:
        text = ""
        for _ in range(source.choice(LENGTHS)):
            kind = source.random()
            if kind < 0.25:
                text += any_character(source)
            elif kind < 0.45:
                text += source.choice(PIECES)
            else:
                text += source.choice(CHARACTERS)
        texts.append(text)
    return texts


def cases(tokenizer, texts):
    """What PyPI's `tokenizers` makes of the texts: ids with special tokens as text and as tokens, and the way back."""
    result = []
    for text in texts:
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = False
        parsed = tokenizer.encode(text).ids
        case = {"text": text, "ids": plain, "decoded": tokenizer.decode(plain)}
        if parsed != plain:
            case["parsed"] = parsed  # with what the template adds
        result.append(case)
    return result

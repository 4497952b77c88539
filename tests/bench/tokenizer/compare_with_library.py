#!/usr/bin/env python3
"""Random tokenizers: `sonde tokenize` against Hugging Face's library, ids and text.

usage: python compare_with_library.py SONDE CORPUS.jsonl [--seeds 20] [--first 0] [--kinds bytes,chars,unigram]
                                      [--charsmap TOKENIZER.json]

Run it with a Python that has `tokenizers`. Every seed trains a vocabulary on the corpus and draws normalisers, a
pre-tokenizer, added tokens with random flags, a template, a decoder, the form of the merges; texts are drawn from the
corpus, from difficult characters and from all of Unicode. Precompiled normalisers need a tokenizer.json that has one
(--charsmap). Exit code 1 at the first seed that differs; 77 when the library is absent.
"""

import argparse
import base64
import json
import os
import random
import subprocess
import sys
import tempfile

os.environ["RUST_BACKTRACE"] = "0"  # of panics that this script expects

try:
    from tokenizers import AddedToken, Regex, Tokenizer
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
except ImportError:
    sys.exit(77)

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)
GPT2_TAIL = r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PATTERNS = [
    LLAMA3,
    LLAMA3.replace("{1,3}", ""),
    CL100K,
    "'s|'t|'re|'ve|'m|'ll|'d" + GPT2_TAIL,
    "'(?:[sdmt]|ll|ve|re)" + GPT2_TAIL,
]
PIECES = ["<a>", "<ab>", "b>", "xx", "x", "\u00e9", "\u4e2d", "  ", "\n", "foo", "oo ba", "<|x|>", "'s", "1", "\u00b2"]
PIECES += ["<s", "s>", "hello", " the", "\u0301", "_"]
STRINGS = PIECES + ["</s>", "<unk>", "foo bar", "'RE", "'lL", "   ", "\r\n", "12345"]
CHARACTERS = " \t\n\r'ssStTdDlLrevmaAzZ019\u00b2\u00bd\u0663\u00e9\u00c9\u4e2d\u3042\ud55c\u0301\u200d\u00a0\u2003\u3000"
CHARACTERS += "\u0085\u180e\u200b\u017fK!?.,-_<>|()\U0001f600\U0001f3fd\U00040000\U0001f1e6\x00\x04\U00011de0"


O200K_WORD = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
O200K_TAIL = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = (
    O200K_WORD + r"*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + O200K_TAIL + "|" + O200K_WORD + r"+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + O200K_TAIL
    + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS.append(O200K)
OTHER_PATTERNS = [
    r"\w+", r"\s+", r"[^\s]+", r"\b", r"\p{Lu}", r"(?=[A-Z])", r"(?=(\d{3})+(?!\d))", r"\p{N}", r"[0-9][0-9][0-9]", "a*", "",
    r"\s?\p{P}+", r"[\p{P}\p{S}]", r"(?i:the|s)", r"$", r"^", r"[^\p{L}&&[^aeiou]]+", r" ?[^(\s|[.,!?\u2026])]+", r"\S\s",
    r"[\r\n]", r"\p{M}+", r"(?<=e)", r"'(?:[sdmt]|ll)|\p{L}+|\s+(?!\S)|.", r"\p{^L}", r"\P{Ll}{2}", r"[\d\-]+", r"\s+$",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+",
]
BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]


def draw_pattern(r):
    return r.choice([" ", "e", "\u2581", "--", "the"]) if r.random() < 0.3 else Regex(r.choice(OTHER_PATTERNS + PATTERNS))


def draw_normalizer(r, charsmap):
    n = normalizers
    simple = [n.NFC, n.NFD, n.NFKC, n.NFKD, n.Lowercase, n.StripAccents, n.Nmt]
    kind = r.randrange(8 if charsmap else 7)
    if kind < 3:
        return r.choice(simple)()
    if kind == 3:
        return n.Strip(r.random() < 0.5, r.random() < 0.5)
    if kind == 4:
        return n.Prepend(r.choice(["\u2581", "ab", "x "]))
    if kind < 7:
        pattern = r.choice([" ", "e", "--", Regex(" {2,}"), Regex(r"\s+"), Regex(r"\d"), Regex(r"\p{M}")])
        return n.Replace(pattern, r.choice(["\u2581", " ", "", "zz"]))
    return n.Precompiled(charsmap)


def draw_stage(r):
    p = pre_tokenizers
    kind = r.randrange(9)
    if kind == 0:
        return p.ByteLevel(add_prefix_space=r.random() < 0.3, use_regex=r.random() < 0.5)
    if kind == 1:
        return p.Digits(r.random() < 0.5)
    if kind == 2:
        return p.Punctuation(r.choice(BEHAVIORS))
    if kind < 5:
        return p.Split(draw_pattern(r), r.choice(BEHAVIORS), r.random() < 0.4)
    if kind < 7:
        scheme = r.choice(["always", "first", "never"])
        return p.Metaspace(r.choice("\u2581\u2581_"), scheme, r.random() < 0.5)
    return r.choice([p.Whitespace, p.WhitespaceSplit, p.UnicodeScripts, p.BertPreTokenizer])()


def draw_decoder(r):
    d = decoders
    kind = r.randrange(6)
    if kind == 0:
        return None
    if kind == 1:
        return d.Sequence([d.Replace("\u2581", " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", r.randrange(3), 0)])
    if kind == 2:
        return d.Metaspace("\u2581", r.choice(["always", "first", "never"]), r.random() < 0.5)
    steps = [
        d.ByteLevel(), d.ByteFallback(), d.Fuse(), d.Strip("a", 1, 0), d.Replace(Regex("[ae]+"), "-"), d.Replace("\u2581", " "),
        d.Metaspace(), d.WordPiece("##", r.random() < 0.5), d.BPEDecoder("</w>"), d.CTC("<unk>", "|", r.random() < 0.5),
    ]
    return r.choice(steps) if kind == 3 else d.Sequence(r.sample(steps, r.randrange(1, 4)))


def draw_combination(r, corpus, kind, charsmap):
    if kind == "unigram":
        t = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=r.choice([300, 900]), special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False
        )
    else:
        t = Tokenizer(models.BPE(unk_token="<unk>"))
        affixes = {"continuing_subword_prefix": "##"} if r.random() < 0.1 else {}
        if r.random() < 0.1:
            affixes["end_of_word_suffix"] = "</w>"
        trainer = trainers.BpeTrainer(
            vocab_size=r.choice([400, 1500]),
            special_tokens=["<unk>", "<s>", "</s>"],
            limit_alphabet=r.choice([60, 200]),
            show_progress=False,
            **affixes,
        )
    count = r.choice([0, 0, 1, 2, 3])
    if count:
        t.normalizer = normalizers.Sequence([draw_normalizer(r, charsmap) for _ in range(count)])
    count = r.choice([0, 1, 1, 2, 3])
    if count:
        t.pre_tokenizer = pre_tokenizers.Sequence([draw_stage(r) for _ in range(count)])
    t.train_from_iterator([text[:2000] for text in r.sample(corpus, min(len(corpus), 40))], trainer)
    decoder = draw_decoder(r)
    if decoder is not None:
        t.decoder = decoder
    return t


def finish_combination(r, described):
    model = described["model"]
    if model["type"] == "Unigram":
        if r.random() < 0.3:
            model["byte_fallback"] = True
            model["vocab"] += [[f"<0x{b:02X}>", -20.0] for b in range(256) if r.random() < 0.9]
        if r.random() < 0.3:  # ties
            model["vocab"] = [[token, float(round(score)) / 2] for token, score in model["vocab"]]
        return
    model["fuse_unk"], model["ignore_merges"] = r.random() < 0.5, r.random() < 0.2
    if r.random() < 0.3:
        model["unk_token"] = None
    if r.random() < 0.5:
        model["byte_fallback"] = True
        keep = r.choice([1, 1, 0.9])
        for b in range(256):
            if r.random() < keep:
                model["vocab"].setdefault(f"<0x{b:02X}>", len(model["vocab"]))


def draw_pre_tokenizer(r):
    prefix = r.random() < 0.3
    kind = r.randrange(4)
    if kind == 0:
        return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=True)
    if kind == 1:
        first = [pre_tokenizers.Digits(r.random() < 0.5)]
    else:
        behavior = ("isolated", False) if r.random() < 0.5 else ("removed", True)
        first = [pre_tokenizers.Split(Regex(r.choice(PATTERNS)), *behavior)]
    if kind == 3:
        first.append(pre_tokenizers.Digits(True))
    last = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=kind == 1 or r.random() < 0.2)
    return pre_tokenizers.Sequence(first + [last])


def draw_post_processor(r, bos, eos):
    start = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    both = processors.TemplateProcessing(single="<s> $A </s> </s>", special_tokens=[("<s>", bos), ("</s>", eos)])
    roberta = processors.RobertaProcessing(("</s>", eos), ("<s>", bos))
    return r.choice([None, both, roberta, processors.Sequence([processors.ByteLevel(), start])])


def draw_tokenizer(r, corpus, kind, charsmap):
    if kind != "bytes":
        t = draw_combination(r, corpus, kind, charsmap)
        described = json.loads(t.to_str())
        finish_combination(r, described)
        described["added_tokens"] = []
        t = Tokenizer.from_str(json.dumps(described))
        return add_tokens(r, t)
    unknown = "<unk>" if r.random() < 0.3 else None
    t = Tokenizer(models.BPE(ignore_merges=r.random() < 0.3, unk_token=unknown, fuse_unk=r.random() < 0.5))
    t.pre_tokenizer, t.decoder = draw_pre_tokenizer(r), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if r.random() < 0.4:
        alphabet = r.sample(alphabet, 200)
    trainer = trainers.BpeTrainer(
        vocab_size=r.choice([300, 800, 3000]),
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=alphabet,
        limit_alphabet=r.choice([150, 250, 300]),
        show_progress=False,
    )
    t.train_from_iterator(r.sample(corpus, min(len(corpus), 60)), trainer)
    if r.random() < 0.3:
        t.normalizer = draw_normalizer(r, None)
    return add_tokens(r, t)


def add_tokens(r, t):
    t.add_special_tokens(["<unk>", "<s>", "</s>"])
    for content in r.sample(PIECES, r.randrange(12)):
        flags = {f: r.random() < 0.3 for f in ("single_word", "lstrip", "rstrip", "normalized")}
        special = r.random() < 0.5
        if t.normalizer and not t.normalizer.normalize_str(content):
            flags["normalized"] = False  # refused: the library finds nothing everywhere, and panics
        (t.add_special_tokens if special else t.add_tokens)([AddedToken(content, special=special, **flags)])
    processor = draw_post_processor(r, t.token_to_id("<s>"), t.token_to_id("</s>"))
    if processor is not None:
        t.post_processor = processor
    described = json.loads(t.to_str())
    merges = described["model"].get("merges", [])
    if r.random() < 0.5 and not any(" " in part for merge in merges for part in merge) and merges:
        described["model"]["merges"] = [" ".join(m) for m in described["model"]["merges"]]
    return json.dumps(described)


def draw_texts(r, corpus):
    texts = [t[:400] for t in r.sample(corpus, min(len(corpus), 60))]
    for _ in range(600):
        parts = [r.choice(CHARACTERS) if r.random() < 0.6 else r.choice(STRINGS) for _ in range(r.randrange(60))]
        texts.append("".join(parts))
    scalar = [range(0, 0x3000), range(0xE000, 0x20000), range(0x10000, 0x110000)]
    texts += ["".join(chr(r.choice(r.choice(scalar))) for _ in range(r.randrange(1, 40))) for _ in range(200)]
    return texts


def library(t, text, **options):
    try:
        return t.encode(text, **options).ids
    except BaseException:  # it panics where lstrip and rstrip of neighbours overlap
        return None


def compare(sonde, seed, described, texts, folder):
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
        file.write(described)
    t = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    source = os.path.join(folder, "texts.jsonl")
    with open(source, "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": i, "text": x}) + "\n" for i, x in enumerate(texts))

    def run(key, *arguments):
        out = os.path.join(folder, "out-" + "".join(a.strip("-") for a in arguments if a.startswith("--")) + ".jsonl")
        done = subprocess.run([sonde, "tokenize", folder, *arguments, "--out", out], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"seed {seed}: {done.stderr}")
        with open(out, encoding="utf-8") as file:
            return out, [json.loads(line)[key] for line in file]

    _, ids = run("ids", "--texts", source)
    special_file, special = run("ids", "--texts", source, "--special")
    _, plain = run("ids", "--texts", source, "--plain")
    _, decoded = run("text", "--decode", "--texts", special_file)
    _, skipped = run("text", "--decode", "--texts", special_file, "--skip-special")
    for i, text in enumerate(texts):
        expected = library(t, text, add_special_tokens=False)
        if expected is None:
            continue
        t.encode_special_tokens = True
        expected_plain = library(t, text, add_special_tokens=False)
        t.encode_special_tokens = False
        expected_special = library(t, text)
        found = (ids[i], special[i], expected_plain and plain[i], decoded[i], skipped[i])
        wanted = (
            expected,
            expected_special,
            expected_plain,
            t.decode(expected_special, skip_special_tokens=False),
            t.decode(expected_special),
        )
        if found != wanted:
            print(f"seed {seed}, text {text!r}:\nfound    {found}\nexpected {wanted}")
            return False
    return True


def read_charsmap(path):
    if not path:
        return None
    with open(path, encoding="utf-8") as file:
        return base64.b64decode(json.load(file)["normalizer"]["precompiled_charsmap"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sonde")
    parser.add_argument("corpus")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kinds", default="bytes,chars,unigram")
    parser.add_argument("--charsmap")
    parser.add_argument("--keep-going", action="store_true", help="look at every seed")
    args = parser.parse_args()
    charsmap = read_charsmap(args.charsmap)
    with open(args.corpus, encoding="utf-8") as file:
        corpus = [json.loads(line)["text"] for line in file][:2000]
    differs = 0
    for seed in range(args.first, args.first + args.seeds):
        r = random.Random(seed)
        described, texts = draw_tokenizer(r, corpus, r.choice(args.kinds.split(",")), charsmap), draw_texts(r, corpus)
        with tempfile.TemporaryDirectory() as folder:
            if not compare(args.sonde, seed, described, texts, folder):
                differs += 1
                if not args.keep_going:
                    return 1
    if differs:
        print(f"{differs} of {args.seeds} tokenizers differ")
        return 1
    print(f"{args.seeds} tokenizers: no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Tokenizers put together as the published ones of each family are, trained on a corpus, against the library.

usage: python compare_families.py SONDE CORPUS.jsonl [--family llama2 ...] [--seeds 1] [--first 0]
                                  [--charsmap TOKENIZER.json]

Run it with a Python that has `tokenizers`. Ids with, without and despite special tokens, and decoded text, as in
compare_with_library.py; texts of the corpus, of many scripts, emoji, control characters, code, long runs. Exit code 1
when a family differs; 77 when the library is absent.
"""

import argparse
import base64
import json
import random
import sys
import tempfile

import compare_with_library as common
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

D, N, P = decoders, normalizers, pre_tokenizers
S = "\u2581"
O200K = common.O200K
TEKKEN = O200K.replace(common.O200K_TAIL, "").replace(r"\p{N}{1,3}", r"\p{N}")
QWEN2 = common.LLAMA3.replace("{1,3}", "")
QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK_WORDS = (
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d"
    "\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd"
    "\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57"
    "\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f"
    "\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\ua640-\ua66d\ua680-\ua69b\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a"
    "\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U00010c80-\U00010cb2\U000118a0-\U000118df\U0001e900-\U0001e943]+"
)


def isolated(*patterns):
    return [P.Split(Regex(p), "isolated") for p in patterns]


def bytes_after(*stages, prefix=False):
    return P.Sequence([*stages, P.ByteLevel(add_prefix_space=prefix, use_regex=False)])


def from_spm(strip=True):
    steps = [D.Replace(S, " "), D.ByteFallback(), D.Fuse()]
    return D.Sequence(steps + ([D.Strip(" ", 1, 0)] if strip else []))


PREPEND = [N.Prepend(S), N.Replace(" ", S)]
GREEDY = {"byte_fallback": True, "fuse_unk": True}
BYTES = {"unk_token": None}


def token(content, **flags):
    return AddedToken(content, **{"special": True, "normalized": False, **flags})


BOS, EOS, UNK = token("<s>"), token("</s>"), token("<unk>")
SPM = [UNK, BOS, EOS]
CHAT = [token(f"<|{t}|>") for t in ("im_start", "im_end", "endoftext", "end", "user", "assistant")]
PLAIN = {"special": False}
RUNS = [token(" " * n, **PLAIN, **{"normalized": True}) for n in range(24, 1, -1)]

# name: (model's options, normaliser, pre-tokenizer, decoder, added tokens, text before and after)
FAMILIES = {
    "llama2": (GREEDY, PREPEND, None, from_spm(), SPM, "<s>"),
    "llama2-older": (GREEDY, PREPEND, None, from_spm(), [token(t, normalized=True) for t in ("<unk>", "<s>", "</s>")], "<s>"),
    "llama2-metaspace": (GREEDY, [], P.Metaspace(S, "first", False), from_spm(), SPM, "<s>"),
    "codellama": (GREEDY, PREPEND, None, from_spm(), SPM + [token(S + "<PRE>"), token(S + "<MID>"), token(S + "<EOT>")], "<s>"),
    "llama3": ({**BYTES, "ignore_merges": True}, [], bytes_after(*isolated(common.LLAMA3)), D.ByteLevel(),
               [BOS, EOS, token("<|eot_id|>"), token("<|start_header_id|>")], "<s>"),
    "mistral-v1": (GREEDY, PREPEND, None, from_spm(), SPM, "<s>"),
    "mistral-v3": (GREEDY, [], P.Metaspace(S, "first", False), from_spm(), SPM + [token("[INST]"), token("[/INST]")], "<s>"),
    "mistral-tekken": ({**BYTES, "ignore_merges": True}, [], bytes_after(*isolated(TEKKEN)), D.ByteLevel(),
                       [UNK, BOS, EOS, token("[INST]"), token("[/INST]")], "<s>"),
    "qwen2": (BYTES, [N.NFC()], bytes_after(*isolated(QWEN2)), D.ByteLevel(), CHAT, ""),
    "qwen3": (BYTES, [N.NFC()], bytes_after(*isolated(QWEN2)), D.ByteLevel(),
              CHAT + [token("<think>", **PLAIN), token("</think>", **PLAIN)], ""),
    "qwen3.5": (BYTES, [N.NFC()], bytes_after(*isolated(QWEN35)), D.ByteLevel(), CHAT, ""),
    "gemma": (GREEDY, [N.Replace(" ", S)], P.Split(" ", "merged_with_previous"), from_spm(False),
              SPM + [token("<start_of_turn>"), token("<bos>")] + [token("\n" * n, **PLAIN) for n in range(1, 9)]
              + [token(S * n, **PLAIN) for n in range(2, 9)] + [token("\t" * n, **PLAIN) for n in range(1, 5)], "<s>"),
    "gemma-no-split": (GREEDY, [N.Replace(" ", S)], None, from_spm(False), SPM, "<s>"),
    "gpt2": (BYTES, [], P.ByteLevel(add_prefix_space=False), D.ByteLevel(), [token("<|endoftext|>", normalized=True)], ""),
    "gpt_neox": (BYTES, [N.NFC()], P.ByteLevel(add_prefix_space=False), D.ByteLevel(), [token("<|endoftext|>")] + RUNS, ""),
    "olmo": (BYTES, [N.NFC()], P.ByteLevel(add_prefix_space=False), D.ByteLevel(), [token("<|endoftext|>")] + RUNS, "",),
    "olmo2": (BYTES, [], bytes_after(*isolated(common.LLAMA3)), D.ByteLevel(), CHAT, ""),
    "phi2": (BYTES, [], P.ByteLevel(add_prefix_space=False), D.ByteLevel(),
             [token("<|endoftext|>", normalized=True)] + [token(" " * n, **PLAIN, **{"normalized": True}) for n in range(31, 1, -1)]
             + [token("\t" * n, **PLAIN, **{"normalized": True}) for n in range(9, 1, -1)], ""),
    "phi3": (GREEDY, PREPEND, None, from_spm(), [UNK, BOS, token("</s>", rstrip=True, special=False)]
             + [token(f"<|{t}|>", rstrip=True) for t in ("end", "user", "assistant", "system")] + [token("<|endoftext|>")], ""),
    "phi4": (BYTES, [], bytes_after(P.Split(Regex(common.LLAMA3), "removed", True)), D.ByteLevel(),
             [token(t.content, lstrip=True, rstrip=True) for t in CHAT], ""),
    "stablelm2": (BYTES, [N.NFC()], bytes_after(P.Split(Regex(QWEN2), "removed", True)), D.ByteLevel(), CHAT, ""),
    "starcoder2": (BYTES, [], P.Sequence([P.Digits(True), P.ByteLevel(add_prefix_space=False)]), D.ByteLevel(),
                   CHAT + [token("<fim_prefix>"), token("<file_sep>")], ""),
    "smollm2": (BYTES, [], P.Sequence([P.Digits(True), P.ByteLevel(add_prefix_space=False)]), D.ByteLevel(), CHAT, ""),
    "cohere": (BYTES, [N.NFC()], P.Sequence([P.Digits(True), P.ByteLevel(add_prefix_space=False)]), D.ByteLevel(),
               [token("<s>"), token("<|START_OF_TURN_TOKEN|>"), token("<|USER_TOKEN|>", **PLAIN)], "<s>"),
    "deepseek-llm": (BYTES, [], bytes_after(*isolated(r"[\r\n]", DEEPSEEK_WORDS, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$",
                     r"[一-龥ࠀ-一가-퟿]+"), P.Digits(True)), D.ByteLevel(), [token("<s>", normalized=True)], "<s>"),
    "deepseek-coder": (BYTES, [], bytes_after(*isolated(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+"),
                       P.Digits(True)), D.ByteLevel(), [token("<s>", normalized=True)], "<s>"),
    "deepseek-v3": (BYTES, [], bytes_after(*isolated(r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3)), D.ByteLevel(),
                    [BOS, EOS, token("<think>", **PLAIN)], "<s>"),
    "falcon": (BYTES, [], P.Sequence([P.Punctuation("contiguous"), P.ByteLevel(add_prefix_space=False), P.Digits(False),
               P.Split(Regex("[0-9][0-9][0-9]"), "isolated")]), D.ByteLevel(), [token(">>TITLE<<", normalized=True)], ""),
    "gpt-4o": (BYTES, [], bytes_after(P.Split(Regex(O200K), "removed", True)), D.ByteLevel(), CHAT, ""),
    "bloom": (BYTES, [], bytes_after(*isolated(r" ?[^(\s|[.,!?…。，、।۔،])]+")), D.ByteLevel(), [UNK, BOS, EOS], ""),
    "roberta": (BYTES, [], P.ByteLevel(add_prefix_space=True), D.ByteLevel(), [BOS, EOS, token("<mask>", lstrip=True)], "<s> </s>"),
    "yi": (GREEDY, [N.Replace(" ", S)], None, from_spm(False), SPM + CHAT, ""),
    "t5": ("unigram", ["charsmap"], P.Sequence([P.WhitespaceSplit(), P.Metaspace(S, "always")]), D.Metaspace(S, "always"),
           SPM + [token(f"<extra_id_{i}>", lstrip=True, rstrip=True) for i in range(5)], " </s>"),
    "t5-newer": ("unigram", ["charsmap"], P.Metaspace(S, "always"), D.Metaspace(S, "always"), SPM, " </s>"),
    "xlmr": ("unigram", ["charsmap", N.Replace(Regex(" {2,}"), " ")], P.Metaspace(S, "always"), D.Metaspace(S, "always"),
             SPM + [token("<mask>", lstrip=True)], "<s> </s>"),
    "mt5": ("unigram", ["charsmap", N.Strip(False, True), N.Replace(Regex(" {2,}"), S)], P.Metaspace(S, "always"),
            D.Metaspace(S, "always"), SPM, " </s>"),
    "albert": ("unigram", [N.Replace("``", '"'), N.Replace("''", '"'), N.NFKD(), N.StripAccents(), N.Lowercase(), "charsmap",
               N.Replace(Regex(" {2,}"), " ")], P.Metaspace(S, "always"), D.Metaspace(S, "always"), SPM, "<s> </s>"),
}

SCRIPTS = """The quick brown fox, it's 12,345.67 % of $1e-9! I'LL we'Ve DON'T 'tis 'Re\u017f
Größe Übergröße straße ﬁnally naïve café cafe\u0301 A\u030angstro\u0308m \u212b \u1e9b\u0323
Съешь ещё этих мягких французских булок, да выпей чаю
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία ΟΔΥΣΣΕΎΣ
我能吞下玻璃而不伤身体。一二三，四五六！「引用」全角ＡＢＣ１２３
私はガラスを食べられます。ﾊﾝｶｸ カタカナ ひらがな が\u304b\u3099
나는 유리를 먹을 수 있어요. 그래도 아프지 않아요 \u1112\u1161\u11ab\u1100\u1173\u11af
मैं काँच खा सकता हूँ और मुझे उससे कोई चोट नहीं पहुंचती।
ฉันกินกระจกได้ แต่มันไม่ทำให้ฉันเจ็บ ๑๒๓
أنا قادر على أكل الزجاج و هذا لا يؤلمني. ١٢٣ \u0640\u0640
אני יכול לאכול זכוכית וזה לא מזיק לי. שָׁלוֹם
Tôi có thể ăn thủy tinh mà không hại gì. ក្រុង မြန်မာ தமிழ் తెలుగు ಕನ್ನಡ ქართული հայերեն
\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466\U0001f3fd\U0001f1e9\U0001f1ea \u2764\ufe0f #\ufe0f\u20e3 \U0001f600\U0001f600
def f(x):\n\treturn x**2 if x!=0 else {'a': [1, 2]}  # \u00b5s\n\n\n    for i in range(10):\r\n        print(f\"{i:>08.3f}\")
#include <vector>\nint main(){std::cout<<\"a\\tb\"<<std::endl;return 0x1F&~3;}\n\n// -----\n/* === */
<s>[INST] <<SYS>>\nhi\n<</SYS>> x [/INST] y </s><|im_start|>user\nhi<|im_end|>\n<think>\n\n</think> <unk> <|end|>  \n a
\x00\x01\x02\x07\x08\x0b\x0c\x1b\x1f\x7f\x80\x85\x9f\xad\u200b\u200e\u2028\u2029\u2060\ufeff\ufffd\ufffe\U000e0001\U0010ffff
https://example.org/a_b?c=d&e=%20#f user@mail.com C:\\\\Users\\\\x 2024-02-29T12:00:00Z 192.168.0.1 +49 (0)30 1½ x² ⅷ ①"""
SCRIPTS = [line for line in (SCRIPTS + "\n" + SCRIPTS.replace("\n", " \\n\t")).split("\n") if line]


def draw_texts(r, corpus):
    texts = [t for line in SCRIPTS for t in (line, " " + line, line + " ", line.replace(" \\n", "\n"))]
    for _ in range(150):
        parts = [line[a : a + r.randrange(1, 25)] for line in r.choices(SCRIPTS, k=4) for a in [r.randrange(len(line))]]
        texts.append(r.choice(["", " ", "\n", "  ", "\u3000"]).join(parts))
    for unit in [" ", "\n", "\t", "a", "ab", "\u4e2d", "\U0001f600", "\u0301", "1", "-", "=", " a", "\r\n", S, "\u00e9 ", ". ", "</s>", "!?"]:
        texts += [unit * n for n in (1, 2, 3, 7, 31, 64, 500, r.randrange(1, 3000))]
    return texts + [t[:3000] for t in r.sample(corpus, 40)] + r.sample(common.draw_texts(r, corpus), 300)


def build(r, corpus, family, charsmap):
    options, normals, pre, decoder, added, template = FAMILIES[family]
    words = [t.content for t in SPM]
    if options == "unigram":
        t = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(vocab_size=r.choice([1000, 4000]), special_tokens=words, unk_token="<unk>",
                                          show_progress=False)
    else:
        spm = "byte_fallback" in options
        t = Tokenizer(models.BPE(**{"unk_token": "<unk>", **options}))
        words = words + [f"<0x{b:02X}>" for b in range(256)] if spm else words
        letters = [S] if spm else P.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=r.choice([1500, 6000]), special_tokens=words, initial_alphabet=sorted(letters),
                                      limit_alphabet=400, show_progress=False, max_token_length=16)
    steps = [N.Precompiled(charsmap) if n == "charsmap" else n for n in normals]
    t.normalizer = N.Sequence(steps) if steps else None
    # Without a pre-tokenizer whole texts would be words: words are learned apart, and met in one piece.
    t.pre_tokenizer = pre or P.Metaspace(S, "never", True)
    t.train_from_iterator([x[:3000] for x in r.sample(corpus, 120)] + SCRIPTS * 4, trainer)
    t.decoder = decoder
    described = json.loads(t.to_str())
    described["added_tokens"] = []
    if pre is None:
        described["pre_tokenizer"] = None
    t = Tokenizer.from_str(json.dumps(described))
    for a in added:
        (t.add_special_tokens if a.special else t.add_tokens)([a])
    if template:
        start, _, end = template.partition(" ")
        single = " ".join(x for x in (start, "$A", end) if x)
        specials = [(x, t.token_to_id(x)) for x in ("<s>", "</s>") if x in single and t.token_to_id(x) is not None]
        template = processors.TemplateProcessing(single=single, special_tokens=specials)
        is_bytes = options != "unigram" and "byte_fallback" not in options
        t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template]) if is_bytes else template
    elif options != "unigram" and "byte_fallback" not in options:
        t.post_processor = processors.ByteLevel(trim_offsets=False)
    return t.to_str()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sonde")
    parser.add_argument("corpus")
    parser.add_argument("--family", action="append", choices=list(FAMILIES))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--charsmap")
    args = parser.parse_args()
    charsmap = common.read_charsmap(args.charsmap)
    with open(args.corpus, encoding="utf-8") as file:
        corpus = [json.loads(line)["text"] for line in file][:2000]
    bad = 0
    for family in args.family or FAMILIES:
        if "charsmap" in FAMILIES[family][1] and not charsmap:
            print(f"{family:18} needs --charsmap")
            continue
        for seed in range(args.first, args.first + args.seeds):
            r = random.Random(seed)
            with tempfile.TemporaryDirectory() as folder:
                same = common.compare(args.sonde, f"{family} {seed}", build(r, corpus, family, charsmap), draw_texts(r, corpus), folder)
            bad += not same
            print(f"{family:18} {seed:4} {'equal' if same else 'DIFFERS'}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

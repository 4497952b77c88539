#!/usr/bin/env python3
"""MB per CPU second on one core: Sonde beside Hugging Face's tokenizers library, in the same run.

usage: python tokenizer_speed.py --bench BUILD/tests/bench_tokenizer --gguf SmolLM2.gguf --texts train.jsonl [--rounds 3]
       python tokenizer_speed.py --bench BUILD/tests/bench_tokenizer --json TOKENIZER.json ... --texts train.jsonl

Run it with a Python that has `tokenizers` (python3 -m venv v && v/bin/pip install 'tokenizers==0.23.*'). The
vocabulary of SmolLM2's GGUF is written as a tokenizer.json, which the library and Sonde read; Sonde is also timed on
the GGUF itself. With --json, the given files are timed in its place, one after the other. Rounds are interleaved, and the ids must be equal. Exit code 1 when they differ or when Sonde is less
than --least times as fast.
"""

import argparse
import array
import hashlib
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"


def read_gguf_metadata(path):
    data = open(path, "rb").read(64 << 20)
    at = 4

    def number(code):
        nonlocal at
        (value,) = struct.unpack_from("<" + code, data, at)
        at += struct.calcsize("<" + code)
        return value

    def text():
        nonlocal at
        size = number("Q")
        at += size
        return data[at - size : at].decode()

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            inner, count = number("I"), number("Q")
            return [value(inner) for _ in range(count)]
        return number({0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}[kind])

    number("I"), number("Q")  # version, tensors
    metadata = {}
    for _ in range(number("Q")):
        key = text()
        metadata[key] = value(number("I"))
    return metadata


def tokenizer_json(metadata):
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": t, **flags} for i, t in enumerate(tokens) if types[i] == 3],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {t: i for i, t in enumerate(tokens)},
            "merges": [m.split(" ", 1) for m in metadata["tokenizer.ggml.merges"]],
        },
    }


def run_sonde(bench, model, texts):
    return json.loads(subprocess.run([bench, model, texts, "3"], check=True, capture_output=True, text=True).stdout)


def library_round(library, texts):
    ids = array.array("i")
    start = time.process_time()
    encoded = [library.encode(t, add_special_tokens=False) for t in texts]
    seconds = time.process_time() - start
    for e in encoded:
        ids.extend(e.ids)
    return seconds, hashlib.sha256(ids.tobytes()).hexdigest()


def compare(args, path, others, texts, megabytes, tokenizers):
    """Prints the speeds; whether the ids are equal and Sonde is fast enough."""
    library = tokenizers.Tokenizer.from_file(path)
    models = {"sonde tokenizer.json": path, **others}
    seconds = {name: [] for name in ["tokenizers", *models]}
    hashes = {}
    for _ in range(args.rounds):
        spent, hashes["tokenizers"] = library_round(library, texts)
        seconds["tokenizers"].append(spent)
        for name, model in models.items():
            result = run_sonde(args.bench, model, args.texts)
            seconds[name] += result["cpu_seconds"]
            hashes[name] = result["sha256"]
    best = {}
    for name, runs in seconds.items():
        best[name] = megabytes / min(runs)
        print(f"  {name:22} best {best[name]:7.2f}   median {megabytes / statistics.median(runs):7.2f}")
    ratio = min(best[name] for name in models) / best["tokenizers"]
    same = hashes["sonde tokenizer.json"] == hashes["tokenizers"]
    print(f"  ratio of the bests     {ratio:7.2f}   (least {args.least})   ids equal: {'yes' if same else 'NO'}", flush=True)
    return same and ratio >= args.least


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", required=True)
    parser.add_argument("--gguf")
    parser.add_argument("--json", nargs="*", default=[])
    parser.add_argument("--texts", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--least", type=float, default=3.0)
    args = parser.parse_args()
    import tokenizers

    texts = [json.loads(line)["text"] for line in open(args.texts, encoding="utf-8")]
    megabytes = sum(len(t.encode()) for t in texts) / 1e6
    print(f"{len(texts)} documents, {megabytes:.2f} MB, tokenizers {tokenizers.__version__}; MB per CPU second, one thread")
    good = True
    for path in args.json:
        print(path)
        good &= compare(args, path, {}, texts, megabytes, tokenizers)
    if args.gguf:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "tokenizer.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(tokenizer_json(read_gguf_metadata(args.gguf)), file)
            print(args.gguf)
            good &= compare(args, path, {"sonde GGUF": args.gguf}, texts, megabytes, tokenizers)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""sonde tokenize from the outside: kinds of ids and files, threads, both ways, bad input. usage: tokenize_test.py SONDE"""
import gzip
import json
import os
import subprocess
import sys
import tempfile

from tiny_tokenizer import tokenizer_json

SONDE = sys.argv[1]


class Bench:
    def __init__(self, folder):
        self.folder = folder
        self.write("tokenizer.json", json.dumps(tokenizer_json()))

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        data = text if isinstance(text, bytes) else text.encode()
        with (gzip.open if name.endswith(".gz") else open)(self.path(name), "wb") as file:
            file.write(data)
        return self.path(name)

    def run(self, *arguments, code=0, threads=None):
        env = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
        result = subprocess.run([SONDE, "tokenize", *arguments], capture_output=True, text=True, env=env)
        if result.returncode != code:
            sys.exit(f"sonde tokenize {' '.join(arguments)}\nexit code {result.returncode}, expected {code}\n{result.stderr}")
        return result.stderr

    def rows(self, *arguments, model=None, **options):
        out = self.path("out.jsonl")
        self.run(model or self.folder, *arguments, "--out", out, **options)
        with open(out, encoding="utf-8") as file:
            return [json.loads(line) for line in file]


def expect(found, expected):
    if found != expected:
        sys.exit(f"found {found}\nexpected {expected}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder)
        texts = bench.write("t.jsonl", '{"id": 7, "text": "the"}\n{"id": -2, "text": ""}\n{"id": 9, "text": "<s> the"}\n')
        the, space_the, bos = 257, 258, 259
        rows = [{"id": 7, "ids": [the]}, {"id": -2, "ids": []}, {"id": 9, "ids": [bos, space_the]}]
        expect(bench.rows("--texts", texts), rows)
        expect(bench.rows("--texts", texts, model=bench.path("tokenizer.json")), rows)
        expect([r["ids"] for r in bench.rows("--texts", texts, "--special")], [[bos, the], [bos], [bos, bos, space_the]])
        plain = [ord("<"), ord("s"), ord(">"), space_the]
        expect([r["ids"] for r in bench.rows("--texts", texts, "--plain")], [[the], [], plain])

        # ids stay what they were: text, or the row's number where there are none
        rows = bench.rows("--texts", bench.write("s.jsonl", '{"id": "7", "text": "a"}\n'))
        expect(rows, [{"id": "7", "ids": [97]}])
        rows = bench.rows("--texts", bench.write("l.txt.gz", "a\nb\n"))
        expect(rows, [{"id": 0, "ids": [97]}, {"id": 1, "ids": [98]}])
        table = bench.write("c.csv", 'key,body\nx,"a\n""b"""\ny,the\n')
        rows = bench.rows("--texts", table, "--column", "body", "--id-column", "key")
        expect(rows, [{"id": "x", "ids": [97, 10, 34, 98, 34]}, {"id": "y", "ids": [the]}])

        # and back
        ids = bench.write("i.jsonl", '{"id": "a", "ids": [259, 257, 195]}\n{"id": "b", "ids": []}\n')
        expect(bench.rows("--decode", "--texts", ids), [{"id": "a", "text": "<s>the\ufffd"}, {"id": "b", "text": ""}])
        expect(bench.rows("--decode", "--ids", ids, "--skip-special")[0]["text"], "the\ufffd")

        # through a chat template: a text is one user's turn, `messages` a conversation
        def chat(lines):
            out = bench.rows("--texts", bench.write("chat.jsonl", lines), "--chat", "--chat-template", "llama3")
            shown = bench.write("shown.jsonl", json.dumps(out[0]) + "\n")
            return bench.rows("--decode", "--texts", shown)[0]["text"]

        turn = "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>".format
        end = "<|start_header_id|>assistant<|end_header_id|>\n\n"
        expect(chat('{"text": " the "}\n'), "<s>" + turn("user", "the") + end)
        talk = [{"role": "system", "content": "b"}, {"role": "user", "content": "the"}]
        expect(chat(json.dumps({"messages": talk}) + "\n"), "<s>" + turn("system", "b") + turn("user", "the") + end)

        # any number of threads, the same bytes
        many = bench.write("m.jsonl", "".join(json.dumps({"id": i, "text": " the th" * (i % 50)}) + "\n" for i in range(2000)))
        expect(bench.rows("--texts", many, threads=1), bench.rows("--texts", many, threads=4))

        # broken UTF-8 is counted in a warning
        broken = bench.write("b.txt", b"a\xff\xfeb\n\xe2\x82\nc\n")
        out = bench.path("out.jsonl")
        expect("3 broken UTF-8 sequences in 2 of 3 texts" in bench.run(folder, "--texts", broken, "--out", out), True)

        # one error line, and no output file that looks whole
        fresh = bench.path("fresh.jsonl")
        for arguments, code, words in [
            (["--texts", texts], 2, "--out"),
            (["--out", fresh], 2, "--texts"),
            (["--texts", texts, "--out", fresh, "--special", "--plain"], 2, "exclude"),
            (["--texts", texts, "--out", fresh, "--skip-special"], 2, "--decode"),
            (["--texts", texts, "--out", fresh, "--chat"], 1, "no chat template found"),
            (["--texts", texts, "--out", fresh, "--chat", "--chat-template", "x"], 1, "expected one of chatml"),
            (["--texts", texts, "--out", fresh, "--chat-template", "gemma"], 2, "--chat"),
            (["--texts", texts, "--out", fresh, "--column", "body"], 1, "body"),
            (["--texts", texts, "--out", fresh, "--id-column", "key"], 1, "key"),
            (["--texts", bench.path("none.jsonl"), "--out", fresh], 1, "none.jsonl"),
            (["--texts", texts, "--out", os.path.join(folder, "no", "x.jsonl")], 1, "x.jsonl"),
            (["--decode", "--ids", bench.write("h.jsonl", '{"ids": [260]}\n'), "--out", fresh], 1, "260"),
            (["--decode", "--ids", bench.write("n.jsonl", '{"ids": [-1]}\n'), "--out", fresh], 1, "-1"),
        ]:
            message = bench.run(folder, *arguments, code=code)
            found = words in message, message.count("\n"), os.path.exists(fresh)
            expect((*found, message), (True, 1, False, message))
        bench.run(bench.path("nowhere"), "--texts", texts, "--out", fresh, code=1)


if __name__ == "__main__":
    main()

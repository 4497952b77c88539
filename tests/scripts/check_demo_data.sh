#!/usr/bin/env bash
# The demo's data are what their generators write, and balanced: check_demo_data.sh ROOT PYTHON.
set -euo pipefail
cd "$1/data/demo"
"$2" make_cities.py | cmp - cities.csv
"$2" make_coin_flip.py | cmp - coin_flip.csv
"$2" - <<'PYTHON'
import csv
from collections import Counter, defaultdict

cities = list(csv.DictReader(open("cities.csv", encoding="utf-8")))
sides, countries = defaultdict(set), defaultdict(Counter)
for row in cities:
    sides[row["city"]].add(row["split"])
    countries[row["split"], row["label"]][row["country"]] += 1
assert len(cities) >= 600, len(cities)
assert all(len(side) == 1 for side in sides.values()), "a city is on both sides of the split"
for split in ("train", "test"):
    assert countries[split, "0"] == countries[split, "1"], "a country alone says something about the label"
coins = list(csv.DictReader(open("coin_flip.csv", encoding="utf-8")))
for row in coins:
    heads_up = (row["text"].count(" flips the coin.") % 2 == 0)
    assert row["label"] == str(int(heads_up)), row
assert len({row["text"] for row in coins}) == len(coins), "a story is there twice"
print(f"{len(cities)} statements about {len(sides)} cities, {len(coins)} stories of a coin")
PYTHON

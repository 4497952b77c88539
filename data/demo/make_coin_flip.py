#!/usr/bin/env python3
"""Writes coin_flip.csv: four people flip a coin or leave it, is it still heads up? The answer (label 1: yes) is the
parity of the flips, which no single word gives away: both answers are equally frequent on each side of the split.

usage: make_coin_flip.py [--rows N] [--seed N] > coin_flip.csv
"""
import argparse
import csv
import random
import sys

PEOPLE = ("Ada Amir Anna Ben Carla Chen Clara Daniel Diego Elena Emma Erik Fatima Felix Grace Hana Hugo Ida Ivan Jonas"
          " Julia Karim Kofi Lara Leo Lina Luca Maja Marie Mateo Mina Nadia Nico Nina Noah Olga Omar Oscar Paula Pedro Petra"
          " Priya Rosa Ruth Samir Sara Simon Sofia Theo Tom Uma Vera Victor Wanda Yara Yuki Zoe").split()


def story(flips, rng):
    steps = [f"{person} {'flips the coin' if flipped else 'does not flip the coin'}."
             for person, flipped in zip(rng.sample(PEOPLE, len(flips)), flips)]
    return f"A coin lies heads up. {' '.join(steps)} Is the coin still heads up, yes or no?"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    rng = random.Random(options.seed)

    texts = set()
    rows = []
    for i in range(options.rows):
        label = i % 2
        split = "train" if i < round(0.6 * options.rows) else "test"
        while True:
            flips = [rng.random() < 0.5 for _ in range(4)]
            text = story(flips, rng)
            if (sum(flips) % 2 == 0) == bool(label) and text not in texts:
                break
        texts.add(text)
        rows.append((text, label, split))
    rng.shuffle(rows)

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["text", "label", "split"])
    writer.writerows(rows)


if __name__ == "__main__":
    main()

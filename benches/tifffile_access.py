#!/usr/bin/env python3
"""Frames a second of the TIFF reader compared with those of Python's tifffile.

    pip install tifffile
    python3 benches/tifffile_access.py

Both read the same generated stacks, 400 frames of 256 x 256 uint16, on one thread: every frame
once, in order and shuffled, as the stored type, copied to one place so that every pixel is
touched. tifffile reads the contiguous stack through `tifffile.memmap`, the deflated one page by
page; with imagecodecs installed it inflates with that, else with Python's zlib. Each pass has a
stack of its own, opened before the clock starts. The fastest of 21 passes counts, 7 in each of
three turns, so that a machine that is busy for a while slows both.

Exits with 1 if a goal is missed: at least as fast mapped, and twice as fast deflated; as fast where
tifffile has imagecodecs.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import tifffile

HERE = Path(__file__).parent
TURNS = 3
ROUNDS = 7
HAS_IMAGECODECS = tifffile.tifffile.imagecodecs.__name__ == "imagecodecs"
GOALS = {"mapped": 1.0, "deflate": 1.0 if HAS_IMAGECODECS else 2.0}
CARGO = "cargo run --release --quiet -p burn-memopt-benches --example tiff_access --".split()


class Mapped:
    """Frames of a contiguous stack."""

    def __init__(self, path):
        self.stack = tifffile.memmap(path, mode="r")

    def __len__(self):
        return len(self.stack)

    def frame(self, index):
        return self.stack[index]


class Deflated:
    """Frames of a deflated stack."""

    def __init__(self, path):
        self.pages = tifffile.TiffFile(path).pages
        self.len = len(self.pages)

    def __len__(self):
        return self.len

    def frame(self, index):
        return self.pages[index].asarray()


def theirs(folder):
    """Frames a second and the sum of all pixels, by case."""
    measured = {}
    for layout, stack_of, name in (("mapped", Mapped, "contiguous.tif"), ("deflate", Deflated, "deflate.tif")):
        for order in ("sequential", "random"):
            stack = stack_of(Path(folder, name))
            frames = list(range(len(stack)))
            if order == "random":
                random.Random(1).shuffle(frames)
            total = sum(int(stack.frame(index).sum(dtype=numpy.uint64)) for index in frames)
            place = numpy.empty_like(stack.frame(0))
            fastest = float("inf")
            for _ in range(ROUNDS):
                stack = stack_of(Path(folder, name))
                start = time.perf_counter()
                for index in frames:
                    numpy.copyto(place, stack.frame(index))
                fastest = min(fastest, time.perf_counter() - start)
            measured[f"tiff_{layout}_{order}"] = (len(frames) / fastest, total)
    return measured


def ours(command, folder):
    """The same from our side."""
    output = subprocess.run([*command, folder], check=True, cwd=HERE, stdout=subprocess.PIPE, text=True).stdout
    rows = map(json.loads, output.splitlines())
    return {row["case"]: (row["frames_per_second"], row["sum"]) for row in rows}


def faster(before, now):
    return {case: max(before.get(case, (0, None)), now[case]) for case in now}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours", help="the built example `tiff_access`; by default cargo builds and runs it")
    arguments = parser.parse_args()
    command = [arguments.ours] if arguments.ours else CARGO
    rust, python = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*command, folder, "write"], check=True, cwd=HERE)
        for _ in range(TURNS):
            rust = faster(rust, ours(command, folder))
            python = faster(python, theirs(folder))

    print(f"tifffile {tifffile.__version__}, codecs from {tifffile.tifffile.imagecodecs.__name__}")
    print(f"{'frames/s':<24} {'ours':>10} {'tifffile':>10} {'ratio':>7}")
    missed = []
    for case, (speed, total) in rust.items():
        their_speed, their_total = python[case]
        if total != their_total:
            sys.exit(f"{case}: the pixels differ")
        ratio = speed / their_speed
        print(f"{case:<24} {speed:>10.0f} {their_speed:>10.0f} {ratio:>7.2f}")
        goal = GOALS[case.split("_")[1]]
        if ratio < goal:
            missed.append(f"{case} is {ratio:.2f} times tifffile, not {goal}")
    if missed:
        sys.exit("; ".join(missed))


if __name__ == "__main__":
    main()

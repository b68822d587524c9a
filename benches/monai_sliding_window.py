#!/usr/bin/env python3
"""Seconds to cut an image into windows and to blend them, compared with MONAI's sliding_window_inference.

    pip install monai torch
    python3 benches/monai_sliding_window.py

Both work through noise of 1 x 3 x 2048 x 2048 float32 with windows of 256 x 256 that overlap by a
quarter, one at a time, and a model that returns its window: what is measured is cutting and blending
alone. MONAI runs with PyTorch's number of threads and with one thread; the faster counts. The
fastest of 21 runs counts, 7 in each of three turns, so that a machine that is busy for a while slows
both.

Exits with 1 if ours is not faster, or changes the image.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import monai
import torch
from monai.inferers import sliding_window_inference

HERE = Path(__file__).parent
TURNS = 3
ROUNDS = 7
SIDE = 2048
WINDOW = 256
OVERLAP = 0.25
ROUNDING = 1e-5
CARGO = "cargo run --release --quiet -p burn-memopt-benches --example chunked_identity".split()


def theirs():
    """Seconds and the largest difference, by case."""
    image = torch.rand(1, 3, SIDE, SIDE)
    threads = torch.get_num_threads()
    measured = {}
    for mode in ("constant", "gaussian"):
        fastest = float("inf")
        for num_threads in {threads, 1}:
            torch.set_num_threads(num_threads)
            for _ in range(ROUNDS):
                start = time.perf_counter()
                result = sliding_window_inference(
                    image, (WINDOW, WINDOW), 1, lambda window: window, overlap=OVERLAP, mode=mode
                )
                fastest = min(fastest, time.perf_counter() - start)
        torch.set_num_threads(threads)
        measured[mode] = (fastest, float((result - image).abs().max()))
    return measured


def ours(command):
    """The same from our side."""
    output = subprocess.run(command, check=True, cwd=HERE, stdout=subprocess.PIPE, text=True).stdout
    rows = map(json.loads, output.splitlines())
    return {row["case"]: (row["seconds"], row["deviation"]) for row in rows}


def faster(before, now):
    return {case: min(before.get(case, now[case]), now[case]) for case in now}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours", help="the built example `chunked_identity`; by default cargo builds and runs it")
    arguments = parser.parse_args()
    command = [arguments.ours] if arguments.ours else CARGO
    rust, python = {}, {}
    for _ in range(TURNS):
        rust = faster(rust, ours(command))
        python = faster(python, theirs())

    print(f"MONAI {monai.__version__}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'seconds':<12} {'ours':>8} {'MONAI':>8} {'ratio':>7}")
    missed = []
    for case, (seconds, deviation) in rust.items():
        their_seconds, their_deviation = python[case]
        if deviation > ROUNDING:
            sys.exit(f"{case}: the image changed by {deviation:.1e}")
        print(
            f"{case:<12} {seconds:>8.3f} {their_seconds:>8.3f} {their_seconds / seconds:>7.2f}"
            f"   the image changed by {deviation:.1e} (ours), {their_deviation:.1e} (MONAI)"
        )
        if seconds >= their_seconds:
            missed.append(f"{case}: {seconds:.3f} s, and MONAI {their_seconds:.3f} s")
    if missed:
        sys.exit("; ".join(missed))


if __name__ == "__main__":
    main()

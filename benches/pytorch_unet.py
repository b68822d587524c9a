#!/usr/bin/env python3
"""Seconds and memory of a training step of the U-Net, compared with PyTorch's.

    pip install torch
    python3 benches/pytorch_unet.py

Both run a forward and a backward pass of the same network (64 channels, depth 4, batch norm,
bilinear upsampling) on 1 x 3 x 256 x 256 float32, plain and with every block recomputed, with all
cores. Peaks are the highest bytes of a step above those live before it. The median of 7 steps counts;
the two sides run in turn, twice. Without PyTorch ours is measured alone.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

try:
    import torch
    from torch import nn
    from torch.utils.checkpoint import checkpoint
except ImportError:
    torch = None

HERE = Path(__file__).parent
STEPS = 7
TURNS = 2
SIDE = 256
BASE = 64
BENCH = "cargo xtask bench --only unet256 --json".split()


def ours(command):
    """Seconds and peak bytes of a step, by variant."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        subprocess.run([*command, str(path)], check=True, cwd=HERE.parent, stdout=subprocess.DEVNULL)
        rows = json.loads(path.read_text())
    return {row["variant"]: (row["seconds"], row["peak_bytes"]) for row in rows}


def pair(inputs, middle, outputs):
    """Twice: convolution, normalization, ReLU."""
    layers = []
    for before, after in ((inputs, middle), (middle, outputs)):
        conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def network():
    """The U-Net as a function of an image and of a way to run its blocks."""
    widths = [BASE << level for level in range(5)]
    halve = lambda level: widths[level] // 2 if level == 4 else widths[level]
    down = [pair(3, BASE, BASE)]
    down += [pair(widths[level - 1], halve(level), halve(level)) for level in range(1, 5)]
    up = []
    for level in range(3, -1, -1):
        inputs = 2 * widths[level]
        outputs = widths[level] // 2 if level else BASE
        up.append(pair(inputs, inputs // 2, outputs))
    head = nn.Conv2d(BASE, 1, 1)
    double = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    pool = nn.MaxPool2d(2)
    blocks = nn.ModuleList([*down, *up, head])

    def forward(x, run):
        skips = []
        for level, block in enumerate(down):
            x = run(lambda x, block=block, level=level: block(pool(x) if level else x), x)
            skips.append(x)
        skips.pop()
        for block in up:
            join = lambda x, skip, block=block: block(torch.cat([skip, double(x)], 1))
            x = run(join, x, skips.pop())
        return head(x)

    return blocks, forward


def theirs():
    """The same from PyTorch's side."""
    torch.manual_seed(0)
    blocks, forward = network()
    image = torch.rand(1, 3, SIDE, SIDE)
    ways = {
        "plain": lambda block, *x: block(*x),
        "block": lambda block, *x: checkpoint(block, *x, use_reentrant=False),
    }

    def step(way):
        blocks.zero_grad(set_to_none=True)
        forward(image, way).mean().backward()

    measured = {}
    for name, way in ways.items():
        step(way)
        seconds = []
        for _ in range(STEPS):
            start = time.perf_counter()
            step(way)
            seconds.append(time.perf_counter() - start)
        blocks.zero_grad(set_to_none=True)
        measured[name] = (statistics.median(seconds), peak(lambda: step(way)))
    return measured


def peak(run):
    """The highest live bytes of tensors during `run`, above those before it."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        run()
    events = profile.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    live = highest = 0
    for _, change in changes:
        live += change
        highest = max(highest, live)
    return highest


def best(turns):
    """The fastest of several measurements, and their smallest peak."""
    return {
        name: tuple(min(turn[name][at] for turn in turns) for at in (0, 1)) for name in turns[0]
    }


def main():
    command = sys.argv[1:] or BENCH
    mine, reference = [], []
    for _ in range(TURNS):
        mine.append(ours(command))
        if torch:
            reference.append(theirs())
    mine = best(mine)
    reference = best(reference) if torch else {}
    if torch:
        print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    for name, (seconds, peak_bytes) in mine.items():
        line = f"{name:6} ours {seconds:6.3f} s {peak_bytes / 2**20:6.1f} MiB"
        if name in reference:
            other, other_peak = reference[name]
            line += f"   PyTorch {other:6.3f} s {other_peak / 2**20:6.1f} MiB"
            line += f"   ratio {seconds / other:.2f}, {peak_bytes / other_peak:.2f}"
        print(line)


if __name__ == "__main__":
    main()

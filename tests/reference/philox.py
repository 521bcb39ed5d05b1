"""fokker's noise in Python: Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011), keyed and made normal as in
``crates/tensor/src/noise``.

A reference sampler is fed the very numbers that fokker's solver draws, so that stochastic trajectories are compared
number by number. The case ``noise`` of each fixture that needs this holds some of them, and a test says that both sides
have the same.
"""

import math

import numpy as np
import torch

MASK_32, MASK_64 = (1 << 32) - 1, (1 << 64) - 1
# Draws per step that have keys of their own: `DRAWS` of crates/solve/src/solver.rs.
DRAWS = 256


def philox4x32_10(counter, key):
    """Four 32-bit words for a counter of four words and a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & MASK_32, (a >> 32) ^ c3 ^ k1, a & MASK_32
        k0, k1 = (k0 + 0x9E3779B9) & MASK_32, (k1 + 0xBB67AE85) & MASK_32
    return [c0, c1, c2, c3]


# Random123's known answers.
assert philox4x32_10([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
assert philox4x32_10([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0]) == [
    0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def mix(x):
    """SplitMix64's output function."""
    x = (x + 0x9E3779B97F4A7C15) & MASK_64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK_64
    return x ^ (x >> 31)


def box_muller(a, b):
    """Two standard normal numbers from two words: the angle from the second."""
    u, v = (a + 0.5) / 2**32, (b + 0.5) / 2**32
    radius = math.sqrt(-2 * math.log(u))
    return [radius * math.cos(2 * math.pi * v), radius * math.sin(2 * math.pi * v)]


def normal(seed, stream, step, batch, each, first_sample=0):
    """``Noise::normal``: ``[batch, each]`` standard normal numbers of (seed, stream) at ``step``."""
    key = mix(mix(seed) ^ stream)
    key = [key & MASK_32, key >> 32]
    rows = []
    for sample in range(first_sample, first_sample + batch):
        row = []
        for block in range((each + 3) // 4):
            words = philox4x32_10([block, step, sample & MASK_32, sample >> 32], key)
            row += box_muller(*words[:2]) + box_muller(*words[2:])
        rows.append(row[:each])
    return torch.from_numpy(np.array(rows))


def noise_step(index, draw):
    """The ``step`` of draw number ``draw`` in step number ``index`` of a sampler; 0 is the initial state's."""
    return DRAWS * (index + 1) + draw


# What all trajectories use: the tests' seed and stream (`NOISE` in tests/tests/oracle/mod.rs), four samples in the plane.
SEED, STREAM, BATCH, DIM = 17, 4, 4, 2


def draw(index, number):
    """``[BATCH, DIM]`` numbers: draw ``number`` of step ``index``."""
    return normal(SEED, STREAM, noise_step(index, number), BATCH, DIM)


def initial():
    """The standard normal numbers of the initial state, ``[BATCH, DIM]``."""
    return normal(SEED, STREAM, 0, BATCH, DIM)


class Draws:
    """A source of noise for a reference sampler: its n-th call within a step gets ``plan[n]``, which is a draw's number
    or a list of ``[factor, number]`` to be added. It may be called like ``torch.randn_like``."""

    def __init__(self, plan):
        self.plan, self.index, self.calls = plan, None, 0

    def start(self, index):
        self.index, self.calls = index, 0

    def __call__(self, *_, **__):
        if not self.plan:
            # A sampler may draw what it then multiplies by zero: that must not matter.
            return torch.full((BATCH, DIM), 1e6)
        entry = self.plan[self.calls]
        self.calls += 1
        if isinstance(entry, int):
            return draw(self.index, entry)
        return sum(factor * draw(self.index, number) for factor, number in entry)


def noise_case(fixture):
    """The case ``noise``: some numbers of fokker's, ``[3 steps, 2 draws, BATCH, DIM]``."""
    fixture.describe("noise", "noise", seed=SEED, stream=STREAM)
    fixture.put("noise", "draws", torch.stack([torch.stack([draw(i, k) for k in range(2)]) for i in range(3)]))
    fixture.put("noise", "initial", initial())

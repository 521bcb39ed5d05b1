"""Fixtures for norms, softmax, attention, resampling and embeddings.

    python tests/reference/layers.py [--check]
"""

import math

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding

from fixture import Draw, Fixture

fixture = Fixture("layers")


def norms():
    def group_norm(x, w, b, groups, eps):
        return F.group_norm(x.movedim(-1, 1), groups, w, b, eps).movedim(1, -1)

    shapes = {"": ([2, 3, 5, 8], 4, 1e-5), "-one-group": ([2, 4, 3, 6], 1, 1e-5), "-instance": ([2, 4, 3, 6], 6, 1e-6),
              "-wide": ([1, 3, 3, 24], 3, 1e-6), "-tokens": ([2, 7, 8], 4, 1e-5)}
    for suffix, (shape, groups, eps) in shapes.items():
        draw = Draw(f"group-norm{suffix}")
        channels = shape[-1]
        leaves = {"x": draw.normal(*shape, scale=1.5) + 0.4, "w": 1 + 0.3 * draw.normal(channels),
                  "b": draw.normal(channels)}
        fixture.add(f"group-norm{suffix}", "group_norm", lambda x, w, b: group_norm(x, w, b, groups, eps), leaves,
                    groups=groups, eps=eps)
        fixture.add(f"group-norm-silu{suffix}", "group_norm_silu",
                    lambda x, w, b: F.silu(group_norm(x, w, b, groups, eps)), leaves, groups=groups, eps=eps)
    # Without scale and shift.
    draw = Draw("norms-plain")
    x = draw.normal(2, 3, 5, 8, scale=1.5) + 0.4
    fixture.add("group-norm-plain", "group_norm", lambda x: group_norm(x, None, None, 4, 1e-5), {"x": x}, groups=4,
                eps=1e-5)
    fixture.add("layer-norm-plain", "layer_norm", lambda x: F.layer_norm(x, [8], eps=1e-6), {"x": x}, eps=1e-6)
    fixture.add("rms-norm-plain", "rms_norm", lambda x: F.rms_norm(x, [8], eps=1e-6), {"x": x}, eps=1e-6)
    for name, shape in {"layer-norm": [2, 3, 9], "layer-norm-wide": [3, 40]}.items():
        draw = Draw(name)
        channels = shape[-1]
        fixture.add(name, "layer_norm", lambda x, w, b: F.layer_norm(x, [channels], w, b, 1e-5),
                    {"x": draw.normal(*shape, scale=1.5) + 0.4, "w": 1 + 0.3 * draw.normal(channels),
                     "b": draw.normal(channels)}, eps=1e-5)
    for name, shape in {"rms-norm": [2, 3, 9], "rms-norm-wide": [3, 40]}.items():
        draw = Draw(name)
        channels = shape[-1]
        fixture.add(name, "rms_norm", lambda x, w: F.rms_norm(x, [channels], w, 1e-6),
                    {"x": draw.normal(*shape, scale=1.5), "w": 1 + 0.3 * draw.normal(channels)}, eps=1e-6)


def softmax():
    # exp(x) alone overflows here.
    far = Draw("big").normal(4, 6, scale=3.0) + torch.tensor([[900.0], [-900.0], [0.0], [1e4]], dtype=torch.float64)
    fixture.add("softmax", "softmax", lambda x: x.softmax(-1), {"x": Draw("softmax").normal(2, 3, 7, scale=2.0)})
    fixture.add("softmax-far", "softmax", lambda x: x.softmax(-1), {"x": far})
    fixture.add("softmax-long", "softmax", lambda x: x.softmax(-1), {"x": Draw("softmax-long").normal(2, 67)})


def attention():
    """Tokens are ``[B, N, heads, D]``; the scale is ``1/sqrt(D)`` unless the case gives one."""

    def f(q, k, v, scale=None):
        heads_first = (a.transpose(1, 2) for a in (q, k, v))
        return F.scaled_dot_product_attention(*heads_first, scale=scale).transpose(1, 2)

    for name, (b, nq, nk, h, d) in {"attention": (2, 5, 5, 2, 4), "attention-cross": (2, 3, 7, 3, 5),
                                    "attention-one-head": (1, 6, 6, 1, 8), "attention-long": (1, 35, 67, 2, 8)}.items():
        draw = Draw(name)
        fixture.add(name, "attention", f,
                    {"q": draw.normal(b, nq, h, d), "k": draw.normal(b, nk, h, d), "v": draw.normal(b, nk, h, d)})
    draw = Draw("attention-scaled")
    fixture.add("attention-scaled", "attention", lambda q, k, v: f(q, k, v, 0.3),
                {"q": draw.normal(2, 3, 2, 4), "k": draw.normal(2, 5, 2, 4), "v": draw.normal(2, 5, 2, 4)}, scale=0.3)


def resampling():
    """Nearest up-sampling and average pooling of images ``[B, H, W, C]``."""

    def up(x, factor):
        return F.interpolate(x.movedim(-1, 1), scale_factor=factor, mode="nearest").movedim(1, -1)

    def pool(x, factor):
        return F.avg_pool2d(x.movedim(-1, 1), factor).movedim(1, -1)

    for factor in ((2, 2), (3, 1)):
        suffix = "" if factor == (2, 2) else "-uneven"
        fixture.add(f"upsample-nearest{suffix}", "upsample_nearest", lambda x: up(x, factor),
                    {"x": Draw(f"up{suffix}").normal(2, 3, 5, 3)}, factor=factor)
        fixture.add(f"avg-pool{suffix}", "avg_pool", lambda x: pool(x, factor),
                    {"x": Draw(f"pool{suffix}").normal(2, 6, 4, 3)}, factor=factor)


def embeddings():
    draw = Draw("embedding")
    fixture.add("embedding", "gather", lambda w, i: F.embedding(i, w), {"w": draw.normal(6, 5)},
                {"i": draw.integers(6, 9)})

    # Ho et al. 2020 after Vaswani et al. 2017: angles t * max_period^(-k / (half - shift)), k = 0 .. half - 1.
    # The diffusers function computes the frequencies in float32, so its formula is written out in float64 here and
    # only compared with it.
    def sinusoidal(t, dim, flip, shift, max_period=10000.0):
        half = dim // 2
        k = torch.arange(half, dtype=torch.float64)
        angles = t[:, None] * torch.exp(-math.log(max_period) * k / (half - shift))
        parts = [angles.cos(), angles.sin()] if flip else [angles.sin(), angles.cos()]
        y = torch.cat(parts, 1)
        theirs = get_timestep_embedding(t.detach(), dim, flip_sin_to_cos=flip, downscale_freq_shift=shift)
        assert (y - theirs).abs().max() < 2e-4, (y - theirs).abs().max()
        return y

    t = torch.tensor([0.0, 0.37, 1.0, 12.5, 999.0], dtype=torch.float64)
    for flip in (False, True):
        for shift in (0, 1):
            name = f"sinusoidal-{'cos-sin' if flip else 'sin-cos'}-shift-{shift}"
            fixture.describe(name, "sinusoidal", dim=16, flip_sin_to_cos=flip, downscale_freq_shift=shift,
                             max_period=10000.0)
            fixture.put(name, "t", t)
            fixture.put(name, "y", sinusoidal(t, 16, flip, shift))

    # Tancik et al. 2020 as used for score models: angles 2 pi t f, with given frequencies f.
    def fourier(t, f, flip):
        angles = 2 * math.pi * t[:, None] * f
        return torch.cat([angles.cos(), angles.sin()] if flip else [angles.sin(), angles.cos()], 1)

    draw = Draw("fourier")
    leaves = {"t": draw.uniform(-2.0, 2.0, 5), "f": draw.normal(6, scale=4.0)}
    fixture.add("fourier-sin-cos", "fourier", lambda t, f: fourier(t, f, False), leaves, flip_sin_to_cos=False)
    fixture.add("fourier-cos-sin", "fourier", lambda t, f: fourier(t, f, True), leaves, flip_sin_to_cos=True)


for group in (norms, softmax, attention, resampling, embeddings):
    group()
fixture.finish()

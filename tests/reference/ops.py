"""Fixtures for the elementary operations: elementwise functions, products, reductions.

    python tests/reference/ops.py [--check]
"""

import torch
import torch.nn.functional as F

from fixture import Draw, Fixture

fixture = Fixture("ops")


def elementwise():
    # Inputs stay away from the kinks of abs, relu and clamp, where the derivative is a matter of convention.
    ordinary = {
        "exp": torch.exp, "sin": torch.sin, "cos": torch.cos, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
        "silu": F.silu, "gelu": lambda x: F.gelu(x, approximate="none"), "relu": F.relu, "abs": torch.abs,
        # PyTorch turns linear above its threshold, which is 20 unless told: too early for float64.
        "softplus": lambda x: F.softplus(x, threshold=100.0),
        "neg": torch.neg, "square": torch.square,
    }
    for name, f in ordinary.items():
        x = Draw(name).normal(3, 7, scale=2.0)
        x = torch.where(x.abs() < 1e-2, x + 0.1, x)
        fixture.add(name, name, f, {"x": x})
    # Far out, where a careless formula overflows or cancels.
    far = torch.tensor([-700.0, -90.0, -40.0, -20.0, -1e-9, 1e-9, 20.0, 40.0, 90.0, 700.0], dtype=torch.float64)
    for name in ("tanh", "sigmoid", "silu", "gelu", "softplus"):
        f = ordinary[name] if name != "softplus" else (lambda x: torch.logaddexp(x, torch.zeros_like(x)))
        fixture.add(f"{name}-far", name, f, {"x": far})
    for name, f in {"ln": torch.log, "sqrt": torch.sqrt}.items():
        fixture.add(name, name, f, {"x": Draw(name).uniform(0.05, 4.0, 3, 7)})
    fixture.add("powf", "powf", lambda x: x.pow(1.7), {"x": Draw("powf").uniform(0.05, 4.0, 3, 7)}, p=1.7)
    fixture.add("powf-negative", "powf", lambda x: x.pow(-0.5), {"x": Draw("powf").uniform(0.05, 4.0, 3, 7)}, p=-0.5)
    fixture.add("clamp", "clamp", lambda x: x.clamp(-0.7, 1.1), {"x": Draw("clamp").normal(3, 7, scale=2.0)},
                lo=-0.7, hi=1.1)
    binary = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div,
              "minimum": torch.minimum, "maximum": torch.maximum}
    shapes = {"": ([3, 4], [3, 4]), "-row": ([2, 3, 4], [4]), "-column": ([2, 3, 4], [3, 1]),
              "-outer": ([2, 1, 4], [3, 1])}
    for name, f in binary.items():
        for suffix, (a, b) in shapes.items():
            draw = Draw(name + suffix)
            second = draw.uniform(0.3, 2.0, *b) * (1.0 if name != "div" else -1.0)
            fixture.add(name + suffix, name, f, {"a": draw.normal(*a), "b": second})


def products():
    for name, leading in {"linear": [5], "linear-tokens": [2, 3], "linear-image": [2, 3, 4]}.items():
        draw = Draw(name)
        fixture.add(name, "linear", lambda x, w, b: x @ w + b,
                    {"x": draw.normal(*leading, 7), "w": draw.normal(7, 6), "b": draw.normal(6)})
    draw = Draw("linear-no-bias")
    fixture.add("linear-no-bias", "linear", lambda x, w: x @ w, {"x": draw.normal(5, 7), "w": draw.normal(7, 6)})
    for name, leading in {"matmul": [], "matmul-batched": [2, 3]}.items():
        draw = Draw(name)
        a, b = draw.normal(*leading, 5, 7), draw.normal(*leading, 7, 6)
        fixture.add(name, "matmul", lambda a, b: a @ b, {"a": a, "b": b})
        fixture.add(f"{name}-nt", "matmul_nt", lambda a, b: a @ b.mT, {"a": a, "b": b.mT.contiguous()})
        fixture.add(f"{name}-tn", "matmul_tn", lambda a, b: a.mT @ b, {"a": a.mT.contiguous(), "b": b})


def reductions():
    x = Draw("reductions").normal(2, 3, 4, 5)
    for axes in ([0], [3], [1, 2], [0, 2, 3]):
        tag = "".join(map(str, axes))
        fixture.add(f"sum-{tag}", "sum", lambda x: x.sum(axes), {"x": x}, axes=axes)
        fixture.add(f"mean-{tag}", "mean", lambda x: x.mean(axes), {"x": x}, axes=axes)
        fixture.add(f"max-{tag}", "max", lambda x: x.amax(axes), {"x": x}, axes=axes)
    for axis in (1, 3):
        fixture.add(f"logsumexp-{axis}", "logsumexp", lambda x: x.logsumexp(axis), {"x": x}, axis=axis)
    # exp(x) alone overflows here.
    big = Draw("big").normal(4, 6, scale=3.0) + torch.tensor([[900.0], [-900.0], [0.0], [1e4]], dtype=torch.float64)
    fixture.add("logsumexp-far", "logsumexp", lambda x: x.logsumexp(1), {"x": big}, axis=1)


for group in (elementwise, products, reductions):
    group()
fixture.finish()

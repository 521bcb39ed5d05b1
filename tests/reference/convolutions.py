"""Fixtures for convolutions: plain, depthwise and transposed.

    python tests/reference/convolutions.py [--check]

Weights are ``[kh, kw, Cin, Cout]``, depthwise ones ``[kh, kw, C]``. A transposed convolution is the adjoint of a
convolution in its input and takes that convolution's weight: with ``w [kh, kw, Cin, Cout]`` it maps
``[B, h, w, Cout]`` to ``[B, H, W, Cin]``, ``H = (h - 1) stride - 2 pad + kh + output_pad``.
"""

import torch.nn.functional as F

from fixture import Draw, Fixture

fixture = Fixture("convolutions")


def conv2d(x, w, b=None, stride=(1, 1), pad=(0, 0)):
    return F.conv2d(x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), b, stride, pad).permute(0, 2, 3, 1)


def depthwise(x, w, b=None, stride=(1, 1), pad=(0, 0)):
    weight = w.permute(2, 0, 1).unsqueeze(1)
    return F.conv2d(x.permute(0, 3, 1, 2), weight, b, stride, pad, groups=w.shape[2]).permute(0, 2, 3, 1)


def conv_transpose2d(x, w, b=None, stride=(1, 1), pad=(0, 0), output_pad=(0, 0)):
    weight = w.permute(3, 2, 0, 1)
    return F.conv_transpose2d(x.permute(0, 3, 1, 2), weight, b, stride, pad, output_pad).permute(0, 2, 3, 1)


# name: (B, H, W, Cin, Cout, kernel, stride, pad)
CONV = {
    "3x3": (2, 5, 7, 3, 4, (3, 3), (1, 1), (1, 1)),
    "3x3-stride-2": (2, 6, 8, 3, 4, (3, 3), (2, 2), (1, 1)),
    "3x3-stride-2-odd": (1, 7, 5, 3, 4, (3, 3), (2, 2), (1, 1)),
    "3x3-valid": (2, 5, 6, 2, 3, (3, 3), (1, 1), (0, 0)),
    "1x1": (2, 3, 5, 4, 6, (1, 1), (1, 1), (0, 0)),
    "1x1-stride-2": (2, 5, 6, 4, 3, (1, 1), (2, 2), (0, 0)),
    "5x3": (1, 7, 8, 2, 3, (5, 3), (1, 2), (2, 0)),
    "4x4": (1, 6, 8, 3, 4, (4, 4), (2, 2), (1, 1)),
    "2x2-overhang": (1, 3, 4, 2, 3, (2, 2), (1, 1), (2, 2)),
    "kernel-is-image": (2, 3, 4, 2, 3, (3, 4), (1, 1), (0, 0)),
    "one-channel": (1, 9, 6, 1, 5, (3, 3), (1, 1), (1, 1)),
    "one-pixel": (2, 1, 1, 3, 4, (3, 3), (1, 1), (1, 1)),
    # Wider than a register block and larger than a Winograd tile, multiples of neither.
    "wide": (1, 9, 7, 17, 19, (3, 3), (1, 1), (1, 1)),
    "aligned": (1, 8, 8, 8, 16, (3, 3), (1, 1), (1, 1)),
}
DEPTHWISE = {
    "3x3": (2, 5, 6, 5, (3, 3), (1, 1), (1, 1)),
    "3x3-stride-2": (2, 6, 7, 5, (3, 3), (2, 2), (1, 1)),
    "5x3": (1, 7, 8, 3, (5, 3), (1, 2), (2, 0)),
    "wide": (1, 6, 6, 19, (3, 3), (1, 1), (1, 1)),
}
# name: (B, h, w, Cin, Cout, kernel, stride, pad, output pad); the input has Cout channels.
TRANSPOSED = {
    "4x4-stride-2": (2, 3, 4, 3, 5, (4, 4), (2, 2), (1, 1), (0, 0)),
    "3x3": (1, 4, 5, 2, 3, (3, 3), (1, 1), (1, 1), (0, 0)),
    "3x3-stride-2": (1, 3, 4, 2, 3, (3, 3), (2, 2), (1, 1), (0, 0)),
    "2x2-stride-2": (1, 3, 4, 3, 2, (2, 2), (2, 2), (0, 0), (0, 0)),
    "3x3-stride-2-even": (1, 3, 4, 2, 3, (3, 3), (2, 2), (1, 1), (1, 1)),
}

for name, (batch, h, w, cin, cout, kernel, stride, pad) in CONV.items():
    for bias in (True, False) if name in ("3x3", "1x1") else (True,):
        case = f"conv2d-{name}" + ("" if bias else "-no-bias")
        draw = Draw(case)
        leaves = {"x": draw.normal(batch, h, w, cin), "w": draw.normal(*kernel, cin, cout, scale=0.5)}
        if bias:
            leaves["b"] = draw.normal(cout)
        fixture.add(case, "conv2d", lambda x, w, b=None: conv2d(x, w, b, stride, pad), leaves, stride=stride, pad=pad)
for name, (batch, h, w, channels, kernel, stride, pad) in DEPTHWISE.items():
    case = f"depthwise-{name}"
    draw = Draw(case)
    fixture.add(case, "depthwise_conv2d", lambda x, w, b: depthwise(x, w, b, stride, pad),
                {"x": draw.normal(batch, h, w, channels), "w": draw.normal(*kernel, channels), "b": draw.normal(channels)},
                stride=stride, pad=pad)
for name, (batch, h, w, cin, cout, kernel, stride, pad, output_pad) in TRANSPOSED.items():
    case = f"conv-transpose-{name}"
    draw = Draw(case)
    fixture.add(case, "conv_transpose2d", lambda x, w, b: conv_transpose2d(x, w, b, stride, pad, output_pad),
                {"x": draw.normal(batch, h, w, cout), "w": draw.normal(*kernel, cin, cout), "b": draw.normal(cin)},
                stride=stride, pad=pad, output_pad=output_pad)
fixture.finish()

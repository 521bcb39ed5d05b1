"""Fixtures for the networks of features: Inception-v3 as pytorch-fid has it, DINOv2 as timm and transformers have it.

    python tests/reference/features.py [--check]

No weights are committed: both sides compute them by ``numbers`` from the tensors' names and shapes, which a ``network`` lists. Those of most
cases are reduced in width (a sixteenth of the channels; one or two heads), those of ``…-full`` have the extents of the real networks.
Outputs are those of whole networks, resizing included, for images of bytes ``x [B, H, W, C]`` in [-1, 1].

Also writes ``fid_statistics.npz``: what pytorch-fid makes of a dozen PNG files with the reduced Inception-v3.
"""

import contextlib
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytorch_fid.fid_score as fid_score
import pytorch_fid.inception as fid
import timm
import torch
import torch.nn.functional as F
import torchvision.models.inception as tv
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

from fixture import FIXTURES, Draw, Fixture

torch.set_default_dtype(torch.float64)
fixture = Fixture("features")

SIXTEENTH = 16


def numbers(name, shape):
    """Numbers in (-√3, √3) of variance 1: a hash (the finaliser of MurmurHash3) of the position and of the name's CRC-32."""
    h = np.arange(int(np.prod(shape)), dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(zlib.crc32(name.encode()))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    u = (h.astype(np.float64) + 0.5) / 2.0**32
    return ((2 * u - 1) * np.sqrt(3)).reshape(shape)


def weight(name, shape):
    """The weight of this name: of a size that keeps activations near 1, no scale or variance near 0."""
    v = numbers(name, shape)
    if len(shape) > 1 and name.endswith("weight"):
        gain = 2.0 if len(shape) == 4 else 1.0
        return v * np.sqrt(gain * shape[0] / np.prod(shape))
    if name.endswith("running_var") or len(shape) == 1 and not name.endswith(("bias", "running_mean")):
        return 1 + 0.3 * v  # norms, variances, layer scales
    return 0.2 * v


def images(name, shape):
    """Images of random bytes, in [-1, 1]."""
    return torch.from_numpy(np.floor((numbers(name, shape) / np.sqrt(3) + 1) * 128) / 127.5 - 1)


def fill(model):
    """Gives every weight its numbers and returns their shapes."""
    shapes = {}
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                shapes[name] = list(value.shape)
                value.copy_(torch.from_numpy(weight(name, tuple(value.shape))))
    return shapes


def network(name, shapes):
    """The tensors of a network that other cases are of."""
    fixture.describe(name, "network", shapes=shapes)


def put(case, op, of, x_shape, f):
    x = images(case, x_shape)
    with torch.no_grad():
        y = f(x.permute(0, 3, 1, 2).expand(-1, 3, -1, -1))
    fixture.describe(case, op, network=of, x=x_shape)
    fixture.put(case, "y", y)


@contextlib.contextmanager
def replaced(*changes):
    """Attributes of modules and classes, changed for a while."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def inception(divisor):
    """pytorch-fid's network without its download, with as many channels over ``divisor``."""

    class Narrow(tv.BasicConv2d):
        def __init__(self, inputs, outputs, **how):
            super().__init__(inputs if inputs == 3 else inputs // divisor, outputs // divisor, **how)

    class Last(torch.nn.Linear):
        def __init__(self, inputs, outputs):
            super().__init__(inputs // divisor, outputs)

    no_file = (fid, "load_state_dict_from_url", lambda *_, **__: {})
    no_load = (tv.Inception3, "load_state_dict", lambda *_: None)
    with replaced(no_file, no_load, (tv, "BasicConv2d", Narrow), (tv.nn, "Linear", Last)):
        whole = fid.fid_inception_v3()
    shapes = fill(whole)
    with replaced((fid, "fid_inception_v3", lambda: whole)):
        return fid.InceptionV3([3]).eval(), shapes


def fid_of(model):
    return lambda x: model((x + 1) / 2)[0].flatten(1)


def prepared(x):
    """Images in [-1, 1] as DINOv2 takes them."""
    x = F.interpolate((x + 1) / 2, (224, 224), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (torch.tensor(v)[:, None, None] for v in (timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD))
    return (x - mean) / std


def positions(table, side):
    """The stored positions on a grid of ``side × side``, as the release has them: with a tenth in the ratio."""
    n = int((table.shape[1] - 1) ** 0.5)
    if n == side:
        return table
    grid = table[:, 1:].reshape(1, n, n, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, scale_factor=((side + 0.1) / n,) * 2, mode="bicubic")
    return torch.cat([table[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)], 1)


def dinov2_timm(width, depth):
    """The release's names. timm resamples positions in its own way, so its model gets them resampled."""
    make = lambda side: timm.models.vision_transformer.VisionTransformer(
        img_size=side, patch_size=14, embed_dim=width, depth=depth, num_heads=width // 64, init_values=1.0,
        num_classes=0, global_pool="token").eval()
    stored, model = make(518), make(224)
    shapes = fill(stored)
    state = stored.state_dict()
    state["pos_embed"] = positions(state["pos_embed"], 16)
    model.load_state_dict(state)
    return lambda x: model(prepared(x)), shapes


def dinov2_transformers(width, depth):
    """The names of Hugging Face's files, with the positions of the image's own grid."""
    model = Dinov2Model(Dinov2Config(
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=width // 64, image_size=224, patch_size=14)).eval()
    return lambda x: model(prepared(x)).pooler_output, fill(model)


model, shapes = inception(SIXTEENTH)
network("inception", shapes)
put("inception-small", "features", "inception", [2, 40, 53, 3], fid_of(model))
put("inception-grey", "features", "inception", [1, 28, 28, 1], fid_of(model))
put("inception-large", "features", "inception", [1, 310, 420, 3], fid_of(model))

# Two sets of images, the second darker; the first one's statistics as pytorch-fid keeps them.
sets = [images("statistics-a", [12, 20, 24, 3]), images("statistics-b", [10, 20, 24, 3]).clamp(max=0.2)]
sets[1] = (127.5 * (sets[1] + 1)).round() / 127.5 - 1
moments = []
for x in sets:
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for i, image in enumerate(x):
            files.append(Path(folder) / f"{i}.png")
            Image.fromarray((127.5 * (image + 1)).round().to(torch.uint8).numpy()).save(files[-1])
        moments.append(fid_score.calculate_activation_statistics(files, model.double(), batch_size=4, dims=128, num_workers=0))
if "--check" not in sys.argv:
    np.savez_compressed(FIXTURES / "fid_statistics.npz", mu=moments[0][0], sigma=moments[0][1])
# The matrix root of pytorch-fid needs more images than features; its value for these is the formula's by singular values.
covariance_factors = []
for x in sets:
    with torch.no_grad():
        a = fid_of(model)(x.permute(0, 3, 1, 2)).numpy()
    covariance_factors.append(((a - a.mean(0)) / np.sqrt(len(a) - 1), a.mean(0)))
(fa, ma), (fb, mb) = covariance_factors
distance = ((ma - mb) ** 2).sum() + (fa**2).sum() + (fb**2).sum() - 2 * np.linalg.norm(fa @ fb.T, "nuc")
fixture.describe("statistics", "statistics", a=[12, 20, 24, 3], b=[10, 20, 24, 3], network="inception")
fixture.put("statistics", "frechet", torch.tensor([distance]))
fixture.put("statistics", "trace", torch.tensor([(fa**2).sum()]))

f, shapes = dinov2_timm(128, 2)
network("dinov2", shapes)
put("dinov2-small", "features", "dinov2", [2, 40, 53, 3], f)
put("dinov2-large", "features", "dinov2", [1, 300, 260, 1], f)
f, shapes = dinov2_transformers(64, 2)
network("dinov2-hf", shapes)
put("dinov2-transformers", "features", "dinov2-hf", [1, 32, 32, 3], f)

model, shapes = inception(1)
network("inception-v3", shapes)
put("inception-full", "full", "inception-v3", [1, 64, 64, 3], fid_of(model))
f, shapes = dinov2_timm(768, 12)
network("dinov2-vit-b-14", shapes)
put("dinov2-full", "full", "dinov2-vit-b-14", [1, 64, 64, 3], f)

for name, how in (("bilinear", {}), ("bicubic", {}), ("bicubic", {"antialias": True})):
    for size in ((7, 5), (3, 4), (20, 2)):
        case = f"resize-{name}-{'smooth-' if how else ''}{size[0]}x{size[1]}"
        resize = lambda x: F.interpolate(x.permute(0, 3, 1, 2), size, mode=name, **how).permute(0, 2, 3, 1)
        fixture.add(case, "resize", resize, {"x": Draw(case).normal(2, 6, 5, 3)}, kernel=name, smooth=bool(how), size=size)
case = "resize-ratio"
fixture.add(case, "resize", lambda x: F.interpolate(x.permute(0, 3, 1, 2), scale_factor=(4.1 / 7, 3.1 / 7), mode="bicubic").permute(0, 2, 3, 1),
            {"x": Draw(case).normal(1, 7, 7, 2)}, kernel="bicubic", smooth=False, size=(4, 3), ratio=(7 / 4.1, 7 / 3.1))
for kernel, stride, padding in ((3, 2, 0), (3, 1, 1), (2, 2, 0)):
    case = f"max-pool-{kernel}-{stride}-{padding}"
    pool = lambda x: F.max_pool2d(x.permute(0, 3, 1, 2), kernel, stride, padding).permute(0, 2, 3, 1)
    fixture.add(case, "max_pool", pool, {"x": Draw(case).normal(2, 7, 6, 3)}, kernel=kernel, stride=stride, padding=padding)

fixture.finish()

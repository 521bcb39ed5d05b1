"""Fixtures for the networks of fokker-models: a small U-Net and a small MLP with every parameter and its gradient.

    python tests/reference/networks.py [--check]

A case has the input ``x``, the noise levels ``noise [B]``, the classes ``classes [B]`` (the last class number is "no
class"), ``y``, ``dy``, ``dx``, and for every parameter ``p.<fokker's path>`` and its gradient ``dp.<fokker's path>``.

The U-Net is diffusers' UNet2DModel in float64, its parameters renamed and brought into fokker's layout. The image is not
square and not a multiple of what the levels need, so it is padded with zeros here and cropped after.
"""

import math
import re

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from torch import nn

from fixture import Draw, Fixture


def sinusoidal(t, dim, max_period):
    """Cosines first, no frequency shift; diffusers' own code works in float32."""
    half = dim // 2
    angles = t[:, None] * torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float64) / half)
    return torch.cat([angles.cos(), angles.sin()], 1)


class Sinusoidal(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, t):
        return sinusoidal(t, self.dim, 10000.0)


def randomise(case, model):
    """Weights of the size that keeps activations near 1, biases and norms off their defaults, none of them zero."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            scale = 1.0 / math.sqrt(p.numel() / p.shape[0]) if p.dim() > 1 else 0.3
            is_norm_scale = "norm" in name and name.endswith("weight")
            p.copy_(Draw(f"{case}/{name}").normal(*p.shape, scale=scale) + (1.0 if is_norm_scale else 0.0))


RENAMED = [
    (r"^time_embedding\.linear_1\.", "embed_in."), (r"^time_embedding\.linear_2\.", "embed_out."),
    (r"^class_embedding\.weight$", "class.table"), (r"^conv_in\.", "input."), (r"^conv_out\.", "output."),
    (r"^conv_norm_out\.", "norm."), (r"^mid_block\.resnets\.0\.", "middle.first."),
    (r"^mid_block\.resnets\.1\.", "middle.second."), (r"^mid_block\.attentions\.0\.", "middle.attention."),
    (r"^(down|up)_blocks\.(\d+)\.", r"\1.\2."), (r"\.resnets\.", ".blocks."), (r"\.attentions\.", ".attention."),
    (r"\.time_emb_proj\.", ".embed."), (r"\.conv_shortcut\.", ".skip."), (r"\.downsamplers\.0\.conv\.", ".halve."),
    (r"\.upsamplers\.0\.conv\.", ".double."), (r"\.group_norm\.", ".norm."), (r"\.to_out\.0\.", ".output."),
    (r"(norm\d?)\.weight$", r"\1.gamma"), (r"(norm\d?)\.bias$", r"\1.beta"),
]


def in_our_terms(values):
    """diffusers' parameters (or their gradients) under fokker's paths and in fokker's layout."""
    ours = {}
    for name, value in values.items():
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        if value.dim() == 4:
            value = value.permute(2, 3, 1, 0)
            if ".skip." in name:
                value = value[0, 0]  # a 1x1 convolution is a linear layer here
        elif value.dim() == 2 and not name.endswith(".table"):
            value = value.T
        ours[name] = value
    for q in [name for name in ours if ".to_q." in name]:
        parts = [ours.pop(q.replace("to_q", part)) for part in ("to_q", "to_k", "to_v")]
        ours[q.replace("to_q", "qkv")] = torch.cat(parts, -1)
    return ours


def add(fixture, case, op, forward, x, noise, classes, parameters, translate, /, **described):
    y = forward(x, noise, classes)
    dy = Draw(f"{case}/dy").normal(*y.shape)
    dx, *gradients = torch.autograd.grad(y, [x, *parameters.values()], dy)
    fixture.describe(case, op, **described)
    for key, value in {"x": x, "noise": noise, "classes": classes, "y": y, "dy": dy, "dx": dx}.items():
        fixture.put(case, key, value)
    for name, value in translate(parameters).items():
        fixture.put(case, f"p.{name}", value)
    for name, value in translate(dict(zip(parameters, gradients))).items():
        fixture.put(case, f"dp.{name}", value)


def unet(fixture):
    channels, classes, head = (4, 8, 6), 2, 2
    model = UNet2DModel(
        sample_size=8, in_channels=2, out_channels=2, layers_per_block=1, block_out_channels=channels,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"), norm_num_groups=2,
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), attention_head_dim=head,
        num_class_embeds=classes + 1).double()
    model.time_proj = Sinusoidal(channels[0])
    randomise("unet", model)

    def forward(x, noise, c):
        _, h, w, _ = x.shape
        (top, bottom), (left, right) = (((-n % 4) // 2, -n % 4 - (-n % 4) // 2) for n in (h, w))
        padded = F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
        y = model(padded, 100.0 * noise, c, return_dict=False)[0]
        return y[:, :, top:top + h, left:left + w].permute(0, 2, 3, 1)

    x = Draw("unet").normal(2, 7, 10, 2).requires_grad_()
    add(fixture, "unet", "unet", forward, x, torch.tensor([0.03, 1.7], dtype=torch.float64), torch.tensor([2, 0]),
        dict(model.named_parameters()), in_our_terms, channels=channels, blocks=1, attention_levels=[1],
        head_channels=head, groups=2, classes=classes)


class Mlp(nn.Module):
    """The equations of fokker's residual MLP."""

    def __init__(self, dim, hidden, blocks, embedding, classes):
        super().__init__()
        self.embedding = embedding
        self.embed_in, self.embed_out = nn.Linear(embedding, hidden), nn.Linear(hidden, hidden)
        self.table = nn.Embedding(classes + 1, hidden)
        self.input, self.output = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({k: nn.Linear(hidden, hidden) for k in ("first", "embed", "second")}) for _ in range(blocks))

    def forward(self, x, noise, classes):
        e = self.embed_out(F.silu(self.embed_in(sinusoidal(20.0 * noise, self.embedding, 1000.0))))
        e = F.silu(e + self.table(classes))
        h = self.input(x)
        for block in self.blocks:
            h = h + block["second"](F.silu(block["first"](F.silu(h)) + block["embed"](e)))
        return self.output(F.silu(h))


def mlp(fixture):
    sizes = dict(hidden=10, blocks=2, embedding=6)
    model = Mlp(3, classes=2, **sizes).double()
    randomise("mlp", model)

    def translate(values):
        return {k.replace("table.weight", "class.table"): v.T if v.dim() == 2 and "table" not in k else v
                for k, v in values.items()}

    x = Draw("mlp").normal(4, 3).requires_grad_()
    add(fixture, "mlp", "mlp", model, x, torch.tensor([0.01, 0.4, -0.7, 2.0], dtype=torch.float64),
        torch.tensor([2, 0, 1, 2]), dict(model.named_parameters()), translate, classes=2, **sizes)


if __name__ == "__main__":
    fixture = Fixture("networks")
    unet(fixture)
    mlp(fixture)
    fixture.finish()

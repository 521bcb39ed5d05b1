"""Fixture for the U-Net: a small diffusers UNet2DModel in float64, with every parameter and its gradient.

    python tests/reference/unet.py [--check]

The case ``unet`` has ``x [B, H, W, C]``, the times ``t [B]``, the classes ``c [B]``, ``y``, ``dy``, ``dx``, and for every
parameter of the diffusers model ``p.<diffusers name>`` and ``dp.<diffusers name>``, in fokker's layout (convolutions
``[kh, kw, Cin, Cout]``, linear layers ``[in, out]``). The images are not square.
"""

import math

import torch
from diffusers import UNet2DModel
from torch import nn

from fixture import Draw, Fixture


class Sinusoidal(nn.Module):
    """diffusers' time features (cosines first, no frequency shift), whose own code works in float32, in float64."""

    def __init__(self, dim):
        super().__init__()
        self.frequencies = torch.exp(-math.log(10000.0) * torch.arange(dim // 2, dtype=torch.float64) / (dim // 2))

    def forward(self, t):
        angles = t[:, None] * self.frequencies
        return torch.cat([angles.cos(), angles.sin()], 1)


def in_our_layout(module, value):
    if isinstance(module, nn.Conv2d) and value.dim() == 4:
        return value.permute(2, 3, 1, 0)
    if isinstance(module, nn.Linear) and value.dim() == 2:
        return value.T
    return value


config = dict(
    in_channels=2, out_channels=3, layers_per_block=1, block_out_channels=(4, 8, 6), num_class_embeds=3,
    down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), norm_num_groups=2, attention_head_dim=2)
model = UNet2DModel(sample_size=8, **config).double()
model.time_proj = Sinusoidal(config["block_out_channels"][0])
with torch.no_grad():
    for name, p in model.named_parameters():
        fan = p.numel() // p.shape[0] if p.dim() > 1 else 1
        spread = Draw(f"unet/{name}").normal(*p.shape, scale=1.0 / math.sqrt(fan) if p.dim() > 1 else 0.3)
        p.copy_(spread + (1.0 if "norm" in name and name.endswith("weight") else 0.0))

draw = Draw("unet")
x = draw.normal(2, 8, 12, 2).requires_grad_()
t = torch.tensor([0.3, 57.0], dtype=torch.float64)
c = torch.tensor([2, 0])
y = model(x.permute(0, 3, 1, 2), t, c, return_dict=False)[0].permute(0, 2, 3, 1)
dy = draw.normal(*y.shape)
parameters = dict(model.named_parameters())
dx, *gradients = torch.autograd.grad(y, [x, *parameters.values()], dy)

fixture = Fixture("unet")
fixture.describe("unet", "unet", groups=2, head_dim=2, eps=1e-5, **{
    k: v for k, v in config.items() if k in ("in_channels", "out_channels", "layers_per_block", "block_out_channels")})
for key, value in {"x": x, "t": t, "c": c, "y": y, "dy": dy, "dx": dx}.items():
    fixture.put("unet", key, value)
modules = dict(model.named_modules())
for (name, p), dp in zip(parameters.items(), gradients):
    module = modules[name.rpartition(".")[0]]
    fixture.put("unet", f"p.{name}", in_our_layout(module, p))
    fixture.put("unet", f"dp.{name}", in_our_layout(module, dp))
print(f"{sum(p.numel() for p in parameters.values())} parameters")
fixture.finish()

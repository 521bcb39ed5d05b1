"""What PyTorch takes for the networks that fokker is compared with: time per call and peak memory.

    python tests/reference/bench/peers.py [--workload NAME…] [--setting NAME…] [--reps N] [--seconds S] [--rounds R]
        [--threads T] [--batch B] [--side S] [--width W]

Prints one JSON line per measurement: ``{workload, setting, threads, reps, ms_median, ms_min, ms_all, first_ms,
peak_rss_mb, import_rss_mb, value}``. Every measurement runs in a process of its own, so its peak resident memory is
its own; ``import_rss_mb`` is what that process held before the workload was built (PyTorch itself). ``--rounds R``
goes through the list R times: run it between other programs' rounds on a machine that others use too.

Workloads (float32; ``train`` = forward, mean squared error, backward, fused AdamW):

- ``mlp-train``      66 -> 256 -> 256 -> 256 -> 2 with SiLU, batch 512 (the 66 = 2 coordinates and 64 time features,
                     given; they are not computed in the timed part)
- ``mlp-forward``    the same network, batch 10,000
- ``mnist-train``    diffusers UNet2DModel(sample_size=32, in/out 1, layers_per_block=2,
                     block_out_channels=(32, 64, 128, 128), attention at 8x8 and in the middle block,
                     norm_num_groups=8), batch 64, images 32x32x1
- ``mnist-forward``  the same network, batch 64
- ``mnist-bf16``, ``cifar-bf16``
                     ``mnist-forward`` and ``cifar-forward`` under ``torch.autocast`` with bfloat16
- ``cifar-train``, ``cifar-forward``, ``cifar-single``
                     the architecture of DDPM for CIFAR-10: UNet2DModel(sample_size=32, in/out 3, layers_per_block=2,
                     block_out_channels=(128, 256, 256, 256), attention at 16x16 with one head and in the middle block,
                     norm_num_groups=32), batch 8, and a single image
- ``block-train``, ``block-forward``
                     a transformer block (layer norm, attention of 6 heads, layer norm, 4x wide GELU layers) on
                     [16, 256, 384]
- ``mlp-sample``     10,000 points by 500 Euler-Maruyama steps of the reverse VP SDE with the mlp; time features once a step
- ``mlp-likelihood`` log-densities of 256 points of eight Gaussians under the mlp as the noise in the VP SDE, weights and points from
                     the file ``--given``, which ``cargo xtask bench`` writes: the probability-flow ODE from t = 1e-3 to 1 by
                     torchdiffeq's dopri5 at rtol = atol = 1e-5, with the exact trace by two products of reverse mode; prints
                     besides ``accuracy: {evaluations, error, largest_error}``, in nats
- ``mnist-sample``   64 images by 18 steps of Heun's method on EDM's grid (35 calls) with the mnist network

``--seconds S`` times no further call after that long. ``--batch``, ``--side`` and ``--width`` (channels at full
resolution) change the sizes of ``mnist-train``, ``mnist-forward`` and ``mnist-bf16``.

Settings: ``eager``, ``channels-last``, ``compile`` (torch.compile with its defaults).
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time

WORKLOADS = ("mlp-train", "mlp-forward", "mlp-sample", "mlp-likelihood", "mnist-train", "mnist-forward", "mnist-bf16",
             "mnist-sample", "cifar-train", "cifar-forward", "cifar-single", "cifar-bf16", "block-train", "block-forward")
SETTINGS = ("eager", "channels-last", "compile")
SIZES = {"batch": 64, "side": 32, "width": 32}  # of the mnist network


def mlp():
    from torch import nn

    return nn.Sequential(nn.Linear(66, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(),
                         nn.Linear(256, 2))


def mnist(side=32, width=32):
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=side, in_channels=1, out_channels=1, layers_per_block=2,
        block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"), norm_num_groups=8)


def cifar():
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=32, in_channels=3, out_channels=3, layers_per_block=2, block_out_channels=(128, 256, 256, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), norm_num_groups=32,
        attention_head_dim=None)


def block():
    import torch
    import torch.nn.functional as F
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            b, n, c = x.shape
            qkv = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, c // self.heads)
            q, k, v = (t.transpose(1, 2) for t in qkv.unbind(2))
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
            x = x + self.output(y)
            return x + self.narrow(F.gelu(self.wide(self.norm2(x))))

    return Block(384, 6)


def sample_points(apply):
    """Euler-Maruyama for the reverse VP SDE; the network predicts the noise."""
    import torch

    beta_0, beta_1, n, steps = 0.1, 20.0, 10_000, 500
    frequencies = 100.0 * torch.exp(-torch.arange(32) / 32 * torch.log(torch.tensor(10_000.0)))

    def sample():
        with torch.inference_mode():
            x = torch.randn(n, 2)
            times = torch.linspace(1.0, 1e-3, steps + 1).tolist()
            for t, s in zip(times, times[1:]):
                angles = t * frequencies
                features = torch.cat([angles.cos(), angles.sin()]).expand(n, 64)
                beta, h = beta_0 + t * (beta_1 - beta_0), t - s
                sigma = (1.0 - torch.exp(torch.tensor(-beta_0 * t - 0.5 * t * t * (beta_1 - beta_0)))).sqrt().item()
                epsilon = apply(torch.cat([x, features], 1))
                x = (1 + 0.5 * beta * h) * x - beta * h / sigma * epsilon + (beta * h) ** 0.5 * torch.randn_like(x)
            return x.flatten()[0].item()

    return sample


def likelihood_of_points(network, setting, given):
    """The probability-flow ODE with the exact trace, by the weights and for the points of the file ``given``."""
    import torch
    from safetensors.torch import load_file
    from torchdiffeq import odeint

    tensors = load_file(given)
    for i, layer in enumerate(network[::2]):
        layer.load_state_dict({"weight": tensors[f"network.layers.{i}.weight"].T, "bias": tensors[f"network.layers.{i}.bias"]})
    network.requires_grad_(False)
    points, exact = tensors["points"], tensors["log_density"]
    beta_0, beta_1, t_min = 0.1, 20.0, 1e-3
    frequencies = 100.0 * torch.exp(-torch.arange(32) / 32 * torch.log(torch.tensor(10_000.0)))
    of_x, of_t = (part.T.contiguous() for part in network[0].weight.split([2, 64], 1))
    rest, ones = network[1:], torch.ones(len(points))

    def velocity(x, t):
        angles = t * frequencies
        # The features of the time are the same in each row.
        first = torch.addmm(network[0].bias + torch.cat([angles.cos(), angles.sin()]) @ of_t, x, of_x)
        sigma = torch.sqrt(-torch.expm1(-(beta_0 * t + 0.5 * t * t * (beta_1 - beta_0))))
        return 0.5 * (beta_0 + t * (beta_1 - beta_0)) * (rest(first) / sigma - x)

    run = torch.compile(velocity) if setting == "compile" else velocity

    # The exact trace in two dimensions: a derivative of each output. Products of torch.func.jvp were not tried.
    def slope(t, state):
        slope.evaluations += 1
        with torch.enable_grad():
            x = state[0].detach().requires_grad_()
            v = run(x, t)
            columns = v.unbind(1)
            rows = [torch.autograd.grad(columns[i], x, ones, retain_graph=i == 0)[0][:, i] for i in range(2)]
        return v.detach(), rows[0] + rows[1]

    def score():
        slope.evaluations = 0
        ends = torch.tensor([t_min, 1.0])
        x, integral = odeint(slope, (points, torch.zeros(len(points))), ends, rtol=1e-5, atol=1e-5, method="dopri5")
        variance = -math.expm1(-(beta_0 + 0.5 * (beta_1 - beta_0)))
        score.log_density = integral[-1] - 0.5 * x[-1].square().sum(1) / variance - math.log(2 * math.pi * variance)
        return score.log_density.mean().item()

    def accuracy():
        score()
        error = (score.log_density.double() - exact).abs()
        return {"evaluations": slope.evaluations, "error": error.square().mean().sqrt().item(),
                "largest_error": error.max().item()}

    score.accuracy = accuracy
    return score


def sample_images(apply, n=64):
    """Heun's method on EDM's 18 noise levels, as in algorithm 1 without churn; the last step is Euler's."""
    import torch

    low, high, rho, steps = 0.002, 80.0, 7.0, 18

    def sample():
        with torch.inference_mode():
            parts = torch.linspace(0, 1, steps)
            levels = (high ** (1 / rho) + parts * (low ** (1 / rho) - high ** (1 / rho))) ** rho
            levels = levels.tolist() + [0.0]

            def slope(x, sigma):
                skip, out = 0.25 / (sigma ** 2 + 0.25), sigma * 0.5 / (sigma ** 2 + 0.25) ** 0.5
                scaled = x / (sigma ** 2 + 0.25) ** 0.5
                noise = torch.full((n,), 0.25).mul_(torch.log(torch.tensor(sigma)))
                return (x - skip * x - out * apply(scaled, noise)) / sigma

            x = levels[0] * torch.randn(n, 1, 32, 32)
            for sigma, following in zip(levels, levels[1:]):
                d = slope(x, sigma)
                euler = x + (following - sigma) * d
                x = euler if following == 0 else x + (following - sigma) * 0.5 * (d + slope(euler, following))
            return x.flatten()[0].item()

    return sample


def build(workload, setting, batch=64, side=32, width=32, given=None):
    """The call to be timed: no arguments, returns the loss (train) or one output value.

    The sizes are those of the mnist network.
    """
    import torch
    import torch.nn.functional as F

    torch.manual_seed(0)
    network, task = workload.split("-")
    if network in ("mnist", "cifar"):
        if network == "cifar":
            batch, side = 1 if task == "single" else 8, 32
        model = mnist(side, width) if network == "mnist" else cifar()
        x = torch.randn(batch, 1 if network == "mnist" else 3, side, side)
        inputs = (x, torch.randint(0, 1000, (batch,)))
    else:
        model = mlp() if network == "mlp" else block()
        shape = (16, 256, 384) if network == "block" else (512 if task == "train" else 10_000, 66)
        inputs = (torch.randn(shape),)
    target = torch.randn_like(inputs[0]) if network != "mlp" else torch.randn(inputs[0].shape[0], 2)
    if setting == "channels-last" and inputs[0].dim() == 4:
        model = model.to(memory_format=torch.channels_last)
        inputs = (inputs[0].contiguous(memory_format=torch.channels_last), *inputs[1:])
        target = target.contiguous(memory_format=torch.channels_last)
    run = torch.compile(model) if setting == "compile" else model
    apply = (lambda x, t: run(x, t, return_dict=False)[0]) if len(inputs) == 2 else run
    if task == "likelihood":
        return likelihood_of_points(model, setting, given)
    if task == "sample":
        model.eval()
        return sample_points(apply) if network == "mlp" else sample_images(apply)
    if task != "train":
        model.eval()

        def forward():
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=task == "bf16"):
                return apply(*inputs).flatten()[0].item()

        return forward

    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def train():
        optimiser.zero_grad(set_to_none=True)
        loss = F.mse_loss(apply(*inputs), target)
        loss.backward()
        optimiser.step()
        return loss.item()

    return train


def peak_rss_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(workload, setting, reps, seconds, threads, **sizes):
    import torch

    torch.set_num_threads(threads)
    if workload.startswith(("mnist", "cifar")):
        import diffusers.models  # noqa: F401  (part of what was there before the workload)
    import_rss = peak_rss_mb()
    call = build(workload, setting, **sizes)

    def timed():
        begin = time.perf_counter()
        value = call()
        return 1000 * (time.perf_counter() - begin), value

    first, _ = timed()
    for _ in range(1 if workload.endswith(("sample", "likelihood")) else 2):
        timed()
    begin, results = time.perf_counter(), []
    while not results or (len(results) < reps and time.perf_counter() - begin < seconds):
        results.append(timed())
    times, values = zip(*results)
    accuracy = {"accuracy": call.accuracy()} if hasattr(call, "accuracy") else {}
    print(json.dumps({
        "workload": workload, "setting": setting, "threads": threads, "reps": len(times),
        "ms_median": round(statistics.median(times), 3), "ms_min": round(min(times), 3),
        "ms_all": [round(t, 3) for t in times], "first_ms": round(first, 1),
        "peak_rss_mb": round(peak_rss_mb(), 1), "import_rss_mb": round(import_rss, 1), "value": values[-1], **accuracy,
    }), flush=True)


def describe():
    """Prints the networks: their numbers of parameters, and each parameter's shape."""
    for build_network in (mlp, mnist, cifar, block):
        model = build_network()
        print(f"{build_network.__name__}: {sum(p.numel() for p in model.parameters())} parameters")
        for name, p in model.named_parameters():
            print(f"  {name} {list(p.shape)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS, default=WORKLOADS)
    parser.add_argument("--setting", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--reps", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    for name, value in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--given", help="the file of mlp-likelihood")
    parser.add_argument("--describe", action="store_true", help="print the networks' parameters and stop")
    parser.add_argument("--here", action="store_true", help="measure one workload in this process")
    options = parser.parse_args()
    if options.describe:
        return describe()
    sizes = {name: getattr(options, name) for name in SIZES}
    if options.given:
        sizes["given"] = options.given
    elif "mlp-likelihood" in options.workload:
        if options.workload != WORKLOADS:
            parser.error("mlp-likelihood needs --given, a file that `cargo xtask bench --workload mlp-likelihood` writes")
        options.workload = [workload for workload in WORKLOADS if workload != "mlp-likelihood"]
    if options.here:
        return measure(options.workload[0], options.setting[0], options.reps, options.seconds, options.threads, **sizes)
    failed = False
    for _ in range(options.rounds):
        for workload in options.workload:
            for setting in options.setting:
                if setting == "channels-last" and workload.startswith(("mlp", "block")):
                    print(f"{workload}: channels-last is for images, skipped", file=sys.stderr)
                    continue
                command = [sys.executable, __file__, "--here", "--workload", workload, "--setting", setting,
                           "--reps", str(options.reps), "--seconds", str(options.seconds), "--threads", str(options.threads)]
                command += [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
                if subprocess.run(command).returncode != 0:
                    print(f"{workload} {setting}: failed", file=sys.stderr)
                    failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()

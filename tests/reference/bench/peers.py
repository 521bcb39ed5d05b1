"""What PyTorch takes for the networks that fokker is compared with: time per call and peak memory.

    python tests/reference/bench/peers.py [--workload NAME…] [--setting NAME…] [--reps N] [--rounds R] [--threads T]

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

Settings: ``eager``, ``channels-last``, ``compile`` (torch.compile with its defaults).
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

WORKLOADS = ("mlp-train", "mlp-forward", "mnist-train", "mnist-forward")
SETTINGS = ("eager", "channels-last", "compile")


def mlp():
    from torch import nn

    return nn.Sequential(nn.Linear(66, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(),
                         nn.Linear(256, 2))


def mnist():
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=32, in_channels=1, out_channels=1, layers_per_block=2, block_out_channels=(32, 64, 128, 128),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"), norm_num_groups=8)


def build(workload, setting):
    """The call to be timed: no arguments, returns the loss (train) or one output value (forward)."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(0)
    network, task = workload.split("-")
    if network == "mlp":
        model = mlp()
        inputs = (torch.randn(512 if task == "train" else 10_000, 66),)
        target = torch.randn(inputs[0].shape[0], 2)
    else:
        model = mnist()
        x = torch.randn(64, 1, 32, 32)
        inputs = (x, torch.randint(0, 1000, (64,)))
        target = torch.randn_like(x)
    if setting == "channels-last" and network == "mnist":
        model = model.to(memory_format=torch.channels_last)
        inputs = (inputs[0].contiguous(memory_format=torch.channels_last), *inputs[1:])
        target = target.contiguous(memory_format=torch.channels_last)
    run = torch.compile(model) if setting == "compile" else model
    apply = run if network == "mlp" else (lambda x, t: run(x, t, return_dict=False)[0])
    if task == "forward":
        model.eval()

        def forward():
            with torch.inference_mode():
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


def measure(workload, setting, reps, threads):
    import torch

    torch.set_num_threads(threads)
    if workload.startswith("mnist"):
        import diffusers.models  # noqa: F401  (part of what was there before the workload)
    import_rss = peak_rss_mb()
    call = build(workload, setting)

    def timed():
        begin = time.perf_counter()
        value = call()
        return 1000 * (time.perf_counter() - begin), value

    first, _ = timed()
    for _ in range(2):
        timed()
    times, values = zip(*(timed() for _ in range(reps)))
    print(json.dumps({
        "workload": workload, "setting": setting, "threads": threads, "reps": reps,
        "ms_median": round(statistics.median(times), 3), "ms_min": round(min(times), 3),
        "ms_all": [round(t, 3) for t in times], "first_ms": round(first, 1),
        "peak_rss_mb": round(peak_rss_mb(), 1), "import_rss_mb": round(import_rss, 1), "value": values[-1],
    }), flush=True)


def describe():
    """Prints the U-Net of the mnist workloads: its parameters with their shapes, and its sequence of layers."""
    model = mnist()
    print(f"{sum(p.numel() for p in model.parameters())} parameters")
    for name, p in model.named_parameters():
        print(f"{name} {list(p.shape)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS, default=WORKLOADS)
    parser.add_argument("--setting", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--reps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--describe", action="store_true", help="print the U-Net's parameters and stop")
    parser.add_argument("--here", action="store_true", help="measure one workload in this process")
    options = parser.parse_args()
    if options.describe:
        return describe()
    if options.here:
        return measure(options.workload[0], options.setting[0], options.reps, options.threads)
    failed = False
    for _ in range(options.rounds):
        for workload in options.workload:
            for setting in options.setting:
                if setting == "channels-last" and workload.startswith("mlp"):
                    print(f"{workload}: channels-last is for images, skipped", file=sys.stderr)
                    continue
                command = [sys.executable, __file__, "--here", "--workload", workload, "--setting", setting,
                           "--reps", str(options.reps), "--threads", str(options.threads)]
                if subprocess.run(command).returncode != 0:
                    print(f"{workload} {setting}: failed", file=sys.stderr)
                    failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()

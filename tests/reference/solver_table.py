"""The errors of other libraries' samplers on the two mixtures of ``docs/solvers.md``, per number of evaluations.

    python tests/reference/solver_table.py [--check]

Writes ``tests/fixtures/solver_table.json``. The process is EDM, ``x = x_0 + sigma eps``, from sigma 80 to 0.002, in float64;
the mixtures, the initial states and what an error is are those of ``tests/src/solver_table``. A sampler runs on each of

- ``karras``: uniform in ``sigma ** (1/7)``, the usual grid of k-diffusion;
- ``log-snr``: uniform in ``log sigma``, diffusers' and k-diffusion's "exponential" and the grid of azula's VE schedule;
- ``vp-time``: uniform in the time of the variance-preserving process with linear beta, what diffusers' schedulers do by default;
- or ``own``, where the sampler brings its grid.

Every sampler is judged where it ends: by the denoised sample at 0.002 if it takes a last step to no noise, else by the state
at 0.002. (The latter saves it an evaluation.) Evaluations are counted. A number is the root mean square over states and coordinates of
the difference to the exact flow, ``null`` where the sampler cannot do with so few evaluations or leaves the range of numbers.

Not here, because another entry is the same method in this process: DDIM of any library (Euler), diffusers' EDM schedulers (those for VP
with the levels given), its flow-matching ones (Euler and Heun in another process), azula's DDIM; diffusers' PNDM, whose steps are
those of a fixed ladder; and what draws noise.
"""

import argparse
import importlib.metadata
import json
import math
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import diffusers
import numpy as np
import torch
from azula import sample as azula_samplers
from azula.denoise import Denoiser, DiracPosterior
from azula.noise import VESchedule

import philox
from kdiffusion import K

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
PATH = Path(__file__).resolve().parent.parent / "fixtures" / "solver_table.json"
NFE = [5, 10, 20, 50, 100]
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0
# As in tests/src/solver_table/oracle.rs: the seed, the streams of the parameters and of the states, how many states.
SEED, PARAMETERS, STATES, COUNT = 2024, 0, 1, 512


class Mixture:
    """``sum_k w_k N(mu_k, S_k)``, and ``E[x_0 | x_0 + sigma eps = x]``.

    All but the ``rank`` largest eigenvalues of an ``S_k`` are the same, ``f``: with the eigenvectors ``U`` of the others,
    ``S_k = f I + U diag(l - f) U^T``, and so is every function of it.
    """

    def __init__(self, weights, means, covariances, rank):
        self.log_weights, self.means = torch.tensor(weights).log()[:, None], means[:, None]
        values, vectors = torch.linalg.eigh(covariances)
        assert rank == values.shape[1] or torch.allclose(values[:, 0], values[:, -rank - 1], rtol=1e-9)
        self.floor, self.values, self.vectors = values[:, :1, None], values[:, None, -rank:], vectors[:, :, -rank:]
        self.others = values.shape[1] - rank
        self.calls = 0

    def denoised(self, x, sigma):
        self.calls += 1
        centred = x - self.means
        z = centred @ self.vectors
        low, variance = self.floor + sigma**2, self.values + sigma**2
        # What the eigenvectors leave of the square, and of the logarithm of the determinant.
        rest = (centred.square().sum(2) - z.square().sum(2)) / low[..., 0] if self.others else 0.0
        log_det = variance.log().sum(2) + self.others * low[..., 0].log()
        p = (self.log_weights - 0.5 * (log_det + (z.square() / variance).sum(2) + rest)).softmax(0)
        gain = self.floor / low
        answers = self.means + gain * centred + (z * (self.values / variance - gain)) @ self.vectors.mT
        return (p[..., None] * answers).sum(0)


def plane():
    """Five clusters in the plane, round, long and thin."""
    means = torch.tensor([[-1.1, -0.6], [0.9, -0.9], [0.1, 1.1], [1.3, 0.7], [-1.2, 0.9]])
    covariances = torch.tensor([
        [[0.02, 0.0], [0.0, 0.02]], [[0.16, 0.07], [0.07, 0.04]], [[0.09, -0.05], [-0.05, 0.03]], [[0.05, 0.0], [0.0, 0.05]],
        [[0.005, 0.0], [0.0, 0.08]]])
    return Mixture([0.3, 0.25, 0.2, 0.15, 0.1], means, covariances, 2)


def high():
    """Six clusters in 64 dimensions with eight long directions each, and little in the others."""
    d, k, rank = 64, 6, 8
    numbers = philox.normal(SEED, PARAMETERS, 0, k, d * (1 + rank)).reshape(k, 1 + rank, d)
    lengths = 0.25 / torch.arange(1, rank + 1) ** 0.75
    long = numbers[:, 1:] * lengths[:, None]
    covariances = torch.einsum("kri,krj->kij", long, long) + 0.0025 * torch.eye(d)
    return Mixture([0.3, 0.25, 0.2, 0.1, 0.1, 0.05], 0.25 * numbers[:, 0], covariances, rank)


def initial(d):
    return SIGMA_MAX * philox.normal(SEED, STATES, 0, COUNT, d)


def flow(mixture, x, steps):
    """The exact flow's state at SIGMA_MIN: ``dx/dv = x - D`` in ``v = log sigma``, by the classical Runge-Kutta method."""
    v = torch.linspace(math.log(SIGMA_MAX), math.log(SIGMA_MIN), steps + 1)
    f = lambda x, v: x - mixture.denoised(x, math.exp(v))
    for a, b in zip(v[:-1].tolist(), v[1:].tolist()):
        h, m = b - a, 0.5 * (a + b)
        k1 = f(x, a)
        k2 = f(x + 0.5 * h * k1, m)
        k3 = f(x + 0.5 * h * k2, m)
        k4 = f(x + h * k3, b)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


def levels(grid, n):
    """``n`` levels from SIGMA_MAX to SIGMA_MIN."""
    u = torch.linspace(0, 1, n)
    if grid == "karras":
        first, last = SIGMA_MAX ** (1 / 7), SIGMA_MIN ** (1 / 7)
        sigmas = (first + u * (last - first)) ** 7
    elif grid == "log-snr":
        sigmas = (math.log(SIGMA_MAX) + u * math.log(SIGMA_MIN / SIGMA_MAX)).exp()
    else:
        # log(1 + sigma^2) = b t + a t^2 / 2 with b = 0.1, a = 19.9.
        time = lambda sigma: (-0.1 + math.sqrt(0.01 + 2 * 19.9 * math.log1p(sigma**2))) / 19.9
        t = time(SIGMA_MAX) + u * (time(SIGMA_MIN) - time(SIGMA_MAX))
        sigmas = (0.1 * t + 19.9 * t**2 / 2).expm1().sqrt()
    sigmas[0], sigmas[-1] = SIGMA_MAX, SIGMA_MIN
    return sigmas


GRIDS = ["karras", "log-snr", "vp-time"]
ZERO = torch.zeros(1)


# --- diffusers ---------------------------------------------------------------------------------------------------------


@contextmanager
def wide(name):
    """The scheduler class of this name, with float64 under the name of float32."""
    narrow = torch.float32, np.float32
    torch.float32, np.float32 = torch.float64, np.float64
    try:
        yield getattr(diffusers, name)
    finally:
        torch.float32, np.float32 = narrow


def scaled(name, end, **parameters):
    """A scheduler in the variance-preserving convention: its state is ``x / sqrt(1 + sigma^2)``."""

    def sampler(mixture, x, grid, n):
        sigmas = levels(grid, n if end == "zero" else n + 1)
        sigmas = torch.cat([sigmas, ZERO]) if end == "zero" else sigmas
        scale = 1 / (1 + sigmas**2).sqrt()
        with wide(name) as kind:
            extra = {} if name == "DEISMultistepScheduler" or name == "IPNDMScheduler" else {"final_sigmas_type": end}
            scheduler = kind(**parameters, **extra)
            scheduler.set_timesteps(n)
            scheduler.set_begin_index(0)
            scheduler.timesteps = torch.arange(n, 0.0, -1.0)
            scheduler.sigmas = sigmas
            scheduler.alphas, scheduler.betas = scale, sigmas * scale
            x = x * scale[0]
            for i, t in enumerate(scheduler.timesteps):
                a, s = scale[i], sigmas[i] * scale[i]
                x_0 = mixture.denoised(x / a, sigmas[i])
                eps = (x - a * x_0) / s
                x = scheduler.step(a * eps - s * x_0 if name == "IPNDMScheduler" else eps, t, x).prev_sample
        return x / scale[-1], end == "zero"

    return sampler


def exploding(name, evaluations, **parameters):
    """A scheduler in the variance-exploding convention."""

    def sampler(mixture, x, grid, nfe):
        n = (nfe + evaluations - 1) // evaluations
        sigmas = torch.cat([levels(grid, n), ZERO])
        with wide(name) as kind:
            scheduler = kind(**parameters)
            scheduler.set_timesteps(n)
            scheduler.set_begin_index(0)
            scheduler.is_scale_input_called = True
            middle = sigmas.log().lerp(sigmas.roll(1).log(), 0.5).exp()
            twice = lambda s, first: torch.cat([s[:1], s[first:].repeat_interleave(2), s[-1:]])
            if name == "HeunDiscreteScheduler":
                scheduler.sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
                at = scheduler.sigmas[:-1]
            elif name == "KDPM2DiscreteScheduler":
                scheduler.sigmas, scheduler.sigmas_interpol = twice(sigmas, 1), twice(middle, 1)
                at = torch.cat([sigmas[:1], torch.stack((middle[1:-1], sigmas[1:-1]), -1).flatten()])
            else:
                scheduler.sigmas = sigmas
                at = sigmas[:-1]
            scheduler.timesteps = torch.arange(len(at), 0.0, -1.0)
            for sigma, t in zip(at, scheduler.timesteps):
                x = scheduler.step((x - mixture.denoised(x, sigma)) / sigma, t, x).prev_sample
        return x, True

    return sampler


def diffusers_samplers():
    yield "EulerDiscreteScheduler", {}, GRIDS, exploding("EulerDiscreteScheduler", 1)
    yield "HeunDiscreteScheduler", {}, GRIDS, exploding("HeunDiscreteScheduler", 2)
    yield "KDPM2DiscreteScheduler", {}, GRIDS, exploding("KDPM2DiscreteScheduler", 2)
    yield "LMSDiscreteScheduler", {}, GRIDS, exploding("LMSDiscreteScheduler", 1)
    yield "IPNDMScheduler", {}, GRIDS, scaled("IPNDMScheduler", "zero")
    for order in (2, 3):
        for end in ("zero", "sigma_min"):
            for name in ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler"):
                settings = {"solver_order": order}
                yield name, settings | {"final_sigmas_type": end}, GRIDS, scaled(name, end, **settings)
        settings = {"solver_order": order, "solver_type": "bh1"}
        yield ("UniPCMultistepScheduler", settings | {"final_sigmas_type": "sigma_min"}, GRIDS,
               scaled("UniPCMultistepScheduler", "sigma_min", **settings))
        settings = {"solver_order": order, "algorithm_type": "dpmsolver"}
        yield ("DPMSolverMultistepScheduler", settings | {"final_sigmas_type": "sigma_min"}, GRIDS,
               scaled("DPMSolverMultistepScheduler", "sigma_min", **settings))
        yield "DEISMultistepScheduler", {"solver_order": order}, GRIDS, scaled("DEISMultistepScheduler", "sigma_min",
                                                                               solver_order=order)
    settings = {"solver_order": 2, "solver_type": "heun"}
    yield ("DPMSolverMultistepScheduler", settings | {"final_sigmas_type": "zero"}, GRIDS,
           scaled("DPMSolverMultistepScheduler", "zero", **settings))


# --- k-diffusion -------------------------------------------------------------------------------------------------------


class TooMany(Exception):
    """More evaluations than there may be."""


def k_model(mixture, most=math.inf):
    def model(x, sigma, **_):
        if mixture.calls >= most:
            raise TooMany
        return mixture.denoised(x, sigma.flatten()[0])

    return model


def k_sampler(name, evaluations, **parameters):
    def sampler(mixture, x, grid, nfe):
        sigmas = torch.cat([levels(grid, (nfe + evaluations - 1) // evaluations), ZERO])
        function = getattr(K, f"sample_{name}")
        none = {"noise_sampler": lambda *_: torch.zeros_like(x)} if "eta" in parameters else {}
        return function(k_model(mixture), x, sigmas, disable=True, **parameters, **none), True

    return sampler


def k_fast(mixture, x, _, nfe):
    none = lambda *_: torch.zeros_like(x)
    return K.sample_dpm_fast(k_model(mixture), x, SIGMA_MIN, SIGMA_MAX, nfe, disable=True, noise_sampler=none), False


def k_adaptive(order):
    """The tightest of these tolerances that does with so few evaluations; the absolute one in the sampler's proportion."""

    def sampler(mixture, x, _, nfe):
        none = lambda *_: torch.zeros_like(x)
        last, calls = None, 0
        for exponent in range(8, -29, -1):
            rtol = 10 ** (exponent / 4)
            mixture.calls = 0
            try:
                last = K.sample_dpm_adaptive(k_model(mixture, nfe), x, SIGMA_MIN, SIGMA_MAX, disable=True, order=order,
                                             rtol=rtol, atol=0.0078 / 0.05 * rtol, noise_sampler=none)
                calls = mixture.calls
            except TooMany:
                break
        mixture.calls = calls
        return last, False

    return sampler


def k_samplers():
    yield "sample_euler", {}, GRIDS, k_sampler("euler", 1)
    yield "sample_heun", {}, GRIDS, k_sampler("heun", 2)
    yield "sample_dpm_2", {}, GRIDS, k_sampler("dpm_2", 2)
    for order in (2, 3, 4):
        yield "sample_lms", {"order": order}, GRIDS, k_sampler("lms", 1, order=order)
    yield "sample_dpmpp_2m", {}, GRIDS, k_sampler("dpmpp_2m", 1)
    yield "sample_dpmpp_2s_ancestral", {"eta": 0}, GRIDS, k_sampler("dpmpp_2s_ancestral", 2, eta=0.0)
    yield "sample_dpmpp_sde", {"eta": 0}, GRIDS, k_sampler("dpmpp_sde", 2, eta=0.0)
    yield ("sample_dpmpp_2m_sde", {"eta": 0, "solver_type": "heun"}, GRIDS,
           k_sampler("dpmpp_2m_sde", 1, eta=0.0, solver_type="heun"))
    yield "sample_dpmpp_3m_sde", {"eta": 0}, GRIDS, k_sampler("dpmpp_3m_sde", 1, eta=0.0)
    yield "sample_dpm_fast", {}, ["own"], k_fast
    for order in (2, 3):
        yield "sample_dpm_adaptive", {"order": order}, ["own"], k_adaptive(order)


# --- azula -------------------------------------------------------------------------------------------------------------


SCHEDULE = VESchedule(sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX)


class AzulaModel(Denoiser):
    def __init__(self, mixture):
        super().__init__()
        self.mixture, self.schedule = mixture, SCHEDULE

    def forward(self, x_t, t):
        return DiracPosterior(mean=self.mixture.denoised(x_t, SCHEDULE(t)[1]))


def azula_sampler(name, evaluations, **parameters):
    def sampler(mixture, x, grid, nfe):
        n = nfe // evaluations
        times = (levels(grid, n + 1) / SIGMA_MIN).log() / math.log(SIGMA_MAX / SIGMA_MIN)
        kind = getattr(azula_samplers, name)
        on_grid = type(name, (kind,), {"timesteps": property(lambda _: times)})
        return on_grid(AzulaModel(mixture), steps=n, silent=True, **parameters)(x), False

    return sampler


def azula_list():
    yield "EulerSampler", {}, GRIDS, azula_sampler("EulerSampler", 1)
    yield "HeunSampler", {}, GRIDS, azula_sampler("HeunSampler", 2)
    for name in ("zABSampler", "vABSampler", "zEABSampler", "xEABSampler", "REABSampler"):
        for order in (2, 3, 4):
            yield name, {"order": order}, GRIDS, azula_sampler(name, 1, order=order)


# -----------------------------------------------------------------------------------------------------------------------


def measure(mixture, x, ends, sampler, grid, nfe):
    """The error with at most ``nfe`` evaluations, or None; and what they were."""
    mixture.calls = 0
    found, denoised = sampler(mixture, x, grid, nfe)
    if found is None:
        return None, 0
    calls = mixture.calls
    assert 0 < calls <= nfe, f"{calls} evaluations, at most {nfe} were allowed"
    error = (found - ends[denoised]).square().mean().sqrt().item()
    return (float(f"{error:.6g}") if math.isfinite(error) else None), calls


def oracle(mixture, d):
    x = initial(d)
    # Of order 4: half the step is 16 times as accurate.
    state, finer = flow(mixture, x, 700), flow(mixture, x, 1400)
    error = (state - finer).square().mean().sqrt().item() / 15
    assert error < 1e-9, error
    ends = {False: finer, True: mixture.denoised(finer, SIGMA_MIN)}
    at = x[:2] / 80
    probe = {"sigma": 0.5, "x": at[:, :4].tolist(), "denoised": mixture.denoised(at, 0.5)[:, :4].tolist(),
             "end": ends[True][:4, :4].tolist()}
    entries = []
    for library, samplers in (("diffusers", diffusers_samplers), ("k-diffusion", k_samplers), ("azula", azula_list)):
        for name, settings, grids, sampler in samplers():
            cells = {grid: [measure(mixture, x, ends, sampler, grid, nfe) for nfe in NFE] for grid in grids}
            entries.append({
                "library": library, "sampler": name, "settings": ", ".join(f"{k}={v}" for k, v in settings.items()),
                "errors": {grid: [error for error, _ in row] for grid, row in cells.items()},
                "evaluations": {grid: [calls for _, calls in row] for grid, row in cells.items()}})
    return {"dimensions": d, "probe": probe, "samplers": entries}


def differences(old, new, path=""):
    """Where two JSON values differ, numbers by more than 1e-4 of themselves (PyTorch may sum in another order elsewhere)."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        return [d for key in old for d in differences(old[key], new[key], f"{path}/{key}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [d for i, (a, b) in enumerate(zip(old, new)) for d in differences(a, b, f"{path}/{i}")]
    if isinstance(old, float) and isinstance(new, float):
        return [] if math.isclose(old, new, rel_tol=1e-4, abs_tol=1e-9) else [f"{path}: {old}, now {new}"]
    return [] if old == new else [f"{path}: {old}, now {new}"]


def text(table):
    """One line per sampler."""
    lines = json.dumps({**table, "oracles": None}, indent=1).replace("null", "{", 1).rsplit("\n", 1)[0].split("\n")
    out = "\n".join(lines)
    for i, (name, entry) in enumerate(table["oracles"].items()):
        samplers = ",\n   ".join(json.dumps(s) for s in entry["samplers"])
        out += (f'{"," if i else ""}\n  {json.dumps(name)}: {{\n   "dimensions": {entry["dimensions"]},\n'
                f'   "probe": {json.dumps(entry["probe"])},\n   "samplers": [\n   {samplers}]}}')
    return out + "\n }\n}\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="compare with the committed file, write nothing")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    diffusers.logging.set_verbosity_error()
    packages = ("diffusers", "k-diffusion", "azula", "torch")
    table = {"versions": {p: importlib.metadata.version(p).split("+")[0] for p in packages}, "nfe": NFE,
             "oracles": {"2-D": oracle(plane(), 2), "64-D": oracle(high(), 64)}}
    written = text(table)
    assert json.loads(written) == table
    if arguments.check:
        problems = differences(json.loads(PATH.read_text()), table)
        print(f"{PATH.name}: " + ("; ".join(problems) if problems else "as committed"))
        sys.exit(bool(problems))
    PATH.write_text(written)
    print(f"{PATH.name}: {sum(len(o['samplers']) for o in table['oracles'].values())} samplers, {len(written) / 1000:.0f} kB")


if __name__ == "__main__":
    main()

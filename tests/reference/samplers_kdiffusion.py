"""Fixtures of k-diffusion: trajectories of its samplers and its schedules of noise levels.

    python tests/reference/samplers_kdiffusion.py [--check]

The process is EDM, ``x = x_0 + sigma eps``. ``<case>/x`` ``[4, 2]`` is the initial state, ``<case>/times`` the noise
levels (without the last one where it is 0 and the sampler ends with the denoiser's answer) and ``<case>/states``
``[steps, 4, 2]`` the state after each step. ``noise`` in a description says which of fokker's draws of a step the sampler's calls for noise
get, in order: ``k`` for draw number k alone, or a list of ``[factor, draw]``.

k-diffusion computes in the type of its tensors; the one thing it makes itself, ``torch.linspace`` of a schedule, has the
default type, which is float64 here.
"""

import sys

import torch

import mixture
from fixture import Fixture
from kdiffusion import K
from philox import Draws, initial, noise_case

torch.set_default_dtype(torch.float64)


fixture = Fixture("samplers_kdiffusion")
noise_case(fixture)
SIGMA_MIN, SIGMA_MAX = 0.02, 20.0
KARRAS = K.get_sigmas_karras(10, SIGMA_MIN, SIGMA_MAX)


def model(x, sigma, **_):
    """The denoiser as k-diffusion calls it: the same noise level for the whole batch, repeated."""
    assert (sigma == sigma.flatten()[0]).all()
    return mixture.denoised(x, 1.0, sigma.flatten()[0])


class Record:
    """Stands in for a sampler's progress bar: tells the draws which step it is and keeps the state after each."""

    def __init__(self, draws):
        self.draws, self.states = draws, []

    def __call__(self, n, disable=None):
        for i in range(n):
            self.draws.start(i)
            yield i
            self.states.append(sys._getframe(1).f_locals["x"].clone())


def trajectory(case, sampler, sigmas=KARRAS, noise=(), **parameters):
    """All steps of ``sample_<sampler>`` over given noise levels."""
    draws = Draws(noise)
    record = Record(draws)
    K.trange, torch.randn_like = record, draws
    x = SIGMA_MAX * initial()
    stochastic = {"noise_sampler": lambda *_: draws(x)} if sampler in BROWNIAN else {}
    result = getattr(K, f"sample_{sampler}")(model, x, sigmas, disable=True, **parameters, **stochastic)
    assert torch.equal(result, record.states[-1]) and len(record.states) == len(sigmas) - 1
    fixture.describe(case, sampler, noise=list(noise), **parameters)
    fixture.put(case, "x", x)
    fixture.put(case, "times", sigmas[:-1])
    fixture.put(case, "states", torch.stack(record.states))


# Those that draw from a Brownian tree unless told otherwise.
BROWNIAN = {"dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde"}
EXPONENTIAL = K.get_sigmas_exponential(8, SIGMA_MIN, SIGMA_MAX)

trajectory("euler", "euler")
trajectory("euler-exponential", "euler", EXPONENTIAL)
trajectory("heun", "heun")
trajectory("heun-exponential", "heun", EXPONENTIAL)
trajectory("dpm-2", "dpm_2")
for order in (1, 2, 3, 4):
    trajectory(f"lms-{order}", "lms", order=order)
trajectory("dpmpp-2m", "dpmpp_2m")
trajectory("dpmpp-2m-exponential", "dpmpp_2m", EXPONENTIAL)

# Karras et al.'s noise before a step: on in the levels between s_tmin and s_tmax.
churn = {"s_churn": 4.0, "s_tmin": 0.05, "s_tmax": 10.0, "s_noise": 1.007}
trajectory("euler-churn", "euler", noise=[0], **churn)
trajectory("heun-churn", "heun", noise=[0], **churn)
trajectory("heun-churn-most", "heun", noise=[0], s_churn=100.0)

for sampler in ("euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral"):
    name = sampler.replace("_", "-")
    trajectory(name, sampler, noise=[0])
    trajectory(f"{name}-exponential", sampler, EXPONENTIAL, noise=[0])
    trajectory(f"{name}-ode", sampler, eta=0.0)
    trajectory(f"{name}-half", sampler, noise=[0], eta=0.5, s_noise=0.9)
for eta in (0.0, 0.5, 1.0):
    trajectory(f"dpmpp-sde-{eta:g}", "dpmpp_sde", noise=[0, 1], eta=eta)
    for solver_type in ("midpoint", "heun"):
        trajectory(f"dpmpp-2m-sde-{solver_type}-{eta:g}", "dpmpp_2m_sde", noise=[0], eta=eta, solver_type=solver_type)
    trajectory(f"dpmpp-3m-sde-{eta:g}", "dpmpp_3m_sde", noise=[0], eta=eta)


def fast(case, n):
    """DPM-Solver-fast: ``n`` evaluations divided into steps of order 3, then 2 and 1, uniform in ``-log sigma``."""
    seen, times = [], []

    def callback(info):
        seen.append(info["x"].clone())
        times.append(info["sigma"])

    x = SIGMA_MAX * initial()
    result = K.sample_dpm_fast(model, x, SIGMA_MIN, SIGMA_MAX, n, callback=callback, disable=True,
                               noise_sampler=lambda *_: torch.zeros_like(x))
    fixture.describe(case, "dpm_fast", n=n)
    fixture.put(case, "x", x)
    fixture.put(case, "times", torch.stack([*times, torch.tensor(SIGMA_MIN)]))
    fixture.put(case, "states", torch.stack([*seen[1:], result]))


for n in (10, 11, 12):
    fast(f"dpm-fast-{n}", n)


def adaptive(case, **parameters):
    """DPM-Solver-12 and -23 with error control: the accepted levels, the states there, and what it cost."""
    times, states = [torch.tensor(SIGMA_MAX)], []

    def callback(info):
        if info["n_accept"] > len(states):
            states.append(info["x"].clone())
            times.append(info["sigma"])

    # The error is a mean over the batch: one sample, so that batches do not matter.
    x = SIGMA_MAX * initial()[:1]
    _, info = K.sample_dpm_adaptive(model, x, SIGMA_MIN, SIGMA_MAX, callback=callback, disable=True, return_info=True,
                                    noise_sampler=lambda *_: torch.zeros_like(x), **parameters)
    fixture.describe(case, "dpm_adaptive", **parameters, accepted=info["n_accept"], rejected=info["n_reject"])
    fixture.put(case, "x", x)
    fixture.put(case, "times", torch.stack(times))
    fixture.put(case, "states", torch.stack(states))


adaptive("dpm-adaptive-3", order=3)
adaptive("dpm-adaptive-2", order=2)
adaptive("dpm-adaptive-3-tight", order=3, rtol=1e-3, atol=1e-4)
# A tolerance that does not depend on the state.
for order in (2, 3):
    adaptive(f"dpm-adaptive-{order}-absolute", order=order, rtol=1e-9, atol=0.003)
adaptive("dpm-adaptive-pid", order=3, rtol=1e-9, atol=0.003, pcoeff=0.3, icoeff=0.5, dcoeff=0.1)


def schedule(case, name, n, **parameters):
    fixture.describe(case, f"sigmas_{name}", **parameters)
    levels = getattr(K, f"get_sigmas_{name}")(n, **parameters)
    assert levels[-1] == 0
    fixture.put(case, "times", levels[:-1])


schedule("sigmas-karras", "karras", 10, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, rho=7.0)
schedule("sigmas-karras-3", "karras", 10, sigma_min=0.002, sigma_max=80.0, rho=3.0)
schedule("sigmas-exponential", "exponential", 10, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX)
for rho in (1.0, 2.0, 0.5):
    schedule(f"sigmas-polyexponential-{rho:g}", "polyexponential", 10, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, rho=rho)
schedule("sigmas-vp", "vp", 10, beta_d=19.9, beta_min=0.1, eps_s=1e-3)
fixture.finish()

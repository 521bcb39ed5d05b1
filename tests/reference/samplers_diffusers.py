"""Fixtures of diffusers: trajectories of its schedulers.

    python tests/reference/samplers_diffusers.py [--check]

``<case>/x`` ``[4, 2]`` is the initial state and ``<case>/states`` ``[steps, 4, 2]`` the state after each step.
``<case>/times`` are the times of the states, the last one left out where the step goes to a level without noise:

- ``ladder`` cases (variance preserving, ``x = sqrt(a) x_0 + sqrt(1 - a) eps`` with ``a`` the running product of
  ``1 - beta``): ``times`` are indices of the ladder of 1000 betas, and ``<case>/alpha_bars`` is ``a`` there.
- ``sigma`` cases (``x = x_0 + sigma eps``): ``times`` are the noise levels.
- ``flow`` cases (``x = (1 - t) x_0 + t eps``): ``times`` are ``t``.

``noise`` in a description says which of fokker's draws of a step the scheduler's calls for noise get, in order.

Schedulers keep betas, noise levels and often the state in float32. Here ``torch.float32`` and ``np.float32`` are names of
float64 while they work, so that everything is computed in float64 by the schedulers' own code.
"""

import sys
from contextlib import contextmanager

import diffusers
import numpy as np
import torch

import mixture
from fixture import Fixture
from philox import Draws, initial, noise_case

torch.set_default_dtype(torch.float64)
fixture = Fixture("samplers_diffusers")
noise_case(fixture)


@contextmanager
def wide(name, draws=None):
    """The scheduler class of this name, with float64 under the name of float32 and noise from ``draws``."""
    scheduler = getattr(diffusers, name)
    module = sys.modules[scheduler.__module__]
    narrow = torch.float32, np.float32
    torch.float32, np.float32 = torch.float64, np.float64
    drawing = getattr(module, "randn_tensor", None)
    module.randn_tensor = draws
    try:
        yield scheduler
    finally:
        torch.float32, np.float32 = narrow
        module.randn_tensor = drawing


def epsilon(x, level):
    """The noise in ``x = x_0 + level eps``."""
    return mixture.noise(x, 1.0, level)


def put(case, scheduler, kind, x, times, states, noise, parameters, **tensors):
    fixture.describe(case, scheduler, process=kind, noise=list(noise), **parameters)
    for key, value in {"x": x, "times": times, "states": torch.stack(states), **tensors}.items():
        fixture.put(case, key, torch.as_tensor(value, dtype=torch.float64))


def ladder(case, name, steps=10, noise=(), step=None, stages=(), **parameters):
    """A scheduler in the variance-preserving convention. ``timesteps`` are the times of its evaluations, of which those
    numbered in ``stages`` begin no step; the state after the last step is at the ladder's first level with
    ``final_sigmas_type="sigma_min"`` (and with DEIS, which knows no other), without noise otherwise."""
    draws = Draws(noise)
    step = step or {}
    with wide(name, draws) as kind:
        scheduler = kind(**parameters)
        scheduler.set_timesteps(steps)
        assert scheduler.alphas_cumprod.dtype == torch.float64
        a = scheduler.alphas_cumprod
        x = start = initial()
        states, times = [], []
        for i, t in enumerate(scheduler.timesteps):
            draws.start(i)
            alpha, sigma = a[int(t)].sqrt(), (1 - a[int(t)]).sqrt()
            x_0 = mixture.denoised(x, alpha, sigma)
            eps = (x - alpha * x_0) / sigma
            wants_velocity = scheduler.config.prediction_type == "v_prediction"
            answer = alpha * eps - sigma * x_0 if wants_velocity else eps
            if scheduler.config.get("variance_type") == "learned_range":
                # From 0 to 1 the place between the bounds is (1 + output)/2; it goes a little beyond them here.
                answer = torch.cat([answer, 2.4 * x / (1 + x**2)], dim=1)
            x = scheduler.step(answer, t, x, **step).prev_sample
            if i not in stages:
                times.append(int(t))
                states.append(None)
            states[-1] = x.clone()
    if parameters.get("final_sigmas_type") == "sigma_min" or name == "DEISMultistepScheduler":
        times.append(0)
    if hasattr(scheduler, "sigmas"):
        assert torch.allclose(scheduler.sigmas[: len(times)], ((1 - a) / a).sqrt()[times], rtol=1e-12)
    put(case, name, "ladder", start, times, states, noise, {**parameters, **step}, alpha_bars=a[times])


def betas(case, **parameters):
    """The running products of ``1 - beta`` of a ladder of 1000 steps, at some of them."""
    with wide("DDPMScheduler") as kind:
        products = kind(**parameters).alphas_cumprod
    steps = torch.tensor([0, 1, 9, 99, 249, 499, 749, 899, 989, 998, 999])
    fixture.describe(case, "ladder", **parameters)
    fixture.put(case, "steps", steps)
    fixture.put(case, "alpha_bars", products[steps])


betas("ladder-linear", beta_schedule="linear", beta_start=0.0001, beta_end=0.02)
betas("ladder-scaled-linear", beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
betas("ladder-sigmoid", beta_schedule="sigmoid", beta_start=0.0001, beta_end=0.02)
betas("ladder-cosine", beta_schedule="squaredcos_cap_v2")
betas("ladder-laplace", beta_schedule="laplace")
betas("ladder-zero-snr", beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, rescale_betas_zero_snr=True)

plain = {"clip_sample": False}
for eta in (0.0, 0.5, 1.0):
    ladder(f"ddim-{eta:g}", "DDIMScheduler", noise=[0] if eta else [], step={"eta": eta}, **plain)
ladder("ddim-trailing", "DDIMScheduler", timestep_spacing="trailing", **plain)
ladder("ddim-linspace", "DDIMScheduler", timestep_spacing="linspace", **plain)
ladder("ddim-scaled-linear", "DDIMScheduler", beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, **plain)
ladder("ddim-cosine", "DDIMScheduler", beta_schedule="squaredcos_cap_v2", **plain)
ladder("ddim-zero-snr", "DDIMScheduler", rescale_betas_zero_snr=True, **plain)
# From pure noise, where the noise says nothing about the data and the velocity does.
ladder("ddim-pure-noise", "DDIMScheduler", rescale_betas_zero_snr=True, timestep_spacing="trailing",
       prediction_type="v_prediction", **plain)
for variance in ("fixed_small", "fixed_large"):
    ladder(f"ddpm-{variance.replace('_', '-')}", "DDPMScheduler", noise=[0], variance_type=variance, **plain)
ladder("ddpm-learned-range", "DDPMScheduler", noise=[0], variance_type="learned_range", **plain)
ladder("ddpm-learned-range-cosine", "DDPMScheduler", noise=[0], variance_type="learned_range",
       beta_schedule="squaredcos_cap_v2", **plain)
ladder("plms", "PNDMScheduler", stages=[1], skip_prk_steps=True, set_alpha_to_one=True)
ladder("pndm", "PNDMScheduler", stages=[1, 2, 3, 5, 6, 7, 9, 10, 11], skip_prk_steps=False, set_alpha_to_one=True)

for end in ("zero", "sigma_min"):
    last = {"final_sigmas_type": end}
    for order in (1, 2, 3):
        ladder(f"dpmpp-{order}m-{end}", "DPMSolverMultistepScheduler", solver_order=order, **last)
        # With bh1 the step to a level of zero multiplies by B(h) = -h = -inf and gives NaN.
        for kind in ("bh2",) if end == "zero" else ("bh1", "bh2"):
            ladder(f"unipc-{kind}-{order}-{end}", "UniPCMultistepScheduler", solver_order=order, solver_type=kind, **last)
last = {"final_sigmas_type": "sigma_min"}
for order in (1, 2, 3):
    ladder(f"deis-{order}", "DEISMultistepScheduler", solver_order=order)
for order in (2, 3):
    ladder(f"unipc-noise-{order}", "UniPCMultistepScheduler", solver_order=order, predict_x0=False, **last)
    ladder(f"dpmpp-{order}m-full", "DPMSolverMultistepScheduler", solver_order=order, lower_order_final=False, **last)
ladder("dpmpp-2m-heun", "DPMSolverMultistepScheduler", solver_type="heun", **last)
ladder("dpmpp-3m-15", "DPMSolverMultistepScheduler", steps=15, solver_order=3, **last)
ladder("dpm-2m-heun", "DPMSolverMultistepScheduler", algorithm_type="dpmsolver", solver_type="heun", **last)
ladder("unipc-no-corrector", "UniPCMultistepScheduler", solver_order=3, disable_corrector=list(range(10)), **last)
ladder("unipc-full", "UniPCMultistepScheduler", solver_order=3, lower_order_final=False, **last)
sde = {"algorithm_type": "sde-dpmsolver++", "lower_order_final": False, **last}
for order in (1, 2, 3):
    ladder(f"sde-dpmpp-{order}m", "DPMSolverMultistepScheduler", noise=[0], solver_order=order, **sde)
ladder("sde-dpmpp-2m-heun", "DPMSolverMultistepScheduler", noise=[0], solver_type="heun", **sde)


def singlestep(case, **parameters):
    """DPM-Solver++ (2S) and (3S): every second evaluation is the stage of a step, at the grid's next level. The levels are uniform
    in the logarithm, so that a stage is in the middle. They are none of the ladder's: ``x/alpha`` is stored, and the levels.

    Of third order every third one begins a step, and the scheduler's second stage is its step of second order with
    ``solver_type``'s weight."""
    with wide("DPMSolverSinglestepScheduler") as kind:
        scheduler = kind(use_exponential_sigmas=True, **parameters)
        scheduler.set_timesteps(12)
        levels = scheduler.sigmas
        scale = 1 / (1 + levels**2).sqrt()
        x, states, order = initial(), [], scheduler.config.solver_order
        for i, t in enumerate(scheduler.timesteps):
            x = scheduler.step(mixture.noise(x, scale[i], levels[i] * scale[i]), t, x).prev_sample
            if scheduler.order_list[i] == order:
                states.append(x / scale[i + 1])
    put(case, "DPMSolverSinglestepScheduler", "sigma", initial() / scale[0], levels[: order * len(states) + 1 : order], states, [],
        parameters)


singlestep("dpmpp-2s", lower_order_final=True)
singlestep("dpm-2s", algorithm_type="dpmsolver", final_sigmas_type="sigma_min", lower_order_final=True)
for solver_type in ("midpoint", "heun"):
    singlestep(f"dpmpp-3s-{solver_type}", solver_order=3, solver_type=solver_type, lower_order_final=True)


def stochastic_adams(case, tau, flat=0, **parameters):
    """SA-Solver. ``states`` are those after the corrector, which the scheduler applies at the beginning of its next step, and ``predicted``
    those before it, where the model is run. The first ``flat`` answers are one point."""
    draws = Draws([0])
    named = {} if tau is None else {"tau_func": lambda t: tau}
    with wide("SASolverScheduler", draws) as kind:
        scheduler = kind(lower_order_final=False, **named, **parameters)
        scheduler.set_timesteps(10)
        x = start = initial()
        states, predicted, times = [], [], []
        for i, t in enumerate(scheduler.timesteps):
            draws.start(i)
            level = scheduler.sigmas[i]
            alpha = 1 / (1 + level**2).sqrt()
            x_0 = torch.full_like(x, FLAT) if i < flat else mixture.denoised(x, alpha, alpha * level)
            predicted.append(x.clone())
            x = scheduler.step((x - alpha * x_0) / (alpha * level), t, x).prev_sample
            states.append(scheduler.last_sample.clone())
            times.append(int(t))
        a = scheduler.alphas_cumprod
    described = {**parameters, "flat": flat, **({} if tau is None else {"tau": tau})}
    put(case, "SASolverScheduler", "ladder", start, times, states[1:], [0], described, alpha_bars=a[times],
        predicted=torch.stack(predicted[1:]))


FLAT = 0.3
stochastic_adams("sa-1-1", 1.0, predictor_order=1, corrector_order=1)
stochastic_adams("sa-2-2", 0.8, predictor_order=2, corrector_order=2)
for tau in (0.0, 0.6, 1.0):
    stochastic_adams(f"sa-3-3-flat-{tau:g}", tau, flat=2, predictor_order=3, corrector_order=3)
stochastic_adams("sa-4-4-flat", 0.6, flat=2, predictor_order=4, corrector_order=4)
# Noise where 200 <= t <= 800 alone.
stochastic_adams("sa-3-3-flat-some", None, flat=2, predictor_order=3, corrector_order=3)


def levels(case, name, steps=10, noise=(), **parameters):
    """A scheduler in the variance-exploding convention, two evaluations a step where it has two stages."""
    draws = Draws(noise)
    with wide(name, draws) as kind:
        scheduler = kind(**parameters)
        scheduler.set_timesteps(steps)
        scheduler.noise_sampler, scheduler.is_scale_input_called = draws, True
        assert scheduler.sigmas.dtype == torch.float64
        distinct = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1:][scheduler.sigmas[1:] != scheduler.sigmas[:-1]]])
        x = start = distinct[0] * initial()
        states = []
        for i, t in enumerate(scheduler.timesteps):
            first = getattr(scheduler, "state_in_first_order", True)
            if first:
                draws.start(len(states))
            x = scheduler.step(output(scheduler, x, i, first), t, x).prev_sample
            if getattr(scheduler, "state_in_first_order", True) or i + 1 == len(scheduler.timesteps):
                states.append(x.clone())
    assert len(distinct) == len(states) + 1
    put(case, name, "sigma", start, distinct[:-1] if distinct[-1] == 0 else distinct, states, noise, parameters)


def output(scheduler, x, i, first):
    """What the scheduler wants from the model at its stage ``i``: noise, or EDM's raw network."""
    sigma = scheduler.sigmas[i]
    if not first:
        if hasattr(scheduler, "sigmas_interpol"):
            # The ancestral one keeps the middle of a step at the step's own place.
            ancestral = hasattr(scheduler, "sigmas_up")
            sigma = scheduler.sigmas_interpol[i - 1 if ancestral else i]
        elif isinstance(scheduler, diffusers.DPMSolverSDEScheduler):
            sigma = scheduler.mid_point_sigma
    if "EDM" not in type(scheduler).__name__:
        return epsilon(x, sigma)
    s = scheduler.config.sigma_data
    skip, out = s**2 / (sigma**2 + s**2), sigma * s / (sigma**2 + s**2) ** 0.5
    return (mixture.denoised(x, 1.0, sigma) - skip * x) / out


for name in ("Euler", "Heun", "KDPM2", "LMS"):
    levels(f"{name.lower()}-discrete", f"{name}DiscreteScheduler", timestep_spacing="leading")
    levels(f"{name.lower()}-discrete-karras", f"{name}DiscreteScheduler", timestep_spacing="leading", use_karras_sigmas=True)
levels("euler-ancestral", "EulerAncestralDiscreteScheduler", noise=[0], timestep_spacing="leading")
levels("kdpm2-ancestral", "KDPM2AncestralDiscreteScheduler", noise=[0], timestep_spacing="leading", use_karras_sigmas=True)
levels("dpm-solver-sde", "DPMSolverSDEScheduler", noise=[0, 1], timestep_spacing="leading", use_karras_sigmas=True)
levels("edm-euler", "EDMEulerScheduler", sigma_min=0.02, sigma_max=20.0)
for order in (2, 3):
    levels(f"edm-dpmpp-{order}m", "EDMDPMSolverMultistepScheduler", sigma_min=0.02, sigma_max=20.0, solver_order=order)


def ipndm():
    """Liu et al.'s fourth-order transfer with the weights of Adams and Bashforth, on a ladder of its own. The model gives
    the velocity ``alpha eps - sigma x_0``. ``x/alpha`` is stored: the transfer is the same for every scaling."""
    with wide("IPNDMScheduler") as kind:
        scheduler = kind()
        scheduler.set_timesteps(10)
        # The scheduler starts from pure noise, alpha = 0, where its levels are infinite: leave that step out.
        alphas, sigmas = scheduler.alphas, scheduler.betas
        scheduler.set_begin_index(1)
        x = initial() * (alphas[1]**2 + sigmas[1]**2).sqrt()
        start, states = x / alphas[1], []
        for i, t in list(enumerate(scheduler.timesteps))[1:]:
            alpha, sigma = alphas[i], sigmas[i]
            x_0 = mixture.denoised(x, alpha, sigma)
            x = scheduler.step(alpha * (x - alpha * x_0) / sigma - sigma * x_0, t, x).prev_sample
            states.append(x / alphas[i + 1])
    put("ipndm", "IPNDMScheduler", "sigma", start, sigmas[1:-1] / alphas[1:-1], states, [], {})


ipndm()


def flow(case, name, steps=10, **parameters):
    with wide(name) as kind:
        scheduler = kind(**parameters)
        scheduler.set_timesteps(steps)
        x = start = initial()
        states, times = [], []
        for i, t in enumerate(scheduler.timesteps):
            sigma = scheduler.sigmas[i]
            first = getattr(scheduler, "state_in_first_order", True)
            if first:
                times.append(sigma)
            x_0 = mixture.denoised(x, 1 - sigma, sigma)
            x = scheduler.step((x - x_0) / sigma, t, x).prev_sample
            if getattr(scheduler, "state_in_first_order", True) or i + 1 == len(scheduler.timesteps):
                states.append(x.clone())
    put(case, name, "flow", start, torch.stack(times), states, [], parameters)


flow("flow-euler", "FlowMatchEulerDiscreteScheduler")
flow("flow-euler-shift", "FlowMatchEulerDiscreteScheduler", shift=3.0)
flow("flow-heun", "FlowMatchHeunDiscreteScheduler")
fixture.finish()

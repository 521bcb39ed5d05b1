"""Fixtures of azula: its schedules, and trajectories of its samplers.

    python tests/reference/samplers_azula.py [--check]

Schedules: ``<case>/times`` and ``<case>/alphas``, ``<case>/sigmas`` there. Trajectories: ``<case>/x`` ``[4, 2]`` is the initial state,
``<case>/times``, ``<case>/alphas``, ``<case>/sigmas`` ``[steps + 1]`` the grid, and ``<case>/states`` ``[steps, 4, 2]`` the state after
each step. ``noise`` in a description says which of fokker's draws of a step the sampler's calls for noise get.

azula computes in the type of its tensors, float64 here. Its schedules have a noise level ``sigma_min`` at t = 0 that is
added to the variance; it is 0 here, where they are processes that fokker has too.

Not here: `ItoSampler`, an Euler step in the noise level with the exact variance of its noise, and `PCSampler`, whose corrector
comes before the predictor, are no solvers of fokker's. `REABSampler` is none either, and multiplies by
``sqrt(alpha_s**2 + sigma_t**2)`` where the formula in its documentation has ``sqrt(alpha_s**2 + sigma_s**2)``.
"""

import torch
from azula import noise as schedules
from azula import sample as samplers
from azula.denoise import Denoiser, DiracPosterior

import mixture
from fixture import Fixture
from philox import Draws, initial, noise_case

torch.set_default_dtype(torch.float64)
fixture = Fixture("samplers_azula")
noise_case(fixture)


class Mixture(Denoiser):
    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, x_t, t):
        return DiracPosterior(mean=mixture.denoised(x_t, *self.schedule(t)))


SCHEDULES = {
    "vp": schedules.VPSchedule(alpha_min=0.01, sigma_min=0.0),
    "ve": schedules.VESchedule(sigma_min=0.02, sigma_max=20.0),
    "cosine": schedules.CosineSchedule(alpha_min=0.0, sigma_min=0.0),
    "rectified": schedules.RectifiedSchedule(alpha_min=0.0, sigma_min=0.0),
}
for name, schedule in SCHEDULES.items():
    t = torch.linspace(0.05, 0.95, 10)
    alphas, sigmas = schedule(t)
    fixture.describe(f"schedule-{name}", "schedule", schedule=name, **vars(schedule))
    for key, value in {"times": t, "alphas": alphas, "sigmas": sigmas}.items():
        fixture.put(f"schedule-{name}", key, value)


def trajectory(case, name, process="vp", noise=(), start=0.95, stop=0.05, **parameters):
    draws = Draws(noise)
    schedule = SCHEDULES[process]
    sampler = getattr(samplers, name)(Mixture(schedule), start=start, stop=stop, steps=10, silent=True, **parameters)
    states = []

    def watched(pairs):
        """Stands in for the progress bar, as the base class and the multistep samplers call it."""
        for i, entry in enumerate(pairs.unbind()):
            draws.start(i)
            yield entry

    sampler.progress_bar = watched
    times = sampler.timesteps
    alphas, sigmas = schedule(times)
    if type(sampler).step is samplers.Sampler.step:
        # Multistep samplers evaluate the denoiser once a step, at its state.
        forward = sampler.denoiser.forward
        sampler.denoiser.forward = lambda x_t, t: (states.append(x_t.clone()), forward(x_t, t))[1]
    else:
        step = sampler.step
        sampler.step = lambda x_t, t, s: (states.append(x_t.clone()), step(x_t, t, s))[1]
    x = (alphas[0] ** 2 + sigmas[0] ** 2).sqrt() * initial()
    torch.randn_like, kept = draws, torch.randn_like
    result = sampler(x)
    torch.randn_like = kept
    assert len(states) == len(times) - 1
    fixture.describe(case, name, process=process, noise=list(noise), **parameters)
    for key, value in {"x": x, "times": times, "alphas": alphas, "sigmas": sigmas}.items():
        fixture.put(case, key, value)
    fixture.put(case, "states", torch.stack([*states[1:], result]))


for process in ("vp", "rectified"):
    trajectory(f"ddpm-{process}", "DDPMSampler", process, noise=[0])
    trajectory(f"ddim-{process}", "DDIMSampler", process, noise=[0], eta=0.0)
    trajectory(f"ddim-half-{process}", "DDIMSampler", process, noise=[0], eta=0.5)
    trajectory(f"euler-{process}", "EulerSampler", process)
    trajectory(f"heun-{process}", "HeunSampler", process)
    for order in (1, 2, 3):
        for kind in ("zAB", "vAB", "zEAB", "xEAB"):
            trajectory(f"{kind.lower()}-{order}-{process}", f"{kind}Sampler", process, order=order)
fixture.finish()

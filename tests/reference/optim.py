"""Fixtures for optimisers, gradient clipping, learning-rate schedules and the averaging of weights.

    python tests/reference/optim.py [--check]

Two parameters ``a [3, 4]`` and ``b [5]`` start at ``start/a``, ``start/b`` and are given the gradients ``grads/a``,
``grads/b`` (``[10, …]``, one per step). ``<case>/a``, ``<case>/b`` (``[10, …]``) hold their values after each step.
"""

import math

import torch
from diffusers.optimization import get_cosine_schedule_with_warmup

from fixture import Draw, Fixture

STEPS = 10
SHAPES = {"a": (3, 4), "b": (5,)}
fixture = Fixture("optim")
draw = Draw("optim")
start = {k: draw.normal(*shape) for k, shape in SHAPES.items()}
# Gradients with a drift and of changing size, one of them zero: the second moments matter then.
scale = torch.tensor([1.0, 0.1, 3.0, 0.0, 1.0, 1e-4, 10.0, 1.0, 0.5, 2.0], dtype=torch.float64)
grads = {k: (draw.normal(STEPS, *shape) + 0.5) * scale.view(-1, *[1] * len(shape)) for k, shape in SHAPES.items()}

fixture.describe("start", "given")
fixture.describe("grads", "given")
for k in SHAPES:
    fixture.put("start", k, start[k])
    fixture.put("grads", k, grads[k])


def trajectory(case, optimiser, rates=None, **parameters):
    """Ten steps of a PyTorch optimiser; ``rates``, if given, is the learning rate of each step."""
    values = {k: v.clone().requires_grad_() for k, v in start.items()}
    stepper = optimiser(list(values.values()), **parameters)
    steps = {k: [] for k in values}
    for n in range(STEPS):
        if rates is not None:
            for group in stepper.param_groups:
                group["lr"] = rates[n]
        for k, v in values.items():
            v.grad = grads[k][n].clone()
        stepper.step()
        for k, v in values.items():
            steps[k].append(v.detach().clone())
    described = {k: list(v) if isinstance(v, tuple) else v for k, v in parameters.items()}
    fixture.describe(case, optimiser.__name__, **described, **({"rates": rates} if rates else {}))
    for k, v in steps.items():
        fixture.put(case, k, torch.stack(v))


sgd, adam, adamw = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
trajectory("sgd", sgd, lr=0.1)
trajectory("sgd-momentum", sgd, lr=0.1, momentum=0.9)
trajectory("sgd-nesterov", sgd, lr=0.1, momentum=0.9, nesterov=True)
trajectory("sgd-weight-decay", sgd, lr=0.1, momentum=0.9, weight_decay=0.05)
trajectory("sgd-nesterov-weight-decay", sgd, lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.05)
trajectory("adam", adam, lr=0.01, betas=(0.9, 0.999), eps=1e-8)
trajectory("adam-betas", adam, lr=0.02, betas=(0.5, 0.9), eps=1e-6)
# Adam's weight decay is added to the gradient (L2), AdamW's shrinks the weight (Loshchilov and Hutter 2019).
trajectory("adam-weight-decay", adam, lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
trajectory("adamw", adamw, lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
trajectory("adamw-strong-decay", adamw, lr=0.02, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.5)
trajectory("adamw-changing-rate", adamw, rates=[0.01 * (n + 1) / 4 if n < 4 else 0.01 / (n - 2) for n in range(STEPS)],
           lr=1.0, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)

# Clipping by the global norm. PyTorch divides by norm + 1e-6; `exact-*` divides by the norm itself.
for case, factor in {"clip-above": 2.0, "clip-below": 0.01}.items():
    given = {k: factor * grads[k][0] for k in SHAPES}
    values = {k: v.clone().requires_grad_() for k, v in start.items()}
    for k, v in values.items():
        v.grad = given[k].clone()
    norm = torch.nn.utils.clip_grad_norm_(list(values.values()), max_norm=1.0)
    fixture.describe(case, "clip_grad_norm", max_norm=1.0)
    fixture.put(case, "norm", norm)
    for k, v in values.items():
        fixture.put(case, f"given-{k}", given[k])
        fixture.put(case, k, v.grad)
        fixture.put(case, f"exact-{k}", given[k] * min(1.0, 1.0 / norm.item()))

# Learning-rate factors for the steps n = 0, 1, …. The warm-up moves in its first step already, (n + 1) / w, and reaches
# 1 in its last. The cosine is at zero in step `last`.
LAST, WARM_UP, HOLD = 100, 10, 30


def warm_up(n):
    return min(1.0, (n + 1) / WARM_UP)


def cosine(n):
    """Half a cosine after the warm-up (Loshchilov and Hutter 2017, equation 5)."""
    progress = min(1.0, max(0.0, (n - WARM_UP) / (LAST - WARM_UP)))
    return warm_up(n) * 0.5 * (1 + math.cos(math.pi * progress))


def inverse_sqrt(n):
    """Flat up to step `hold`, then 1/sqrt(n / hold) (Karras et al. 2024, equation 67)."""
    return warm_up(n) / math.sqrt(max(1.0, n / HOLD))


# diffusers' warm-up starts from zero: the same cosine after it.
theirs = get_cosine_schedule_with_warmup(sgd([torch.zeros(1)], lr=1.0), WARM_UP, LAST).lr_lambdas[0]
assert all(abs(cosine(n) - theirs(n)) < 1e-15 for n in range(WARM_UP, LAST + 1))
for name, f, parameters in (("cosine", cosine, {"last": LAST}), ("inverse-sqrt", inverse_sqrt, {"hold": HOLD})):
    case = f"schedule-{name}"
    fixture.describe(case, case, warm_up=WARM_UP, **parameters)
    fixture.put(case, "factor", torch.tensor([f(n) for n in range(LAST + 20)], dtype=torch.float64))

# Averages of a trajectory; n updates have been made before. The ramp of Ho et al. 2020 is
# min(decay, (1 + n) / (10 + n)). EDM's half-life (Karras et al. 2022) is 0.5^(batch / min(half_life, ramp * images)),
# where the images are those before the step: the first update of a ramped average copies the weights.
path = torch.cumsum(draw.normal(30, 4), 0)
fixture.describe("path", "given")
fixture.put("path", "x", path)


def average(case, decay_at, /, **parameters):
    ema, seen = path[0].clone(), []
    for n, x in enumerate(path[1:]):
        d = decay_at(n)
        ema = d * ema + (1 - d) * x
        seen.append(ema.clone())
    fixture.describe(case, case, **parameters)
    fixture.put(case, "x", torch.stack(seen))


BATCH, HALF_LIFE, RAMP = 64, 1000.0, 0.05
average("ema-ramp", lambda n: min(0.7, (1 + n) / (10 + n)), decay=0.7)
average("ema-half-life", lambda n: 0.5 ** (BATCH / HALF_LIFE), batch=BATCH, half_life=HALF_LIFE)
average("ema-half-life-ramp", lambda n: 0.5 ** (BATCH / max(min(HALF_LIFE, n * BATCH * RAMP), 1e-8)), batch=BATCH,
        half_life=HALF_LIFE, ramp=RAMP)
fixture.finish()

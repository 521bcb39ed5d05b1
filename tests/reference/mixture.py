"""The exact denoiser of the samplers' fixtures: three Gaussian clusters in the plane, in float64.

The numbers are those of ``mixture()`` in ``tests/tests/oracle/mod.rs``. With ``x_t = alpha x_0 + sigma eps`` every cluster
stays Gaussian, ``N(alpha mu, C)`` with ``C = alpha^2 S + sigma^2 I``, and

    E[x_0 | x_t] = sum_k p(k | x_t) (mu_k + alpha S_k C_k^-1 (x_t - alpha mu_k))
"""

import torch

WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
MEANS = torch.tensor([[-1.0, -0.5], [1.0, -0.5], [0.2, 1.2]], dtype=torch.float64)
COVARIANCES = torch.tensor(
    [[[0.04, 0.0], [0.0, 0.04]], [[0.02, 0.0], [0.0, 0.2]], [[0.2, 0.1], [0.1, 0.1]]], dtype=torch.float64)


def denoised(x, alpha, sigma):
    """``E[x_0 | x_t]`` for ``x`` ``[B, 2]`` and numbers ``alpha``, ``sigma``."""
    x, alpha, sigma = x.double(), torch.as_tensor(alpha).double(), torch.as_tensor(sigma).double()
    c = alpha**2 * COVARIANCES + sigma**2 * torch.eye(2, dtype=torch.float64)
    centred = x[:, None, :] - alpha * MEANS
    solved = torch.linalg.solve(c, centred[..., None])[..., 0]
    log_p = WEIGHTS.log() - 0.5 * torch.linalg.slogdet(c).logabsdet - 0.5 * (centred * solved).sum(-1)
    answers = MEANS + alpha * (COVARIANCES @ solved[..., None])[..., 0]
    return (log_p.softmax(1)[..., None] * answers).sum(1)


def noise(x, alpha, sigma):
    """``E[eps | x_t]``."""
    return (x.double() - alpha * denoised(x, alpha, sigma)) / sigma

"""Metrics of two sets of vectors: scipy, scikit-learn and POT where they have them, else the definition in numpy.

Also writes ``statistics.npz``, a mean and covariance as pytorch-fid keeps them.
"""

import sys
import warnings

import numpy as np
import ot
import torch
from scipy import special, stats
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics.pairwise import cosine_similarity, euclidean_distances, polynomial_kernel, rbf_kernel
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from fixture import FIXTURES, Draw, Fixture

fixture = Fixture("metrics")


def put(case, **values):
    for key, value in values.items():
        fixture.put(case, key, torch.as_tensor(np.atleast_1d(np.asarray(value, dtype=np.float64))))


def sets(case, n, m, width, scale=1.2, shift=0.3):
    """Two sets that differ in scale and mean, correlated across columns."""
    draw = Draw(case)
    mix = np.eye(width) + 0.4 * draw.normal(width, width).numpy() / np.sqrt(width)
    x = draw.normal(n, width).numpy() @ mix
    y = scale * draw.normal(m, width).numpy() + shift
    return x, y


def unbiased(xx, yy, xy):
    n, m = len(xx), len(yy)
    mean = lambda k, n: (k.sum() - np.trace(k)) / (n * (n - 1))
    return mean(xx, n) + mean(yy, m) - 2 * xy.mean()


def radii(x, k):
    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x).kneighbors()[0][:, -1]


def manifolds(case, x, y):
    fixture.describe(case, "manifolds", k_precision=3, k_density=5)
    d = euclidean_distances(x, y)
    rx, ry, r5 = radii(x, 3), radii(y, 3), radii(x, 5)
    inside = d <= r5[:, None]
    put(
        case,
        x=x,
        y=y,
        precision=(d <= rx[:, None]).any(axis=0).mean(),
        recall=(d <= ry[None, :]).any(axis=1).mean(),
        density=inside.sum() / (5 * len(y)),
        coverage=inside.any(axis=1).mean(),
    )


def two_sample(case, x, y):
    fixture.describe(case, "two-sample")
    xx, yy, xy = cdist(x, x), cdist(y, y), cdist(x, y)
    pooled = np.concatenate([x, y])
    distances = np.sort(pdist(pooled))
    h = distances[(len(distances) - 1) // 2]
    gamma = 1 / (2 * h * h)
    rbf = [rbf_kernel(a, b, gamma=gamma) for a, b in ((x, x), (y, y), (x, y))]
    cubic = [polynomial_kernel(a, b, degree=3, coef0=1) for a, b in ((x, x), (y, y), (x, y))]
    put(
        case,
        x=x,
        y=y,
        energy=-unbiased(xx, yy, xy),
        energy_biased=2 * xy.mean() - xx.mean() - yy.mean(),
        # scipy has one dimension, and the root.
        energy_line=[stats.energy_distance(a, b) ** 2 for a, b in zip(x.T, y.T)],
        bandwidth=h,
        mmd=unbiased(*rbf),
        mmd_biased=rbf[0].mean() + rbf[1].mean() - 2 * rbf[2].mean(),
        kernel_distance=unbiased(*cubic),
    )


def transport(case, x, y):
    fixture.describe(case, "transport")
    theta = Draw(f"{case}/theta").normal(12, x.shape[1]).numpy()
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    sliced = lambda p: ot.sliced_wasserstein_distance(x, y, projections=theta.T, p=p)
    put(
        case,
        x=x,
        y=y,
        theta=theta,
        sliced_1=sliced(1),
        sliced_2=sliced(2),
        max_sliced=ot.max_sliced_wasserstein_distance(x, y, projections=theta.T, p=2),
    )
    if len(x) == len(y):
        cost = ot.dist(x, y)
        rows, columns = linear_sum_assignment(cost)
        exact = np.sqrt(ot.emd2([], [], cost))
        assert abs(exact - np.sqrt(cost[rows, columns].mean())) < 1e-12
        put(case, exact=exact)
        fixture.put(case, "matching", torch.as_tensor(columns, dtype=torch.int64))


def frechet(case, x, y):
    fixture.describe(case, "frechet")
    moments = [(np.mean(a, axis=0), np.cov(a, rowvar=False)) for a in (x, y)]
    (m1, s1), (m2, s2) = moments
    # The singular values of the product of the centred sets: exact for singular covariances too.
    factors = [(a - a.mean(axis=0)) / np.sqrt(len(a) - 1) for a in (x, y)]
    nuclear = np.linalg.norm(factors[0] @ factors[1].T, "nuc")
    distance = ((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * nuclear
    if min(len(x), len(y)) > x.shape[1]:
        # As pytorch-fid has it; of singular covariances it has half of the digits.
        root = sqrtm(s1 @ s2)
        usual = ((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * np.trace(root.real)
        assert abs(distance - usual) < 1e-9, (distance, usual)
    put(case, x=x, y=y, mu=m1, sigma=s1, frechet=distance)


def marginals(case, x, y):
    fixture.describe(case, "marginals")
    tests = [stats.ks_2samp(a, b) for a, b in zip(x.T, y.T)]
    distances = np.array([t.statistic for t in tests])
    root = np.sqrt(len(x) * len(y) / (len(x) + len(y)))
    put(case, x=x, y=y, distances=distances, p_values=special.kolmogorov(distances * root))


def diversity(case, x):
    fixture.describe(case, "diversity")
    spectrum = np.linalg.eigvalsh(cosine_similarity(x) / len(x)).clip(0)
    put(
        case,
        x=x,
        vendi=np.exp(stats.entropy(spectrum)),
        vendi_half=(np.sqrt(spectrum[spectrum > 1e-12]).sum()) ** 2,
        vendi_two=1 / (spectrum**2).sum(),
    )


def copies(case, x, y):
    fixture.describe(case, "copies")
    distances, rows = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(x).kneighbors(y)
    gaps = radii(x, 1)
    put(case, x=x, y=y, ratios=distances[:, 0] / distances[:, 1], authentic=distances[:, 0] > gaps[rows[:, 0]])
    fixture.put(case, "neighbours", torch.as_tensor(rows[:, 0].copy(), dtype=torch.int64))


def modes(case, x, y):
    """Vectors near centres, and the nearest centre of each."""
    centres = Draw(f"{case}/centres").normal(6, x.shape[1]).numpy()
    radius = 0.9
    fixture.describe(case, "modes", radius=radius)
    distances, nearest = zip(*(NearestNeighbors(n_neighbors=1, algorithm="brute").fit(centres).kneighbors(a) for a in (x, y)))
    counts = [np.bincount(rows[:, 0], minlength=len(centres)) for rows in nearest]
    near = [np.bincount(rows[d[:, 0] <= radius, 0], minlength=len(centres)) for d, rows in zip(distances, nearest)]
    total_variation = 0.5 * np.abs(counts[0] / len(x) - counts[1] / len(y)).sum()
    put(case, x=x, y=y, centres=centres, near=near[1], nearest=counts[1], total_variation=total_variation)


def votes(case, x, y, k):
    """The accuracy of k nearest neighbours, learnt from the first halves; k is odd, so that no vote is a tie."""
    fixture.describe(case, "votes", k=k)
    n = len(x) // 2
    labels = np.repeat([1, 0], n)
    learnt = KNeighborsClassifier(n_neighbors=k, algorithm="brute").fit(np.concatenate([x[:n], y[:n]]), labels)
    accuracy = learnt.score(np.concatenate([x[n:], y[n:]]), labels)
    put(case, x=x, y=y, accuracy=accuracy, p_value=stats.norm.sf(accuracy, 0.5, 0.5 / np.sqrt(2 * n)))


def exact_density(case, x):
    """The mean negative log-likelihood under a mixture, with its standard error."""
    fixture.describe(case, "exact-density")
    weights = np.array([0.2, 0.5, 0.3])
    draw = Draw(f"{case}/components")
    means = draw.normal(len(weights), x.shape[1]).numpy()
    roots = [np.eye(x.shape[1]) + 0.3 * draw.normal(x.shape[1], x.shape[1]).numpy() for _ in weights]
    covariances = [root @ root.T for root in roots]
    parts = [np.log(w) + stats.multivariate_normal(m, c).logpdf(x) for w, m, c in zip(weights, means, covariances)]
    log_p = special.logsumexp(parts, axis=0)
    put(case, x=x, weights=weights, means=means, covariances=covariances, nats=-log_p.mean(), error=stats.sem(log_p))


warnings.simplefilter("error")
for case, n, m, width in (("manifolds-plane", 90, 70, 2), ("manifolds-wide", 60, 80, 12)):
    manifolds(case, *sets(case, n, m, width))
for case, n, m, width in (("two-sample-plane", 50, 60, 2), ("two-sample-wide", 45, 30, 10)):
    two_sample(case, *sets(case, n, m, width))
for case, n, m, width in (("transport-equal", 60, 60, 3), ("transport-unequal", 40, 65, 4)):
    transport(case, *sets(case, n, m, width))
for case, n, m, width in (("frechet-regular", 120, 150, 6), ("frechet-singular", 12, 15, 30), ("frechet-one-singular", 60, 9, 16)):
    frechet(case, *sets(case, n, m, width))
case = "marginals"
x, y = sets(case, 90, 60, 4)
# Ties, within the sets and across.
marginals(case, np.concatenate([x[:, :2], x[:, 2:].round(1)], axis=1), np.concatenate([y[:, :2], y[:, 2:].round(1)], axis=1))
for case, n, width in (("diversity-tall", 70, 6), ("diversity-wide", 20, 30)):
    diversity(case, sets(case, n, 2, width)[0])
case = "copies"
x, y = sets(case, 80, 50, 4, scale=0.9, shift=0.0)
y[:20] = x[30:50] + 0.05 * Draw("copies/noise").normal(20, 4).numpy()
copies(case, x, y)

for case, n, m, width in (("modes-plane", 200, 150, 2), ("modes-wide", 90, 120, 5)):
    modes(case, *sets(case, n, m, width, shift=0.1))
for case, n, width, k in (("votes-plane", 80, 2, 5), ("votes-wide", 60, 9, 1)):
    votes(case, *sets(case, n, n, width), k)
exact_density("exact-density", sets("exact-density", 120, 2, 3)[0])

if "--check" not in sys.argv:
    x, _ = sets("statistics", 40, 2, 5)
    np.savez(FIXTURES / "statistics.npz", mu=np.mean(x, axis=0), sigma=np.cov(x, rowvar=False))
fixture.finish()

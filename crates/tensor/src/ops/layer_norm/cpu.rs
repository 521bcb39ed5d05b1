//! Normalisation of rows on the host, about their mean (layer norm) or about zero (RMS norm).

use pulp::NullaryFnOnce;

use crate::element::Element;
use crate::par;
use crate::simd;

/// `[rows, n]`, normalised over `n`.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Rows {
    pub(in crate::ops) rows: usize,
    pub(in crate::ops) n: usize,
    /// Whether the mean is subtracted.
    pub(in crate::ops) centred: bool,
    pub(in crate::ops) eps: f64,
}

impl Rows {
    /// Rows per piece: at most 64 pieces, so that their sums for the parameters are few.
    fn piece(&self) -> usize {
        (par::PIECE / self.n.max(1)).max(self.rows.div_ceil(64)).max(1)
    }
}

const LANES: usize = 16;

/// `Σ (x - shift)` and `Σ (x - shift)²` in `f64`.
struct Moments<'a, T> {
    x: &'a [T],
    shift: f64,
}

impl<T: Element> NullaryFnOnce for Moments<'_, T> {
    type Output = (f64, f64);
    #[inline(always)]
    fn call(self) -> (f64, f64) {
        let (mut sums, mut squares) = ([0.0f64; LANES], [0.0f64; LANES]);
        for chunk in self.x.chunks(LANES) {
            for ((sum, square), &x) in sums.iter_mut().zip(&mut squares).zip(chunk) {
                let d = x.wide() - self.shift;
                *sum += d;
                *square += d * d;
            }
        }
        (sums.iter().sum(), squares.iter().sum())
    }
}

/// `y = (x - mean) rstd [gamma] [+ beta]`.
struct Apply<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
    mean: T,
    rstd: T,
    gamma: Option<&'a [T]>,
    beta: Option<&'a [T]>,
}

impl<T: Element> NullaryFnOnce for Apply<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = (x - self.mean) * self.rstd;
        }
        if let Some(gamma) = self.gamma {
            for (y, &gamma) in self.y.iter_mut().zip(gamma) {
                *y = *y * gamma;
            }
        }
        if let Some(beta) = self.beta {
            for (y, &beta) in self.y.iter_mut().zip(beta) {
                *y += beta;
            }
        }
    }
}

/// `y`, and mean (0 if not subtracted) and reciprocal deviation of each row in `stats`: `[rows, 2]`.
pub(in crate::ops) fn forward<T: Element>(
    r: Rows,
    x: &[T],
    gamma: Option<&[T]>,
    beta: Option<&[T]>,
    y: &mut [T],
    stats: &mut [T],
) {
    if x.is_empty() {
        return;
    }
    let (piece, n) = (r.piece(), r.n);
    let mut jobs: Vec<_> = x.chunks(piece * n).zip(y.chunks_mut(piece * n)).zip(stats.chunks_mut(piece * 2)).collect();
    par::pieces(&mut jobs, 1, x.len(), |_, job| {
        let ((x, y), stats) = &mut job[0];
        for ((x, y), stats) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)).zip(stats.chunks_exact_mut(2)) {
            let shift = if r.centred { x[0].wide() } else { 0.0 };
            let (sum, squares) = simd::widest(Moments { x, shift });
            let d = if r.centred { sum / n as f64 } else { 0.0 };
            let variance = (squares / n as f64 - d * d).max(0.0);
            stats[0] = T::of(shift + d);
            stats[1] = T::of(1.0 / (variance + r.eps).sqrt());
            simd::widest(Apply { x, y, mean: stats[0], rstd: stats[1], gamma, beta });
        }
    });
}

/// One row's `dx = rstd (gamma grad - mean(gamma grad) - x̂ mean(gamma grad x̂))`, and its terms of the parameters' gradients.
struct Backward<'a, T> {
    x: &'a [T],
    grad: &'a [T],
    dx: &'a mut [T],
    mean: T,
    rstd: T,
    gamma: Option<&'a [T]>,
    centred: bool,
    /// `Σ grad x̂` and `Σ grad` over rows, if there are parameters.
    d_gamma: &'a mut [f64],
    d_beta: &'a mut [f64],
}

impl<T: Element> NullaryFnOnce for Backward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let Backward { x, grad, dx, mean, rstd, gamma, centred, d_gamma, d_beta } = self;
        for (((d_gamma, d_beta), &grad), &x) in d_gamma.iter_mut().zip(d_beta).zip(grad).zip(x) {
            *d_gamma += (grad * ((x - mean) * rstd)).wide();
            *d_beta += grad.wide();
        }
        match gamma {
            None => dx.copy_from_slice(grad),
            Some(gamma) => {
                for ((dx, &grad), &gamma) in dx.iter_mut().zip(grad).zip(gamma) {
                    *dx = grad * gamma;
                }
            }
        }
        let (mut sums, mut products) = ([0.0f64; LANES], [0.0f64; LANES]);
        for (dx, x) in dx.chunks(LANES).zip(x.chunks(LANES)) {
            for (((sum, product), &d), &x) in sums.iter_mut().zip(&mut products).zip(dx).zip(x) {
                *sum += d.wide();
                *product += (d * ((x - mean) * rstd)).wide();
            }
        }
        let n = x.len() as f64;
        let level = if centred { T::of(sums.iter().sum::<f64>() / n) } else { T::ZERO };
        let slope = T::of(products.iter().sum::<f64>() / n);
        for (dx, &x) in dx.iter_mut().zip(x) {
            *dx = rstd * (*dx - level - (x - mean) * rstd * slope);
        }
    }
}

/// Writes `dx` and returns the gradients of gamma and beta.
pub(in crate::ops) fn backward<T: Element>(
    r: Rows,
    x: &[T],
    gamma: Option<&[T]>,
    stats: &[T],
    grad: &[T],
    dx: &mut [T],
) -> (Vec<f64>, Vec<f64>) {
    let (piece, n) = (r.piece(), r.n);
    let (mut d_gamma, mut d_beta) = (vec![0.0; n], vec![0.0; n]);
    if x.is_empty() {
        return (d_gamma, d_beta);
    }
    let mut sums = vec![0.0f64; r.rows.div_ceil(piece) * 2 * n];
    let mut jobs: Vec<_> = dx.chunks_mut(piece * n).zip(sums.chunks_exact_mut(2 * n)).collect();
    par::pieces(&mut jobs, 1, x.len(), |i, job| {
        let (dx, sums) = &mut job[0];
        let (d_gamma, d_beta) = sums.split_at_mut(if gamma.is_some() { n } else { 0 });
        let first = i * piece;
        for (j, dx) in dx.chunks_exact_mut(n).enumerate() {
            let row = (first + j) * n;
            let (x, grad) = (&x[row..row + n], &grad[row..row + n]);
            let (mean, rstd) = (stats[2 * (first + j)], stats[2 * (first + j) + 1]);
            simd::widest(Backward { x, grad, dx, mean, rstd, gamma, centred: r.centred, d_gamma, d_beta });
        }
    });
    for part in sums.chunks_exact(2 * n) {
        d_gamma.iter_mut().zip(&part[..n]).for_each(|(sum, x)| *sum += x);
        d_beta.iter_mut().zip(&part[n..]).for_each(|(sum, x)| *sum += x);
    }
    (d_gamma, d_beta)
}

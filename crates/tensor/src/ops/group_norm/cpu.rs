//! Group normalisation on the host.
//!
//! Each image is read twice, first for its sums, then to write the result, by the same thread while it is in cache; only
//! where a batch has few images are those cut into pieces. Loops run over rows of whole pixels at least a few vectors long, so
//! that few channels cost no speed.

use pulp::{NullaryFnOnce, Simd, WithSimd};

use super::Activation;
use crate::element::{Element, Stored};
use crate::lanes::{Held, Lanes, dispatch, part, part_of, put, put_in, width};
use crate::par;
use crate::simd;

/// Extents: `x` is `[batch, pixels, channels]`.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) batch: usize,
    pub(super) pixels: usize,
    pub(super) channels: usize,
    pub(super) groups: usize,
}

impl Shape {
    fn image(&self) -> usize {
        self.pixels * self.channels
    }

    /// Elements in a row of whole pixels.
    fn row(&self) -> usize {
        self.channels * (256 / self.channels.max(1)).clamp(1, self.pixels.max(1))
    }

    /// Elements in each of the pieces of an image: the whole image where there are many.
    fn piece(&self) -> usize {
        let pieces = if self.batch >= 4 { 1 } else { self.image().div_ceil(2 * par::PIECE).clamp(1, 16) };
        (self.image().div_ceil(pieces)).next_multiple_of(self.row().max(1)).max(1)
    }

    /// Repeats per-channel values over a row.
    fn tile<V: Copy>(&self, value: impl Fn(usize) -> V) -> Vec<V> {
        let pixel: Vec<V> = (0..self.channels).map(value).collect();
        pixel.repeat(self.row() / self.channels.max(1))
    }

    fn group_of(&self, channel: usize) -> usize {
        channel / (self.channels / self.groups)
    }

    /// Sums two per-channel quantities of an image over its pixels: `work` adds a piece's to two rows of sums.
    fn sums(&self, work: impl Fn(usize, &mut [f64], &mut [f64]) + Sync) -> (Vec<f64>, Vec<f64>) {
        let (row, c) = (self.row(), self.channels);
        let pieces = self.image().div_ceil(self.piece());
        let mut partial = vec![0.0; 2 * row * pieces];
        par::pieces(&mut partial, 2 * row, self.image(), |i, sums| {
            let (first, second) = sums.split_at_mut(row);
            work(i, first, second);
        });
        let (mut first, mut second) = (vec![0.0; c], vec![0.0; c]);
        for sums in partial.chunks_exact(2 * row) {
            for pixel in sums[..row].chunks_exact(c) {
                first.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
            }
            for pixel in sums[row..].chunks_exact(c) {
                second.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
            }
        }
        (first, second)
    }

    /// The sum of per-channel values over each group.
    fn by_group(&self, value: impl Fn(usize) -> f64) -> Vec<f64> {
        let size = self.channels / self.groups;
        (0..self.groups).map(|group| (group * size..(group + 1) * size).map(&value).sum()).collect()
    }

    fn group_len(&self) -> f64 {
        (self.pixels * (self.channels / self.groups)) as f64
    }
}

/// `sums += x - shift` and `squares += (x - shift)²`, row by row.
struct Moments<'a, T> {
    x: &'a [T],
    shift: &'a [f64],
    sums: &'a mut [f64],
    squares: &'a mut [f64],
}

impl<T: Stored> NullaryFnOnce for Moments<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        for row in self.x.chunks(self.shift.len()) {
            for (((&x, &shift), sum), square) in row.iter().zip(self.shift).zip(self.sums.iter_mut()).zip(self.squares.iter_mut())
            {
                let d = x.to_f64() - shift;
                *sum += d;
                *square += d * d;
            }
        }
    }
}

/// Per-channel constants over a row: `z = (x - mean) scale + offset`.
struct Affine<T> {
    mean: Vec<T>,
    scale: Vec<T>,
    offset: Vec<T>,
}

impl<T: Lanes> Affine<T> {
    /// `z` of the vector `x` at `i` of a row.
    #[inline(always)]
    fn at<S: Simd>(&self, simd: S, i: usize, x: T::V<S>) -> T::V<S> {
        let [mean, scale, offset] = [&self.mean, &self.scale, &self.offset].map(|row| part(simd, row, i));
        T::mul_add(simd, T::minus(simd, x, mean), scale, offset)
    }
}

/// `y = f(z)`, row by row.
struct Apply<'a, T, X> {
    x: &'a [X],
    y: &'a mut [X],
    affine: &'a Affine<T>,
    activation: Activation,
}

impl<T: Lanes, X: Held<T>> WithSimd for Apply<'_, T, X> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.activation {
            Activation::None => self.rows(simd, |z| z),
            Activation::Silu => self.rows(simd, |z| T::silu(simd, z)),
        }
    }
}

impl<T: Lanes, X: Held<T>> Apply<'_, T, X> {
    #[inline(always)]
    fn rows<S: Simd>(self, simd: S, f: impl Fn(T::V<S>) -> T::V<S>) {
        let row = self.affine.mean.len();
        for (y, x) in self.y.chunks_mut(row).zip(self.x.chunks(row)) {
            for i in (0..x.len()).step_by(width::<S, T>()) {
                put_in::<S, T, X>(simd, y, i, f(self.affine.at(simd, i, part_of::<S, T, X>(simd, x, i))));
            }
        }
    }
}

/// `y`, of what holds `T`, and mean and reciprocal standard deviation of each group (`stats`: `[batch, 2, groups]`).
pub(super) fn forward<T: Lanes, X: Held<T>>(
    s: Shape,
    x: &[X],
    affine: Option<(&[T], &[T])>,
    eps: f64,
    activation: Activation,
    y: &mut [X],
    stats: &mut [T],
) {
    if x.is_empty() {
        return;
    }
    let mut images: Vec<_> =
        x.chunks_exact(s.image()).zip(y.chunks_exact_mut(s.image())).zip(stats.chunks_exact_mut(2 * s.groups)).collect();
    par::pieces(&mut images, 1, x.len(), |b, image| {
        let ((x, y), stats) = &mut image[0];
        let per_group = s.channels / s.groups;
        let shift = s.tile(|c| x[s.group_of(c) * per_group].to_f64());
        let piece = s.piece();
        let (sums, squares) = s.sums(|i, sums, squares| {
            let x = &x[i * piece..x.len().min((i + 1) * piece)];
            simd::widest(Moments { x, shift: &shift, sums, squares });
        });
        let (sums, squares) = (s.by_group(|c| sums[c]), s.by_group(|c| squares[c]));
        let (means, rstds) = stats.split_at_mut(s.groups);
        for g in 0..s.groups {
            let d = sums[g] / s.group_len();
            let variance = (squares[g] / s.group_len() - d * d).max(0.0);
            means[g] = T::of(x[g * per_group].to_f64() + d);
            rstds[g] = T::of(1.0 / (variance + eps).sqrt());
        }
        let affine = s.affine(means, rstds, s.of_sample(affine, b));
        par::pieces(y, piece, x.len(), |i, y| {
            let x = &x[i * piece..][..y.len()];
            dispatch(Apply { x, y, affine: &affine, activation });
        });
    });
}

impl Shape {
    /// The parameters of a sample: its own, if each has some.
    fn of_sample<'a, T>(&self, affine: Option<(&'a [T], &'a [T])>, b: usize) -> Option<(&'a [T], &'a [T])> {
        let own = |t: &'a [T]| if t.len() == self.channels { t } else { &t[b * self.channels..][..self.channels] };
        affine.map(|(gamma, beta)| (own(gamma), own(beta)))
    }

    /// `z = gamma (x - mean) rstd + beta` for one image.
    fn affine<T: Lanes>(&self, means: &[T], rstds: &[T], affine: Option<(&[T], &[T])>) -> Affine<T> {
        Affine {
            mean: self.tile(|c| means[self.group_of(c)]),
            scale: self.tile(|c| {
                let rstd = rstds[self.group_of(c)];
                affine.map_or(rstd, |(gamma, _)| gamma[c] * rstd)
            }),
            offset: self.tile(|c| affine.map_or(T::ZERO, |(_, beta)| beta[c])),
        }
    }
}

/// The gradient before the activation, `dz`, into `dx`, and its sums: `sums += dz`, `products += dz (x - mean)`.
struct Inner<'a, T> {
    x: &'a [T],
    grad: &'a [T],
    dx: &'a mut [T],
    affine: &'a Affine<T>,
    sums: &'a mut [f64],
    products: &'a mut [f64],
    activation: Activation,
}

impl<T: Lanes> WithSimd for Inner<'_, T> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.activation {
            Activation::None => self.rows(simd, |grad, _| grad),
            Activation::Silu => self.rows(simd, |grad, z| T::times(simd, grad, T::silu_slope(simd, z))),
        }
    }
}

impl<T: Lanes> Inner<'_, T> {
    #[inline(always)]
    fn rows<S: Simd>(self, simd: S, f: impl Fn(T::V<S>, T::V<S>) -> T::V<S>) {
        let row = self.affine.mean.len();
        for ((x, grad), dx) in self.x.chunks(row).zip(self.grad.chunks(row)).zip(self.dx.chunks_mut(row)) {
            // Two loops, so that the sums in `f64` do not halve the vectors of the first.
            for i in (0..x.len()).step_by(width::<S, T>()) {
                let z = self.affine.at(simd, i, part(simd, x, i));
                put(simd, dx, i, f(part(simd, grad, i), z));
            }
            let sums = self.sums.iter_mut().zip(self.products.iter_mut());
            for (((&dz, &x), &mean), (sum, product)) in dx.iter().zip(x).zip(&self.affine.mean).zip(sums) {
                *sum += dz.wide();
                *product += (dz * (x - mean)).wide();
            }
        }
    }
}

/// `dx = dx scale - (x - mean) slope - level`, row by row.
struct Outer<'a, T> {
    x: &'a [T],
    dx: &'a mut [T],
    affine: &'a Affine<T>,
    slope: &'a [T],
    level: &'a [T],
}

impl<T: Element> NullaryFnOnce for Outer<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let Affine { mean, scale, .. } = self.affine;
        let row = mean.len();
        for (dx, x) in self.dx.chunks_mut(row).zip(self.x.chunks(row)) {
            for (((((dx, &x), &mean), &scale), &slope), &level) in
                dx.iter_mut().zip(x).zip(mean).zip(scale).zip(self.slope).zip(self.level)
            {
                *dx = *dx * scale - (x - mean) * slope - level;
            }
        }
    }
}

/// Writes `dx`; `sums` (`[batch, 2, channels]`) gets each image's `Σ dz` and `Σ dz x̂`, from which the gradients of `beta`
/// and `gamma` follow.
#[allow(clippy::too_many_arguments)]
pub(super) fn backward<T: Lanes>(
    s: Shape,
    x: &[T],
    affine: Option<(&[T], &[T])>,
    stats: &[T],
    activation: Activation,
    grad: &[T],
    dx: &mut [T],
    sums: &mut [f64],
) {
    if x.is_empty() {
        return;
    }
    let mut images: Vec<_> = dx.chunks_exact_mut(s.image()).zip(sums.chunks_exact_mut(2 * s.channels)).enumerate().collect();
    par::pieces(&mut images, 1, x.len(), |_, image| {
        let (b, (dx, totals)) = &mut image[0];
        let (x, grad) = (&x[*b * s.image()..][..s.image()], &grad[*b * s.image()..][..s.image()]);
        let (means, rstds) = stats[*b * 2 * s.groups..][..2 * s.groups].split_at(s.groups);
        let affine = s.of_sample(affine, *b);
        let gamma = |c: usize| affine.map_or(1.0, |(gamma, _)| gamma[c].wide());
        let affine = s.affine(means, rstds, affine);
        let piece = s.piece();
        // The pieces of `dx` and of the sums advance together.
        let parts: Vec<_> = dx.chunks_mut(piece).map(std::sync::Mutex::new).collect();
        let (sums, products) = s.sums(|i, sums, products| {
            let mut dx = parts[i].lock().expect("each piece is used once");
            let range = i * piece..i * piece + dx.len();
            let (x, grad, dx, affine) = (&x[range.clone()], &grad[range], &mut **dx, &affine);
            dispatch(Inner { x, grad, dx, affine, sums, products, activation });
        });
        drop(parts);
        let rstd = |c: usize| rstds[s.group_of(c)].wide();
        for c in 0..s.channels {
            totals[c] = sums[c];
            totals[s.channels + c] = products[c] * rstd(c);
        }
        // dx = rstd (gamma dz - mean(gamma dz) - x̂ mean(gamma dz x̂)), x̂ = (x - mean) rstd.
        let levels = s.by_group(|c| gamma(c) * sums[c] * rstd(c) / s.group_len());
        let slopes = s.by_group(|c| gamma(c) * products[c] * rstd(c).powi(3) / s.group_len());
        let slope = s.tile(|c| T::of(slopes[s.group_of(c)]));
        let level = s.tile(|c| T::of(levels[s.group_of(c)]));
        par::pieces(dx, piece, x.len(), |i, dx| {
            let x = &x[i * piece..][..dx.len()];
            simd::widest(Outer { x, dx, affine: &affine, slope: &slope, level: &level });
        });
    });
}

//! The order for many channels. Tiles go to the points in groups that stay in the last cache; then each block of channels takes its
//! part of the filter to the points, for itself alone, and goes through all tiles of the group.

use std::marker::PhantomData;

use pulp::{NullaryFnOnce, Simd};

use super::super::addend::{AddResidual, Added};
use super::filter::FilterBlock;
use super::patch::{gradient_patch, patch};
use super::product::{ADD, GO_ON, Left, product};
use super::transform::{Gradient, Image, POINTS, SIDE, STEP};
use super::{Bands, GatherTaps, Geometry, Pixels, Tile, apart, by_inputs};
use crate::lanes::{Held, Lanes, Scratch, width};
use crate::par;

/// Tiles of a band, about: of four times twelve, the rows of a product's tile.
const TILES: usize = 48;
/// Elements of a group at the points, about: 4 MiB of the last cache.
const GROUP: usize = 1 << 20;
/// Input channels whose filters are at the points at a time, for two vectors of output channels: 36 × 32 × 32 numbers, a part of the L2 cache.
const FILTERS: usize = 32;
/// Input channels of a part of the weight gradient.
const INPUTS: usize = 24;

/// Tiles in bands, bands in groups.
struct Groups {
    bands: Bands,
    /// Bands of a group.
    size: usize,
}

impl Groups {
    /// `channels` are those at the points.
    fn new(g: &Geometry, channels: usize) -> Groups {
        let bands = Bands::new(g, TILES);
        let size = (GROUP / (POINTS * bands.tiles() * channels)).max(1);
        Groups { bands, size: size.min(bands.count()).max(1) }
    }

    /// The bands of each group.
    fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let count = self.bands.count();
        (0..count).step_by(self.size).map(move |first| first..count.min(first + self.size))
    }
}

/// What goes to the points.
#[derive(Clone, Copy)]
enum Source<'a, X> {
    Image(&'a [X]),
    Gradient(&'a [X]),
}

/// A band at the points: `[POINTS]`, `step` apart, of `[tiles][channels padded]`.
struct Spread<'a, S, T, X> {
    simd: S,
    g: &'a Geometry,
    bands: Bands,
    band: usize,
    source: Source<'a, X>,
    /// Channels, padded.
    channels: usize,
    step: usize,
    out: &'a mut [T],
}

impl<S: Simd, T: Lanes, X: Held<T>> NullaryFnOnce for Spread<'_, S, T, X> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let Spread { simd, g, bands, band, source, channels, step, out } = self;
        bands.each(band, |tile, image, row, column| {
            let out = &mut out[tile * channels..];
            match source {
                Source::Image(x) => patch(g, x, image, row, column).spread::<S, T, Image, SIDE>(simd, out, step),
                Source::Gradient(x) => gradient_patch(g, x, image, row, column).spread::<S, T, Gradient, STEP>(simd, out, step),
            }
        });
    }
}

/// Bands of a group at the points.
struct AtPoints<T: Lanes> {
    data: Scratch<T>,
    bands: Bands,
    channels: usize,
    step: usize,
}

impl<T: Lanes> AtPoints<T> {
    /// Room for a group.
    fn new(groups: &Groups, channels: usize) -> Self {
        let step = apart::<T>(groups.bands.tiles() * channels);
        AtPoints { data: Scratch::new(groups.size * POINTS * step), bands: groups.bands, channels, step }
    }

    fn fill<S: Simd, X: Held<T>>(&mut self, simd: S, g: &Geometry, group: std::ops::Range<usize>, source: Source<'_, X>) {
        let AtPoints { bands, channels, step, .. } = *self;
        let each = POINTS * step;
        let out = &mut self.data.as_mut_slice()[..group.len() * each];
        let cost = out.len();
        par::pieces(out, each, cost, |i, out| {
            simd.vectorize(Spread { simd, g, bands, band: group.start + i, source, channels, step, out });
        });
    }

    /// Band `i` of the group at a point, `[tiles][channels padded]`.
    fn get(&self, i: usize, point: usize) -> &[T] {
        &self.data.as_slice()[(i * POINTS + point) * self.step..][..self.step]
    }
}

/// `y = conv(x, w) + bias + r`, or its transpose's product.
pub(super) fn correlate<S: Simd, T: Lanes, X: Held<T>>(
    simd: S,
    g: &Geometry,
    x: &[X],
    w: &[X],
    added: &Added<'_, T, X>,
    y: &mut [X],
) {
    if y.is_empty() {
        return;
    }
    let lanes = width::<S, T>();
    let c_in = g.c_in.next_multiple_of(lanes);
    let block = 2 * lanes;
    let groups = Groups::new(g, c_in);
    let mut points = AtPoints::<T>::new(&groups, c_in);
    let pixels = Pixels::from(&mut *y);
    for group in groups.ranges() {
        points.fill(simd, g, group.clone(), Source::Image(x));
        let mut blocks: Vec<_> = (0..g.c_out).step_by(block).map(|first| first..g.c_out.min(first + block)).collect();
        par::pieces(&mut blocks, 1, g.cost(), |_, channels| {
            let (channels, group) = (channels[0].clone(), group.clone());
            simd.vectorize(Block { simd, g, w, added, points: &points, group, channels, y: pixels });
        });
    }
    // The images are few and small here.
    if X::PLAIN
        && let Some(r) = added.residual(0, 0, y.len())
    {
        let cost = y.len();
        par::pieces(y, par::PIECE, cost, |i, y| {
            let r = &r[i * par::PIECE..][..y.len()];
            simd.vectorize(AddResidual { simd, y, r, computed_with: PhantomData::<T> });
        });
    }
}

/// A block of up to two vectors of output channels, of all tiles of a group.
struct Block<'a, S, T: Lanes, X> {
    simd: S,
    g: &'a Geometry,
    w: &'a [X],
    added: &'a Added<'a, T, X>,
    points: &'a AtPoints<T>,
    group: std::ops::Range<usize>,
    channels: std::ops::Range<usize>,
    y: Pixels<'a, X>,
}

impl<S: Simd, T: Lanes, X: Held<T>> NullaryFnOnce for Block<'_, S, T, X> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let Block { simd, g, w, added, points, group, channels, y } = self;
        let (lanes, first, count) = (width::<S, T>(), channels.start, channels.len());
        let columns = count.next_multiple_of(lanes);
        let (bands, step) = (points.bands, apart::<T>(points.bands.tiles() * columns));
        let part = FILTERS.min(g.c_in);
        let mut scratch = Scratch::<T>::new(POINTS * (apart::<T>(part * columns) + group.len() * step));
        let (filter, sums) = scratch.as_mut_slice().split_at_mut(POINTS * apart::<T>(part * columns));
        sums.fill(T::ZERO);
        for start in (0..g.c_in).step_by(part) {
            let inputs = start..g.c_in.min(start + part);
            let matrix = apart::<T>(inputs.len() * columns);
            let filter = &mut filter[..POINTS * matrix];
            FilterBlock { simd, g, w, channels: channels.clone(), inputs: inputs.clone(), out: &mut *filter }.call();
            for (i, sums) in sums.chunks_exact_mut(POINTS * step).enumerate() {
                let tiles = bands.tiles_in(group.start + i);
                for (point, filter) in filter.chunks_exact(matrix).enumerate() {
                    let data = &points.get(i, point)[start..];
                    let a = Left { data, rows: tiles, k: inputs.len(), row: points.channels, step: 1 };
                    let c = &mut sums[point * step..][..step];
                    if columns == 2 * lanes {
                        product::<S, T, 2, GO_ON>(simd, a, filter, columns, c, columns);
                    } else {
                        product::<S, T, 1, GO_ON>(simd, a, filter, columns, c, columns);
                    }
                }
            }
        }
        for (band, sums) in group.zip(sums.chunks_exact(POINTS * step)) {
            let len = g.h.output * g.w.output * g.c_out;
            bands.each(band, |tile, image, row, column| {
                let to_image = Tile {
                    height: g.h.output,
                    width: g.w.output,
                    channels: g.c_out,
                    row: row * STEP,
                    column: column * STEP,
                    first,
                    count,
                };
                let plus = (&added.shift(image)[first..], added.residual(image, 0, len));
                let y = y.part(image * len, len);
                // SAFETY: each block writes its own channels.
                unsafe { to_image.write::<S, T, X>(simd, &sums[tile * columns..], step, plus, y) };
            });
        }
    }
}

/// `dw[kh, kw, ci, co] = Σ x[b, i - p + kh, j - p + kw, ci] grad[b, i, j, co]`, for the geometry of the convolution.
///
/// Bands are summed in order: the same bits for any number of threads.
pub(super) fn weight_gradient<S: Simd, T: Lanes>(simd: S, g: &Geometry, x: &[T], grad: &[T], dw: &mut [T]) {
    let lanes = width::<S, T>();
    let (c_in, c_out) = (g.c_in.next_multiple_of(lanes), g.c_out.next_multiple_of(lanes));
    let groups = Groups::new(g, c_in.max(c_out));
    let (mut images, mut gradients) = (AtPoints::<T>::new(&groups, c_in), AtPoints::<T>::new(&groups, c_out));
    // For each part of the input channels, [POINTS][inputs][C_out padded].
    let size = POINTS * INPUTS * c_out;
    let mut sums = Scratch::<T>::new(POINTS * g.c_in * c_out);
    for group in groups.ranges() {
        images.fill(simd, g, group.clone(), Source::Image(x));
        gradients.fill(simd, g, group.clone(), Source::Gradient(grad));
        par::pieces(sums.as_mut_slice(), size, g.cost(), |part, sums| {
            let (images, gradients, bands) = (&images, &gradients, group.clone());
            simd.vectorize(Products { simd, images, gradients, bands, first: part * INPUTS, sums });
        });
    }
    let sums = sums.as_slice();
    par::pieces(&mut by_inputs(g, dw, INPUTS), 1, sums.len(), |part, out| {
        let inputs = INPUTS.min(g.c_in - part * INPUTS);
        let partial = &sums[part * size..][..POINTS * inputs * c_out];
        simd.vectorize(GatherTaps { simd, g, partial, size: partial.len(), inputs, first: 0, out: &mut out[0] });
    });
}

/// Adds the tiles of a group to the sums of some input channels, or begins with them if it is the first group.
struct Products<'a, S, T: Lanes> {
    simd: S,
    images: &'a AtPoints<T>,
    gradients: &'a AtPoints<T>,
    bands: std::ops::Range<usize>,
    /// The first input channel.
    first: usize,
    /// `[POINTS][inputs][C_out padded]`.
    sums: &'a mut [T],
}

impl<S: Simd, T: Lanes> NullaryFnOnce for Products<'_, S, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let Products { simd, images, gradients, bands, first, sums } = self;
        let (lanes, c_out) = (width::<S, T>(), gradients.channels);
        let each = sums.len() / POINTS;
        if bands.start == 0 {
            sums.fill(T::ZERO);
        }
        for (point, sums) in sums.chunks_exact_mut(each).enumerate() {
            for (i, band) in bands.clone().enumerate() {
                let tiles = images.bands.tiles_in(band);
                let image = &images.get(i, point)[first..];
                let a = Left { data: image, rows: each / c_out, k: tiles, row: 1, step: images.channels };
                let b = gradients.get(i, point);
                for column in (0..c_out).step_by(2 * lanes) {
                    if column + 2 * lanes <= c_out {
                        product::<S, T, 2, ADD>(simd, a, &b[column..], c_out, &mut sums[column..], c_out);
                    } else {
                        product::<S, T, 1, ADD>(simd, a, &b[column..], c_out, &mut sums[column..], c_out);
                    }
                }
            }
        }
    }
}

//! 3×3 convolution of stride 1 by Winograd's minimal filtering (Winograd 1980; Lavin & Gray 2016, section 4.1), `F(4×4, 3×3)`:
//!
//! ```text
//! y = Aᵀ [Σ_c (G w_c Gᵀ) ∘ (Bᵀ d_c B)] A         for each 4×4 tile of the result, from its 6×6 patch d
//! dw = Aᵀ [Σ_tiles (Bᵀ d B) ∘ (G g Gᵀ)] A          F(3×3, 4×4), g the tile's gradient: the same Bᵀ
//! ```
//!
//! A product of polynomials is computed from its values at six points along each axis: 36 multiplications for the 144 that 16
//! pixels take directly. The sums over channels (or tiles) are 36 matrix products. Rounding depends on the points: `0, ±√½, ±√2, ∞`
//! keep the error of `f32` at half of that with Lavin and Gray's `0, ±1, ±2, ∞` (Barabasz et al. 2020 explain the differences).
//!
//! Bands of tiles go through all three stages while what is between stays in the cache; nothing transformed is written to
//! memory. Where the filter at the points is too large for the cache, the loop over blocks of channels is outside
//! ([`channels`]). How tiles are cut and which order is taken does not change an element's sum, so a sample's result does not depend on its
//! batch.

mod channels;
mod filter;
mod patch;
mod product;
#[cfg(test)]
mod tests;
mod transform;

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{NullaryFnOnce, Simd, WithSimd};

use super::addend::{AddResidual, Added, Addend};
use super::cpu::Geometry;
use crate::Dtype;
use crate::lanes::{Held, Lanes, Scratch, part_of, put_in, store_part, width};
use crate::par;
use filter::Points;
use patch::{gradient_patch, patch};
use product::{ADD, Left, SET, product};
use transform::{Gradient, Image, Output, POINTS, SIDE, STEP, TAPS, Taps, both_axes};

/// Channels on either side from which on the transforms cost less than they save.
const CHANNELS: usize = 16;
/// Elements that a band's transformed data takes, about: half of a 1 MiB L2 cache, the filter passes through the rest.
const BAND: usize = 128 * 1024;
/// Elements of a filter at the points that leave room for a band in the cache.
const FILTER: usize = 192 * 1024;
/// The same for the sums of a weight gradient.
const SUMS: usize = 128 * 1024;
/// Tiles in all up to which a large filter is not read more than once.
const FEW_TILES: usize = 64;
/// Tiles of a band at least, so that each element of the filter that is read is used often.
const TILES: usize = 12;

/// Tiles in all from which on the weight gradient is worth the way back from the points.
const GRADIENT_TILES: usize = 32;

/// Whether this way is faster than the direct one and as accurate as `f32` allows (`f64` is for checking formulas).
/// Decided by extents and channels, never by the batch.
pub(super) fn suits(g: &Geometry, dtype: Dtype) -> bool {
    let axes = [&g.h, &g.w];
    dtype == Dtype::F32
        && axes.iter().all(|a| a.kernel == TAPS && a.stride == 1)
        && g.c_in.min(g.c_out) >= CHANNELS
        // Tiles that are mostly outside of the image save nothing.
        && 2 * tiles(g) * POINTS <= TAPS * TAPS * g.h.output * g.w.output
}

/// The same for the weight gradient, which depends on the whole batch anyway.
pub(super) fn suits_gradient(g: &Geometry, dtype: Dtype) -> bool {
    suits(g, dtype) && g.batch * tiles(g) >= GRADIENT_TILES
}

/// Tiles of an image.
fn tiles(g: &Geometry) -> usize {
    g.h.output.div_ceil(STEP) * g.w.output.div_ceil(STEP)
}

/// Which loop is outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Order {
    /// Bands of tiles, each with all channels: the filter at the points stays in the cache.
    Bands,
    /// Blocks of channels, each with many tiles: the filter at the points is larger than the cache and never written whole.
    Channels,
}

impl Order {
    /// Of a convolution. With many tiles, reading the filter again for each band costs less than writing blocks of channels apart.
    pub(super) fn of(g: &Geometry) -> Order {
        let large = POINTS * g.c_in * g.c_out > FILTER;
        if large && g.batch * tiles(g) <= FEW_TILES { Order::Channels } else { Order::Bands }
    }

    /// Of a weight gradient, whose sums are written again for each band.
    pub(super) fn of_gradient(g: &Geometry) -> Order {
        if POINTS * g.c_in * g.c_out > SUMS { Order::Channels } else { Order::Bands }
    }
}

/// Tiles of a band that goes through all stages.
fn band_tiles(g: &Geometry) -> usize {
    (BAND / (POINTS * (g.c_in + g.c_out))).max(TILES)
}

/// How the tiles of a batch are cut into bands: whole rows of tiles of an image, or whole images.
#[derive(Clone, Copy)]
struct Bands {
    batch: usize,
    /// Tiles of an image.
    h: usize,
    w: usize,
    /// Rows of tiles and images in a band; several images only with all their rows.
    rows: usize,
    images: usize,
}

impl Bands {
    /// Bands of about `tiles` tiles.
    fn new(g: &Geometry, tiles: usize) -> Bands {
        let (h, w) = (g.h.output.div_ceil(STEP), g.w.output.div_ceil(STEP));
        let rows = (tiles / w.max(1)).max(1);
        if rows >= h {
            return Bands { batch: g.batch, h, w, rows: h, images: (rows / h.max(1)).max(1) };
        }
        // Even bands.
        Bands { batch: g.batch, h, w, rows: h.div_ceil(h.div_ceil(rows)), images: 1 }
    }

    fn per_image(&self) -> usize {
        self.h.div_ceil(self.rows)
    }

    fn count(&self) -> usize {
        self.batch.div_ceil(self.images) * self.per_image()
    }

    /// Images and rows of tiles of a band.
    fn get(&self, band: usize) -> (Range<usize>, Range<usize>) {
        let image = band / self.per_image() * self.images;
        let row = band % self.per_image() * self.rows;
        (image..self.batch.min(image + self.images), row..self.h.min(row + self.rows))
    }

    /// Tiles of the largest band.
    fn tiles(&self) -> usize {
        self.images * self.rows * self.w
    }

    /// Tiles of a band.
    fn tiles_in(&self, band: usize) -> usize {
        let (images, rows) = self.get(band);
        images.len() * rows.len() * self.w
    }

    /// Calls `work` with number, image, row and column of each tile of a band.
    #[inline(always)]
    fn each(&self, band: usize, mut work: impl FnMut(usize, usize, usize, usize)) -> usize {
        let (images, rows) = self.get(band);
        let mut tile = 0;
        for image in images {
            for row in rows.clone() {
                for column in 0..self.w {
                    work(tile, image, row, column);
                    tile += 1;
                }
            }
        }
        tile
    }
}

/// Elements between the values of two points: not a multiple of 4 KiB, at which stores would compete for one cache set.
fn apart<T>(len: usize) -> usize {
    len + 64 / size_of::<T>()
}

/// `y = conv(x, w) + bias + r`, or its transpose's product, by the geometry.
/// `X` is what holds images and filters, `T` what is computed with.
pub(super) struct Correlation<'a, T, X> {
    pub(super) g: &'a Geometry,
    pub(super) x: &'a [X],
    pub(super) w: &'a [X],
    pub(super) bias: Option<&'a [T]>,
    pub(super) addend: Addend<&'a [X]>,
    pub(super) y: &'a mut [X],
    pub(super) order: Order,
}

impl<T: Lanes, X: Held<T>> WithSimd for Correlation<'_, T, X> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let g = self.g;
        let added = Added::new(g, self.bias, self.addend);
        if self.order == Order::Channels {
            return channels::correlate(simd, g, self.x, self.w, &added, self.y);
        }
        let filter = Points::<T>::new(simd, g, self.w);
        let bands = Bands::new(g, band_tiles(g));
        let (row, image) = (g.w.output * g.c_out, g.h.output * g.w.output * g.c_out);
        if image == 0 {
            return;
        }
        // Bands in order, each with its part of `y`.
        let mut parts: Vec<&mut [X]> = if bands.images == 1 {
            self.y.chunks_mut(image).flat_map(|image| image.chunks_mut(bands.rows * STEP * row)).collect()
        } else {
            self.y.chunks_mut(bands.images * image).collect()
        };
        par::pieces(&mut parts, 1, g.cost(), |band, part| {
            let (x, y) = (self.x, &mut *part[0]);
            simd.vectorize(Band { simd, g, bands, band, x, filter: &filter, added: &added, y });
        });
    }
}

struct Band<'a, S, T: Lanes, X> {
    simd: S,
    g: &'a Geometry,
    bands: Bands,
    band: usize,
    x: &'a [X],
    filter: &'a Points<T>,
    added: &'a Added<'a, T, X>,
    y: &'a mut [X],
}

impl<S: Simd, T: Lanes, X: Held<T>> NullaryFnOnce for Band<'_, S, T, X> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let Band { simd, g, bands, band, x, filter, added, y } = self;
        let lanes = width::<S, T>();
        let (c_in, c_out) = (g.c_in.next_multiple_of(lanes), g.c_out.next_multiple_of(lanes));
        let (from, to) = (apart::<T>(bands.tiles() * c_in), apart::<T>(bands.tiles() * c_out));
        let mut scratch = Scratch::<T>::new(POINTS * (from + to));
        let (points, sums) = scratch.as_mut_slice().split_at_mut(POINTS * from);
        let tiles = bands.each(band, |tile, image, row, column| {
            patch(g, x, image, row, column).spread::<S, T, Image, SIDE>(simd, &mut points[tile * c_in..], from);
        });
        let mut first = 0;
        while first < c_out {
            let columns = (2 * lanes).min(c_out - first);
            for point in 0..POINTS {
                let a = Left { data: &points[point * from..][..from], rows: tiles, k: g.c_in, row: c_in, step: 1 };
                let b = filter.get(g, first / (2 * lanes), columns, point);
                let c = &mut sums[point * to..][..to][first..];
                if columns == 2 * lanes {
                    product::<S, T, 2, SET>(simd, a, b, 2 * lanes, c, c_out);
                } else {
                    product::<S, T, 1, SET>(simd, a, b, lanes, c, c_out);
                }
            }
            first += columns;
        }
        let (images, rows) = bands.get(band);
        // Rows of the result in the band.
        let height = g.h.output.min(rows.end * STEP) - rows.start * STEP;
        bands.each(band, |tile, image, row, column| {
            let (row, column) = ((row - rows.start) * STEP, column * STEP);
            let to_image = Tile { height, width: g.w.output, channels: g.c_out, row, column, first: 0, count: g.c_out };
            let len = height * g.w.output * g.c_out;
            let plus = (added.shift(image), added.residual(image, rows.start * STEP * g.w.output * g.c_out, len));
            let y = Pixels::from(&mut y[(image - images.start) * len..][..len]);
            // SAFETY: `y` is this band's alone.
            unsafe { to_image.write::<S, T, X>(simd, &sums[tile * c_out..], to, plus, y) };
        });
        if X::PLAIN
            && let Some(r) = added.residual(images.start, rows.start * STEP * g.w.output * g.c_out, y.len())
        {
            AddResidual { simd, y, r, computed_with: PhantomData::<T> }.call();
        }
    }
}

/// (A part of) an image that several threads may write to, each its own elements.
#[derive(Clone, Copy)]
struct Pixels<'a, T> {
    start: *mut T,
    len: usize,
    of: PhantomData<&'a mut [T]>,
}

// SAFETY: elements are written by `unsafe` functions alone, whose callers say that no two threads write the same.
unsafe impl<T: Send> Send for Pixels<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Pixels<'_, T> {}

impl<'a, T> From<&'a mut [T]> for Pixels<'a, T> {
    fn from(slice: &'a mut [T]) -> Self {
        Pixels { start: slice.as_mut_ptr(), len: slice.len(), of: PhantomData }
    }
}

impl<T> Pixels<'_, T> {
    fn part(self, first: usize, len: usize) -> Self {
        assert!(first + len <= self.len, "a part of the image");
        // SAFETY: inside, as just asserted.
        Pixels { start: unsafe { self.start.add(first) }, len, of: PhantomData }
    }
}

/// Where a tile of the result goes in (a part of) an image.
struct Tile {
    height: usize,
    width: usize,
    channels: usize,
    row: usize,
    column: usize,
    /// The channels that are written.
    first: usize,
    count: usize,
}

impl Tile {
    /// From sums at the points, `step` apart, and what is added to all pixels, to pixels; with the residual (of the same part of an image as `y`)
    /// where these are rounded as they are written.
    ///
    /// # Safety
    /// Nobody else uses the tile's channels of `y` meanwhile.
    #[inline(always)]
    unsafe fn write<S: Simd, T: Lanes, X: Held<T>>(
        &self,
        simd: S,
        sums: &[T],
        step: usize,
        (shift, residual): (&[T], Option<&[X]>),
        y: Pixels<'_, X>,
    ) {
        let lanes = width::<S, T>();
        let padded = self.count.next_multiple_of(lanes);
        assert_eq!(y.len, self.height * self.width * self.channels);
        assert!(residual.is_none_or(|r| r.len() == y.len));
        assert!(self.first + self.count <= self.channels);
        assert!((POINTS - 1) * step + padded <= sums.len() && shift.len() >= padded);
        let inside = self.row + STEP <= self.height && self.column + STEP <= self.width;
        let sums = sums.as_ptr();
        for c in (0..self.count).step_by(lanes) {
            // SAFETY: `padded` elements follow each point, as just asserted.
            let load = |i: usize, j: usize| unsafe { sums.add((i * SIDE + j) * step + c).cast::<T::V<S>>().read_unaligned() };
            // SAFETY: `shift` has `padded` elements.
            let shift = unsafe { shift.as_ptr().add(c).cast::<T::V<S>>().read_unaligned() };
            let first = (self.row * self.width + self.column) * self.channels + self.first + c;
            if X::PLAIN {
                if inside && c + lanes <= self.count {
                    both_axes::<S, T, Output, SIDE, STEP>(simd, load, |i, j, v| {
                        // SAFETY: all pixels of the tile, and of each the channels `c..c + lanes` of those that are written, lie in `y`.
                        unsafe {
                            let p = y.start.add(first + (i * self.width + j) * self.channels);
                            X::write(simd, p, T::plus(simd, v, shift));
                        }
                    });
                    continue;
                }
                both_axes::<S, T, Output, SIDE, STEP>(simd, load, |i, j, v| {
                    if self.row + i < self.height && self.column + j < self.width {
                        let at = first + (i * self.width + j) * self.channels;
                        // SAFETY: this pixel lies in `y`, and nobody else uses these channels.
                        let channels = unsafe { std::slice::from_raw_parts_mut(y.start.add(at), self.count - c) };
                        put_in::<S, T, X>(simd, channels, 0, T::plus(simd, v, shift));
                    }
                });
                continue;
            }
            let mut tile = [[shift; STEP]; STEP];
            both_axes::<S, T, Output, SIDE, STEP>(simd, load, |i, j, v| tile[i][j] = v);
            for (i, row) in tile.iter().enumerate().take(self.height - self.row) {
                for (j, &v) in row.iter().enumerate().take(self.width - self.column) {
                    let (at, mut v) = (first + (i * self.width + j) * self.channels, T::plus(simd, v, shift));
                    if let Some(r) = residual {
                        v = T::plus(simd, v, part_of::<S, T, X>(simd, &r[at..at + self.count - c], 0));
                    }
                    // SAFETY: this pixel lies in `y`, with the channels `c..` of those that are written, which nobody else uses.
                    unsafe {
                        let p = y.start.add(at);
                        if c + lanes <= self.count {
                            X::write(simd, p, v);
                        } else {
                            put_in::<S, T, X>(simd, std::slice::from_raw_parts_mut(p, self.count - c), 0, v);
                        }
                    }
                }
            }
        }
    }
}

/// `dw[kh, kw, ci, co] = Σ x[b, i - p + kh, j - p + kw, ci] grad[b, i, j, co]`, for the geometry of the convolution.
///
/// Bands are summed within at most 16 parts in order, the parts then in order: the same bits for any number of threads.
pub(super) struct WeightGradient<'a, T> {
    pub(super) g: &'a Geometry,
    pub(super) x: &'a [T],
    pub(super) grad: &'a [T],
    pub(super) dw: &'a mut [T],
    pub(super) order: Order,
}

/// Tiles of a part of the weight gradient at least: each part's sums are written and read once more.
const PART: usize = 96;

impl<T: Lanes> WithSimd for WeightGradient<'_, T> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let WeightGradient { g, x, grad, dw, order } = self;
        if order == Order::Channels {
            return channels::weight_gradient(simd, g, x, grad, dw);
        }
        let padded = g.c_out.next_multiple_of(width::<S, T>());
        let bands = Bands::new(g, band_tiles(g));
        let count = bands.count();
        let parts = (bands.batch * bands.h * bands.w / PART).clamp(2, 16).min(count).max(1);
        let per_part = count.div_ceil(parts);
        let size = POINTS * g.c_in * padded;
        let mut partial = Scratch::<T>::new(parts * size);
        par::pieces(partial.as_mut_slice(), size, g.cost(), |part, sums| {
            sums.fill(T::ZERO);
            let range = part * per_part..count.min((part + 1) * per_part);
            simd.vectorize(GradientBands { simd, g, bands, range, x, grad, sums });
        });
        // Input channels of a job.
        let rows = (par::PIECE / (POINTS * padded)).max(1);
        let partial = partial.as_slice();
        par::pieces(&mut by_inputs(g, dw, rows), 1, parts * size, |job, out| {
            let (first, out) = (job * rows, &mut out[0]);
            simd.vectorize(GatherTaps { simd, g, partial, size, inputs: g.c_in, first, out });
        });
    }
}

/// The gradient in parts of `rows` input channels, with such a part of every tap.
fn by_inputs<'a, T>(g: &Geometry, dw: &'a mut [T], rows: usize) -> Vec<Vec<&'a mut [T]>> {
    let mut taps: Vec<_> = dw.chunks_exact_mut(g.c_in * g.c_out).map(|tap| tap.chunks_mut(rows * g.c_out)).collect();
    let parts = g.c_in.div_ceil(rows);
    (0..parts).map(|_| taps.iter_mut().map(|tap| tap.next().expect("one part of each tap")).collect()).collect()
}

/// Adds a range of bands to `[POINTS, C_in, C_out padded]`.
struct GradientBands<'a, S, T> {
    simd: S,
    g: &'a Geometry,
    bands: Bands,
    range: Range<usize>,
    x: &'a [T],
    grad: &'a [T],
    sums: &'a mut [T],
}

impl<S: Simd, T: Lanes> NullaryFnOnce for GradientBands<'_, S, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let GradientBands { simd, g, bands, range, x, grad, sums } = self;
        let lanes = width::<S, T>();
        let (c_in, c_out) = (g.c_in.next_multiple_of(lanes), g.c_out.next_multiple_of(lanes));
        let (from, to) = (apart::<T>(bands.tiles() * c_in), apart::<T>(bands.tiles() * c_out));
        let mut scratch = Scratch::<T>::new(POINTS * (from + to));
        let (images, gradients) = scratch.as_mut_slice().split_at_mut(POINTS * from);
        for band in range {
            let tiles = bands.each(band, |tile, image, row, column| {
                patch(g, x, image, row, column).spread::<S, T, Image, SIDE>(simd, &mut images[tile * c_in..], from);
                gradient_patch(g, grad, image, row, column).spread::<S, T, Gradient, STEP>(
                    simd,
                    &mut gradients[tile * c_out..],
                    to,
                );
            });
            for point in 0..POINTS {
                let a = Left { data: &images[point * from..][..from], rows: g.c_in, k: tiles, row: 1, step: c_in };
                let b = &gradients[point * to..][..to];
                let c = &mut sums[point * g.c_in * c_out..][..g.c_in * c_out];
                let mut first = 0;
                while first < c_out {
                    if first + 2 * lanes <= c_out {
                        product::<S, T, 2, ADD>(simd, a, &b[first..], c_out, &mut c[first..], c_out);
                        first += 2 * lanes;
                    } else {
                        product::<S, T, 1, ADD>(simd, a, &b[first..], c_out, &mut c[first..], c_out);
                        first += lanes;
                    }
                }
            }
        }
    }
}

/// The sum over the parts of some input channels, from the points to the taps.
struct GatherTaps<'a, 'b, S, T> {
    simd: S,
    g: &'a Geometry,
    /// `[parts][POINTS][inputs][C_out padded]`, a part being `size` elements.
    partial: &'a [T],
    size: usize,
    inputs: usize,
    first: usize,
    /// `[TAPS²][rows, C_out]`.
    out: &'a mut [&'b mut [T]],
}

impl<S: Simd, T: Lanes> NullaryFnOnce for GatherTaps<'_, '_, S, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let GatherTaps { simd, g, partial, size, inputs, first, out } = self;
        let lanes = width::<S, T>();
        let padded = g.c_out.next_multiple_of(lanes);
        let rows = out[0].len() / g.c_out;
        assert!(out.iter().all(|tap| tap.len() == rows * g.c_out));
        assert!(first + rows <= inputs && POINTS * inputs * padded <= size);
        for row in 0..rows {
            for c in (0..g.c_out).step_by(lanes) {
                both_axes::<S, T, Taps, SIDE, TAPS>(
                    simd,
                    |i, j| {
                        let at = ((i * SIDE + j) * inputs + first + row) * padded + c;
                        let mut sum = T::splat(simd, T::ZERO);
                        for part in partial.chunks_exact(size) {
                            debug_assert!(at + lanes <= part.len());
                            // SAFETY: a row of `padded` elements of this part's sums.
                            sum = T::plus(simd, sum, unsafe { part.as_ptr().add(at).cast::<T::V<S>>().read_unaligned() });
                        }
                        sum
                    },
                    |i, j, v| {
                        let out = &mut out[i * TAPS + j][row * g.c_out + c..(row + 1) * g.c_out];
                        store_part(simd, out, v);
                    },
                );
            }
        }
    }
}

//! Convolution, its transpose and its weight gradient on the host.
//!
//! One engine serves the first two. Along an axis, output index `i` sums inputs `first(i) + j` for `j` in `0..taps`: for a
//! convolution `first = i s - p` and `taps` are the kernel's; for the transpose the outputs fall into `s` phases `a = (i + p)
//! mod s`, each an ordinary stride-1 convolution with the taps `k ≡ a (mod s)` in reverse order, so no multiplication
//! by a zero between strided pixels is ever done. Channels are last, so a row of a patch is one contiguous run.
//!
//! Work is cut into tiles of whole output rows (or whole images, if those are small) by the shapes alone. A tile copies
//! the input rows it needs into a slab with the zero padding written out, unless it needs no padding.

use super::kernel::{Correlate, Outer};
use super::{few, winograd};
use crate::element::Stored;
use crate::lanes::{Lanes, Scratch, dispatch, lanes};
use crate::par;

/// Elements of slab a tile aims for: with the packed weights in passing it stays in a 1 MiB L2 cache.
const SLAB: usize = 48 * 1024;
/// Tiles to aim for, so that threads have something to share.
const TILES: usize = 16;
/// Pixels below which a tile streams the weights for too little work.
const PIXELS: usize = 192;

/// One axis of a convolution (`transposed`: of its adjoint).
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) transposed: bool,
}

impl Axis {
    fn phases(&self) -> usize {
        if self.transposed { self.stride } else { 1 }
    }

    /// The kernel taps of a phase, in the order of the inputs they meet.
    fn taps(&self, phase: usize) -> Vec<usize> {
        if self.transposed { (phase..self.kernel).step_by(self.stride).rev().collect() } else { (0..self.kernel).collect() }
    }

    fn tap_count(&self, phase: usize) -> usize {
        if self.transposed { self.kernel.saturating_sub(phase).div_ceil(self.stride) } else { self.kernel }
    }

    /// The phase of output `i` and the first input it meets (perhaps in the padding).
    fn locate(&self, i: usize) -> (usize, isize) {
        if self.transposed {
            let (q, phase) = ((i + self.padding) / self.stride, (i + self.padding) % self.stride);
            (phase, q as isize + 1 - self.tap_count(phase) as isize)
        } else {
            (0, (i * self.stride) as isize - self.padding as isize)
        }
    }

    /// The first input that output `i` meets (perhaps in the padding).
    pub(super) fn first(&self, i: usize) -> isize {
        self.locate(i).1
    }

    /// The range of inputs that outputs `range` meet, padding included.
    fn reach(&self, range: std::ops::Range<usize>) -> std::ops::Range<isize> {
        let (mut low, mut high) = (isize::MAX, isize::MIN);
        for i in range {
            let (phase, first) = self.locate(i);
            let taps = self.tap_count(phase) as isize;
            if taps > 0 {
                (low, high) = (low.min(first), high.max(first + taps));
            }
        }
        if low > high { 0..0 } else { low..high }
    }
}

/// The extents of a convolution or its transpose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) batch: usize,
    pub(super) h: Axis,
    pub(super) w: Axis,
    /// Channels of what is read.
    pub(super) c_in: usize,
    /// Channels of what is written.
    pub(super) c_out: usize,
}

impl Geometry {
    fn image_in(&self) -> usize {
        self.h.input * self.w.input * self.c_in
    }

    fn image_out(&self) -> usize {
        self.h.output * self.w.output * self.c_out
    }

    /// Multiplications in all, about.
    pub(super) fn cost(&self) -> usize {
        let taps = self.h.kernel * self.w.kernel / (self.h.phases() * self.w.phases());
        self.batch * self.image_out() * taps.max(1) * self.c_in
    }

    /// (images, output rows) of a tile; several images only if all their rows fit.
    fn tile(&self) -> (usize, usize) {
        let row_out = self.w.output.max(1);
        // Input elements per output row, and per image.
        let row_in = (self.w.input * self.c_in * if self.h.transposed { 1 } else { self.h.stride }).max(1);
        let rows_total = (self.batch * self.h.output).max(1);
        let fit = (SLAB / row_in).max(1);
        let share = rows_total.div_ceil(TILES).max(PIXELS.div_ceil(row_out));
        let rows = fit.min(share).max(1);
        if rows >= self.h.output {
            return ((rows / self.h.output.max(1)).clamp(1, self.batch.max(1)), self.h.output.max(1));
        }
        // Even tiles, and whole sets of phases.
        let tiles = self.h.output.div_ceil(rows);
        (1, self.h.output.div_ceil(tiles).next_multiple_of(self.h.phases()))
    }
}

/// The part of the input a tile needs.
pub(super) struct Slab<'a, T: Stored> {
    borrowed: &'a [T],
    copied: Option<Scratch<T>>,
    pub(super) top: isize,
    pub(super) left: isize,
    /// Elements per row and per image.
    pub(super) row: usize,
    pub(super) image: usize,
}

impl<'a, T: Stored> Slab<'a, T> {
    pub(super) fn new(g: &Geometry, x: &'a [T], images: std::ops::Range<usize>, rows: std::ops::Range<usize>) -> Self {
        let (vertical, horizontal) = (g.h.reach(rows), g.w.reach(0..g.w.output));
        let part = &x[images.start * g.image_in()..images.end * g.image_in()];
        let inside = |r: &std::ops::Range<isize>, n: usize| r.start >= 0 && r.end <= n as isize;
        let whole_row = g.w.input * g.c_in;
        if inside(&vertical, g.h.input) && inside(&horizontal, g.w.input) {
            return Slab { borrowed: part, copied: None, top: 0, left: 0, row: whole_row, image: g.image_in() };
        }
        let columns = (horizontal.end - horizontal.start) as usize;
        let row = columns * g.c_in;
        let image = (vertical.end - vertical.start) as usize * row;
        let mut copied = Scratch::new(images.len() * image);
        // Columns of the input that the slab holds, and where they go.
        let from = horizontal.start.clamp(0, g.w.input as isize) as usize;
        let to = horizontal.end.clamp(from as isize, g.w.input as isize) as usize;
        let (before, len) = (((from as isize - horizontal.start).max(0) as usize * g.c_in).min(row), (to - from) * g.c_in);
        for (out, source) in copied.as_mut_slice().chunks_exact_mut(image.max(1)).zip(part.chunks_exact(g.image_in().max(1))) {
            for (out, i) in out.chunks_exact_mut(row.max(1)).zip(vertical.clone()) {
                if i < 0 || i >= g.h.input as isize {
                    out.fill(T::default());
                } else {
                    out[..before].fill(T::default());
                    out[before..before + len].copy_from_slice(&source[i as usize * whole_row + from * g.c_in..][..len]);
                    out[before + len..].fill(T::default());
                }
            }
        }
        Slab { borrowed: &[], copied: Some(copied), top: vertical.start, left: horizontal.start, row, image }
    }

    pub(super) fn data(&self) -> &[T] {
        self.copied.as_ref().map_or(self.borrowed, Scratch::as_slice)
    }
}

/// A phase's filter, packed for [`Correlate`].
struct Filter<T: Lanes> {
    w: Scratch<T>,
    taps_h: usize,
    taps_w: usize,
}

/// Where the weight from (kernel row, kernel column, input channel) to output channel lies.
#[derive(Clone, Copy)]
struct WeightLayout {
    kernel_w: usize,
    c_in: usize,
    c_out: usize,
    swapped: bool,
}

impl WeightLayout {
    fn at(&self, kh: usize, kw: usize, ci: usize, co: usize) -> usize {
        let tap = (kh * self.kernel_w + kw) * self.c_in * self.c_out;
        tap + if self.swapped { co * self.c_in + ci } else { ci * self.c_out + co }
    }
}

fn pack<T: Lanes>(g: &Geometry, w: &[T], phase_h: usize, phase_w: usize) -> Filter<T> {
    let lanes = lanes::<T>();
    let (taps_h, taps_w) = (g.h.taps(phase_h), g.w.taps(phase_w));
    // The transpose reads output channels of the stored filter and writes its input channels.
    let layout = WeightLayout { kernel_w: g.w.kernel, c_in: g.c_in, c_out: g.c_out, swapped: g.h.transposed };
    let k = taps_h.len() * taps_w.len() * g.c_in;
    let padded = g.c_out.next_multiple_of(lanes);
    let mut packed = Scratch::new(k * padded);
    let block = 2 * lanes * k;
    par::pieces(packed.as_mut_slice(), block, k * padded, |b, out| {
        let first = b * 2 * lanes;
        let width = (padded - first).min(2 * lanes);
        let mut rows = out.chunks_exact_mut(width);
        for &kh in &taps_h {
            for &kw in &taps_w {
                for ci in 0..g.c_in {
                    let row = rows.next().expect("k rows");
                    let (row, padding) = row.split_at_mut(width.min(g.c_out - first));
                    let at = layout.at(kh, kw, ci, first);
                    if layout.swapped {
                        row.iter_mut().zip(w[at..].iter().step_by(g.c_in)).for_each(|(out, &w)| *out = w);
                    } else {
                        row.copy_from_slice(&w[at..][..row.len()]);
                    }
                    padding.fill(T::ZERO);
                }
            }
        }
    });
    Filter { w: packed, taps_h: taps_h.len(), taps_w: taps_w.len() }
}

/// `y = conv(x, w) + bias`, or its transpose's product, by the geometry.
pub(super) fn correlate<T: Lanes>(g: &Geometry, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
    if winograd::suits(g, T::DTYPE) {
        return dispatch(winograd::Correlation::<T, T> { g, x, w, bias, y, order: winograd::Order::of(g) });
    }
    if few::suits(g) {
        return few::correlate(g, x, w, bias, y);
    }
    let padded = g.c_out.next_multiple_of(lanes::<T>());
    let mut full_bias = vec![T::ZERO; padded];
    if let Some(bias) = bias {
        full_bias[..g.c_out].copy_from_slice(bias);
    }
    let filters: Vec<Vec<Filter<T>>> = (0..g.h.phases()).map(|a| (0..g.w.phases()).map(|b| pack(g, w, a, b)).collect()).collect();
    par::pieces(&mut tiles(g, y), 1, g.cost(), |_, tile| {
        let (images, rows, y) = &mut tile[0];
        correlate_tile(g, x, &filters, &full_bias, images.clone(), rows.clone(), y);
    });
}

/// A tile's images, rows and part of `y`.
type Tile<'a, T> = (std::ops::Range<usize>, std::ops::Range<usize>, &'a mut [T]);

/// The tiles that work is cut into.
pub(super) fn tiles<'a, T>(g: &Geometry, y: &'a mut [T]) -> Vec<Tile<'a, T>> {
    let (images, rows) = g.tile();
    let (image_out, row_out) = (g.image_out(), g.w.output * g.c_out);
    let mut tiles = Vec::new();
    if image_out == 0 {
        return tiles;
    }
    for (i, part) in y.chunks_mut(images * image_out).enumerate() {
        if images == 1 {
            tiles.extend(part.chunks_mut(rows * row_out).enumerate().map(|(j, part)| {
                let row = j * rows;
                (i..i + 1, row..row + part.len() / row_out, part)
            }));
        } else {
            tiles.push((i * images..i * images + part.len() / image_out, 0..g.h.output, part));
        }
    }
    tiles
}

fn correlate_tile<T: Lanes>(
    g: &Geometry,
    x: &[T],
    filters: &[Vec<Filter<T>>],
    bias: &[T],
    images: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
    y: &mut [T],
) {
    let slab = Slab::new(g, x, images.clone(), rows.clone());
    let (mut x_at, mut y_at) = (Vec::new(), Vec::new());
    for (phase_h, filters) in filters.iter().enumerate() {
        for (phase_w, filter) in filters.iter().enumerate() {
            x_at.clear();
            y_at.clear();
            let columns: Vec<(usize, isize)> = (0..g.w.output)
                .filter_map(|j| {
                    let (phase, first) = g.w.locate(j);
                    (phase == phase_w).then_some((j, first))
                })
                .collect();
            let empty = filter.taps_h * filter.taps_w == 0;
            for image in 0..images.len() {
                for i in rows.clone() {
                    let (phase, first_h) = g.h.locate(i);
                    if phase != phase_h {
                        continue;
                    }
                    for &(j, first_w) in &columns {
                        y_at.push(((image * rows.len() + i - rows.start) * g.w.output + j) * g.c_out);
                        x_at.push(if empty {
                            0
                        } else {
                            image * slab.image
                                + (first_h - slab.top) as usize * slab.row
                                + (first_w - slab.left) as usize * g.c_in
                        });
                    }
                }
            }
            if x_at.is_empty() {
                continue;
            }
            let run = filter.taps_w * g.c_in;
            let segments: Vec<usize> = if run == 0 { Vec::new() } else { (0..filter.taps_h).map(|s| s * slab.row).collect() };
            dispatch(Correlate {
                x: slab.data(),
                x_at: &x_at,
                segments: &segments,
                run,
                w: filter.w.as_slice(),
                bias,
                y: &mut *y,
                y_at: &y_at,
                channels: g.c_out,
            });
        }
    }
}

/// Elements all partial weight gradients together may take, about.
const PARTIALS: usize = 8 << 20;

/// `dw[kh, kw, ci, co] = Σ x[b, oh s - p + kh, ow s - p + kw, ci] grad[b, oh, ow, co]`, for the geometry of the convolution.
///
/// Tiles are summed within at most 16 parts in order, the parts then in order: the same bits for any number of threads.
pub(super) fn weight_gradient<T: Lanes>(g: &Geometry, x: &[T], grad: &[T], dw: &mut [T]) {
    if winograd::suits_gradient(g, T::DTYPE) {
        return dispatch(winograd::WeightGradient { g, x, grad, dw, order: winograd::Order::of_gradient(g) });
    }
    if few::suits(g) {
        return few::weight_gradient(g, x, grad, dw);
    }
    let padded = g.c_out.next_multiple_of(lanes::<T>());
    let (images, rows) = g.tile();
    let row_tiles = g.h.output.div_ceil(rows).max(1);
    let tiles = g.batch.div_ceil(images) * row_tiles;
    let size = g.h.kernel * g.w.kernel * g.c_in * padded;
    let parts = tiles.min(16).min((PARTIALS / size.max(1)).max(2)).max(1);
    let per_part = tiles.div_ceil(parts).max(1);
    let mut partial = Scratch::<T>::new(parts * size);
    par::pieces(partial.as_mut_slice(), size, g.cost(), |part, sums| {
        sums.fill(T::ZERO);
        for tile in part * per_part..tiles.min((part + 1) * per_part) {
            let image = tile / row_tiles * images;
            let row = tile % row_tiles * rows;
            let image_end = g.batch.min(image + images);
            weight_gradient_tile(g, x, grad, image..image_end, row..g.h.output.min(row + rows), padded, sums);
        }
    });
    let partial = partial.as_slice();
    let block = g.c_out * (par::PIECE / g.c_out.max(1)).max(1);
    par::pieces(dw, block, parts * size, |i, out| {
        for (j, out) in out.chunks_exact_mut(g.c_out).enumerate() {
            let row = (i * (block / g.c_out) + j) * padded;
            out.copy_from_slice(&partial[row..row + g.c_out]);
            for part in 1..parts {
                for (out, &x) in out.iter_mut().zip(&partial[part * size + row..]) {
                    *out += x;
                }
            }
        }
    });
}

fn weight_gradient_tile<T: Lanes>(
    g: &Geometry,
    x: &[T],
    grad: &[T],
    images: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
    padded: usize,
    sums: &mut [T],
) {
    let slab = Slab::new(g, x, images.clone(), rows.clone());
    let width = g.w.output;
    let mut gradient = Scratch::<T>::new(images.len() * rows.len() * width * padded);
    let mut starts = Vec::new();
    for (n, image) in images.enumerate() {
        let source = &grad[image * g.image_out() + rows.start * width * g.c_out..][..rows.len() * width * g.c_out];
        let out = &mut gradient.as_mut_slice()[n * rows.len() * width * padded..][..rows.len() * width * padded];
        for (out, source) in out.chunks_exact_mut(padded).zip(source.chunks_exact(g.c_out)) {
            out[..g.c_out].copy_from_slice(source);
            out[g.c_out..].fill(T::ZERO);
        }
        for (r, i) in rows.clone().enumerate() {
            let (_, first) = g.h.locate(i);
            let (_, left) = g.w.locate(0);
            let x_at = n * slab.image + (first - slab.top) as usize * slab.row + (left - slab.left) as usize * g.c_in;
            starts.push((x_at, (n * rows.len() + r) * width * padded));
        }
    }
    let run = g.w.kernel * g.c_in;
    // Few enough pixels that their gradients for one block of channels stay in the L1 cache.
    let group = (PIXELS / width.max(1)).max(1);
    for group in starts.chunks(group) {
        for (kh, dw) in sums.chunks_exact_mut((run * padded).max(1)).enumerate() {
            let rows: Vec<(usize, usize)> = group.iter().map(|&(x, y)| (x + kh * slab.row, y)).collect();
            dispatch(Outer {
                x: slab.data(),
                x_step: g.w.stride * g.c_in,
                g: gradient.as_slice(),
                rows: &rows,
                width,
                run,
                channels: padded,
                dw,
            });
        }
    }
}

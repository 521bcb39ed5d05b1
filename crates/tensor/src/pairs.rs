//! Products of matrices of `bf16`, summed in `f32`.
//!
//! ```text
//! y[p, n] = bias[n] + Σ_s Σ_r x[x_at[p] + segments[s] + r] w[s, r, n]
//! ```
//!
//! The left operand is read where it lies, as rows of a matrix (one segment) or as patches of an image (a segment for each row of taps), two
//! numbers at a time; the right one is packed in pairs of rows beside it. The product of two numbers of 8 significant bits is exact in `f32`,
//! so all rounding is that of the sums: `K` terms differ from the exact sum by at most `(K + 1) 2⁻²⁴ Σ |x w|`.
//!
//! Where the processor has AVX-512-BF16, one instruction multiplies and adds two pairs (`VDPBF16PS`, which takes subnormal numbers for zero).
//! Elsewhere a pair is split into its halves, two fused multiply-adds: the same products in the same order.

// Loops over the tile's constant extents unroll, and indices say which accumulator is meant.
#![allow(clippy::needless_range_loop)]

use pulp::{NullaryFnOnce, Simd, WithSimd};

use crate::Bf16;
use crate::lanes::{self, Scratch};
use crate::par;
use crate::simd;

/// How two pairs are multiplied and added, with vectors of `f32`.
trait Dot: Copy {
    type Sums: Copy;
    type Pairs: Copy;
    /// Vectors of sums in a tile: 12 rows of two fill 32 registers, 6 of two fill 16.
    const MANY: bool;
    /// # Safety
    /// That many `f32` can be read.
    unsafe fn load(self, from: *const f32) -> Self::Sums;
    /// # Safety
    /// That many `f32` can be written.
    unsafe fn store(self, to: *mut f32, sums: Self::Sums);
    /// # Safety
    /// That many pairs can be read.
    unsafe fn pairs(self, from: *const f32) -> Self::Pairs;
    fn splat(self, pair: u32) -> Self::Pairs;
    fn dot(self, sums: Self::Sums, a: Self::Pairs, b: Self::Pairs) -> Self::Sums;
}

/// Two fused multiply-adds, with any vectors.
#[derive(Clone, Copy)]
struct Portable<S>(S);

impl<S: Simd> Dot for Portable<S> {
    type Sums = S::f32s;
    type Pairs = S::u32s;
    const MANY: bool = S::REGISTER_COUNT >= 32;
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> S::f32s {
        // SAFETY: as the caller says.
        unsafe { from.cast::<S::f32s>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, sums: S::f32s) {
        // SAFETY: as the caller says.
        unsafe { to.cast::<S::f32s>().write_unaligned(sums) }
    }
    #[inline(always)]
    unsafe fn pairs(self, from: *const f32) -> S::u32s {
        // SAFETY: as the caller says; any bits are a `u32`.
        unsafe { from.cast::<S::u32s>().read_unaligned() }
    }
    #[inline(always)]
    fn splat(self, pair: u32) -> S::u32s {
        self.0.splat_u32s(pair)
    }
    #[inline(always)]
    fn dot(self, sums: S::f32s, a: S::u32s, b: S::u32s) -> S::f32s {
        let simd = self.0;
        let low = |x| simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(x, simd.splat_u32s(16)));
        let high = |x| simd.transmute_f32s_u32s(simd.and_u32s(x, simd.splat_u32s(0xffff_0000)));
        let sums = simd.mul_add_e_f32s(low(a), low(b), sums);
        simd.mul_add_e_f32s(high(a), high(b), sums)
    }
}

#[cfg(target_arch = "x86_64")]
mod hardware {
    use std::arch::x86_64::*;

    use super::Dot;

    /// AVX-512-BF16.
    #[derive(Clone, Copy)]
    pub(super) struct Avx512Bf16(());

    impl Avx512Bf16 {
        pub(super) fn new() -> Option<Avx512Bf16> {
            let there = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bf16");
            there.then_some(Avx512Bf16(()))
        }

        /// Calls a loop compiled for such processors.
        #[inline]
        pub(super) fn run(self, job: &mut super::Product<'_>) {
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
            fn compiled(dot: Avx512Bf16, job: &mut super::Product<'_>) {
                job.all(dot);
            }
            // SAFETY: `self` is there where the processor has all of these.
            unsafe { compiled(self, job) }
        }
    }

    impl Dot for Avx512Bf16 {
        type Sums = __m512;
        type Pairs = __m512i;
        const MANY: bool = true;
        #[inline(always)]
        unsafe fn load(self, from: *const f32) -> __m512 {
            // SAFETY: as the caller says.
            unsafe { from.cast::<__m512>().read_unaligned() }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32, sums: __m512) {
            // SAFETY: as the caller says.
            unsafe { to.cast::<__m512>().write_unaligned(sums) }
        }
        #[inline(always)]
        unsafe fn pairs(self, from: *const f32) -> __m512i {
            // SAFETY: as the caller says; any bits are integers.
            unsafe { from.cast::<__m512i>().read_unaligned() }
        }
        #[inline(always)]
        fn splat(self, pair: u32) -> __m512i {
            // SAFETY: `self` is there where the processor has AVX-512.
            unsafe { _mm512_set1_epi32(pair as i32) }
        }
        #[inline(always)]
        fn dot(self, sums: __m512, a: __m512i, b: __m512i) -> __m512 {
            // SAFETY: `self` is there where the processor has AVX-512-BF16; both types are 64 bytes, of which any are pairs of `bf16`.
            unsafe {
                _mm512_dpbf16_ps(sums, std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b))
            }
        }
    }
}

/// The instructions for products on this processor.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Instructions {
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    Portable,
}

impl Instructions {
    fn of_this_machine() -> Instructions {
        #[cfg(test)]
        if tests::PORTABLE.get() {
            return Instructions::Portable;
        }
        #[cfg(target_arch = "x86_64")]
        if hardware::Avx512Bf16::new().is_some() {
            return Instructions::Avx512Bf16;
        }
        Instructions::Portable
    }

    /// Columns of a vector.
    fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512Bf16 => 16,
            Instructions::Portable => lanes::dispatch(Ask),
        }
    }
}

/// Elements of a vector of `f32`.
struct Ask;

impl WithSimd for Ask {
    type Output = usize;
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// A right operand, `[segments][run][columns]`, packed: blocks of two vectors of columns (a last one of one vector if their number is odd),
/// in each the pairs of rows, in each of those the pairs of columns. An odd run and missing columns are filled with zeros.
pub(crate) struct Packed {
    instructions: Instructions,
    /// Pairs, each in the bits of an `f32`, the first number in the lower half.
    data: Scratch<f32>,
    run: usize,
    columns: usize,
}

/// A matrix to be packed: element `(k, n)` at `k row + n column`.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    pub(crate) data: &'a [Bf16],
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl Packed {
    /// `segments · run` rows of `columns` columns.
    pub(crate) fn new(right: Right<'_>, segments: usize, run: usize, columns: usize) -> Packed {
        let instructions = Instructions::of_this_machine();
        let (lanes, rows) = (instructions.lanes(), segments * run.div_ceil(2));
        let padded = columns.next_multiple_of(lanes);
        let mut data = Scratch::<f32>::new(rows * padded);
        assert!(
            segments * run * columns == 0 || (segments * run - 1) * right.row + (columns - 1) * right.column < right.data.len()
        );
        par::pieces(data.as_mut_slice(), (rows * 2 * lanes).max(1), 2 * rows * padded, |block, out| {
            let first = block * 2 * lanes;
            let width = (padded - first).min(2 * lanes);
            let columns = width.min(columns - first);
            simd::widest(Pack { right, run, first, columns, width, out });
        });
        Packed { instructions, data, run, columns }
    }

    /// Columns, padded to whole vectors.
    pub(crate) fn padded(&self) -> usize {
        self.columns.next_multiple_of(self.instructions.lanes())
    }
}

struct Pack<'a> {
    right: Right<'a>,
    run: usize,
    first: usize,
    columns: usize,
    width: usize,
    out: &'a mut [f32],
}

impl NullaryFnOnce for Pack<'_> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let Pack { right, run, first, columns, width, out } = self;
        let pair = |low: Bf16, high: Bf16| f32::from_bits(u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16);
        let pairs = run.div_ceil(2).max(1);
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            let (segment, r) = (i / pairs, 2 * (i % pairs));
            let at = (segment * run + r) * right.row + first * right.column;
            let (out, padding) = out.split_at_mut(columns);
            padding.fill(0.0);
            let low = &right.data[at..];
            if r + 1 == run {
                for (n, out) in out.iter_mut().enumerate() {
                    *out = pair(low[n * right.column], Bf16::default());
                }
            } else if right.column == 1 {
                let high = &right.data[at + right.row..][..columns];
                for ((out, &low), &high) in out.iter_mut().zip(&low[..columns]).zip(high) {
                    *out = pair(low, high);
                }
            } else {
                for (n, out) in out.iter_mut().enumerate() {
                    *out = pair(low[n * right.column], low[n * right.column + right.row]);
                }
            }
        }
    }
}

/// A product; see the module's equation.
pub(crate) struct Product<'a> {
    pub(crate) x: &'a [Bf16],
    /// Where each row's, or each pixel's, numbers start in `x`.
    pub(crate) x_at: &'a [usize],
    /// Offsets of their contiguous runs.
    pub(crate) segments: &'a [usize],
    pub(crate) w: &'a Packed,
    /// Padded to whole vectors; none is zero.
    pub(crate) bias: Option<&'a [f32]>,
    /// `[rows, columns]`.
    pub(crate) y: &'a mut [f32],
}

impl Product<'_> {
    pub(crate) fn run(mut self) {
        let (columns, rows) = (self.w.columns, self.x_at.len());
        assert_eq!(self.y.len(), rows * columns, "a product of {rows} rows and {columns} columns");
        assert!(self.bias.is_none_or(|bias| bias.len() >= self.w.padded()));
        assert_eq!(self.w.data.as_slice().len(), self.segments.len() * self.w.run.div_ceil(2) * self.w.padded());
        let reach = self.segments.iter().max().map_or(0, |s| s + self.w.run);
        assert!(reach == 0 || self.x_at.iter().all(|&x| x + reach <= self.x.len()));
        if rows == 0 {
            return;
        }
        match self.w.instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512Bf16 => hardware::Avx512Bf16::new().expect("the operand was packed for it").run(&mut self),
            Instructions::Portable => lanes::dispatch(AnyVectors(&mut self)),
        }
    }

    /// All rows and columns.
    #[inline(always)]
    fn all<D: Dot>(&mut self, dot: D) {
        let lanes = size_of::<D::Sums>() / size_of::<f32>();
        let padded = self.w.columns.next_multiple_of(lanes);
        let mut first = 0;
        while first < padded {
            // SAFETY: `run` has asserted everything.
            unsafe {
                if first + 2 * lanes <= padded {
                    self.block::<D, 2>(dot, first);
                    first += 2 * lanes;
                } else {
                    self.block::<D, 1>(dot, first);
                    first += lanes;
                }
            }
        }
    }

    /// All rows of `N` vectors of columns.
    ///
    /// # Safety
    /// As asserted in [`run`](Self::run).
    #[inline(always)]
    unsafe fn block<D: Dot, const N: usize>(&mut self, dot: D, first: usize) {
        let mut p = 0;
        while p < self.x_at.len() {
            let left = self.x_at.len() - p;
            // SAFETY: passed on.
            unsafe {
                if left > 6 && D::MANY {
                    self.tile::<D, 12, N>(dot, first, p);
                    p += 12;
                } else if left > 2 {
                    self.tile::<D, 6, N>(dot, first, p);
                    p += 6;
                } else {
                    self.tile::<D, 2, N>(dot, first, p);
                    p += 2;
                }
            }
        }
    }

    /// Rows `p..p + M`, as far as there are so many.
    ///
    /// # Safety
    /// As asserted in [`run`](Self::run); `p` is a row.
    #[inline(always)]
    unsafe fn tile<D: Dot, const M: usize, const N: usize>(&mut self, dot: D, first: usize, p: usize) {
        let lanes = size_of::<D::Sums>() / size_of::<f32>();
        let (last, run, columns) = (self.x_at.len() - 1, self.w.run, self.w.columns);
        let zero = [0.0f32; lanes::MOST];
        // SAFETY: rows are clamped to the last, runs lie in `x`, blocks in `w`, columns in `y`, as asserted by `run`; `zero` is as long as
        // any vector.
        unsafe {
            let mut rows = [self.x.as_ptr(); M];
            for m in 0..M {
                rows[m] = rows[m].add(*self.x_at.get_unchecked((p + m).min(last)));
            }
            let mut w = self.w.data.as_slice().as_ptr().add(self.segments.len() * run.div_ceil(2) * first);
            let mut sums = [[dot.load(zero.as_ptr()); N]; M];
            if let Some(bias) = self.bias {
                for n in 0..N {
                    let bias = dot.load(bias.as_ptr().add(first + n * lanes));
                    for row in &mut sums {
                        row[n] = bias;
                    }
                }
            }
            for &segment in self.segments {
                let mut at = rows;
                for at in &mut at {
                    *at = at.add(segment);
                }
                for r in (0..run & !1).step_by(2) {
                    let mut b = [dot.pairs(w); N];
                    for n in 1..N {
                        b[n] = dot.pairs(w.add(n * lanes));
                    }
                    w = w.add(N * lanes);
                    for m in 0..M {
                        let x = at[m].add(r);
                        let a = dot.splat(u32::from((*x).to_bits()) | u32::from((*x.add(1)).to_bits()) << 16);
                        for n in 0..N {
                            sums[m][n] = dot.dot(sums[m][n], a, b[n]);
                        }
                    }
                }
                if run & 1 == 1 {
                    // A last number without a second one.
                    let mut b = [dot.pairs(w); N];
                    for n in 1..N {
                        b[n] = dot.pairs(w.add(n * lanes));
                    }
                    w = w.add(N * lanes);
                    for m in 0..M {
                        let a = dot.splat(u32::from((*at[m].add(run - 1)).to_bits()));
                        for n in 0..N {
                            sums[m][n] = dot.dot(sums[m][n], a, b[n]);
                        }
                    }
                }
            }
            for m in 0..M {
                if p + m > last {
                    break;
                }
                let y = self.y.as_mut_ptr().add((p + m) * columns + first);
                if first + N * lanes <= columns {
                    for n in 0..N {
                        dot.store(y.add(n * lanes), sums[m][n]);
                    }
                } else {
                    // A copy, so that the address of the sums is never taken and they stay in registers.
                    let row = sums[m];
                    std::ptr::copy_nonoverlapping(row.as_ptr().cast::<f32>(), y, columns - first);
                }
            }
        }
    }
}

/// A product with any vectors.
struct AnyVectors<'a, 'b>(&'a mut Product<'b>);

impl WithSimd for AnyVectors<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.all(Portable(simd));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::lanes::tests::Vectors;
    use crate::{Dtype, Noise};

    thread_local! {
        /// Whether operands are packed, on this thread, for processors without AVX-512-BF16.
        pub(crate) static PORTABLE: Cell<bool> = const { Cell::new(false) };
    }

    fn numbers(n: usize, step: u32) -> Vec<Bf16> {
        Noise::new(51, 0).normal(&[1, n], 0, step, Dtype::F64).to_vec::<Bf16>()
    }

    /// Every kind of instructions and vectors, of which there may be fewer on this machine.
    pub(crate) fn each_way(mut f: impl FnMut(&str)) {
        f("this machine's");
        PORTABLE.set(true);
        for &vectors in Vectors::ALL {
            vectors.with(|| f(&format!("{vectors:?}")));
        }
        PORTABLE.set(false);
    }

    #[test]
    fn sums_are_exact_to_the_roundings_of_f32_for_all_instructions_and_any_extents() {
        // (rows, segments, run, columns): odd runs, single rows and columns, more than a block.
        let cases = [(1, 1, 1, 1), (13, 1, 64, 48), (7, 3, 9, 33), (25, 2, 6, 5), (2, 3, 3, 70), (12, 1, 33, 16), (3, 1, 0, 4)];
        for (rows, segments, run, columns) in cases {
            let k = segments * run;
            // Segments with a gap between them, rows that overlap.
            let (gap, stride) = (run + 2, 3);
            let x = numbers((rows - 1) * stride + segments * gap, 0);
            let w = numbers(k * columns, 1);
            let x_at: Vec<usize> = (0..rows).map(|p| p * stride).collect();
            let offsets: Vec<usize> = if run == 0 { vec![] } else { (0..segments).map(|s| s * gap).collect() };
            for transposed in [false, true] {
                let (row, column) = if transposed { (1, k) } else { (columns, 1) };
                each_way(|way| {
                    let packed = Packed::new(Right { data: &w, row, column }, offsets.len(), run, columns);
                    let bias: Vec<f32> = (0..packed.padded()).map(|n| n as f32 - 2.5).collect();
                    for bias in [None, Some(&bias[..])] {
                        let mut y = vec![f32::NAN; rows * columns];
                        Product { x: &x, x_at: &x_at, segments: &offsets, w: &packed, bias, y: &mut y }.run();
                        for (at, &y) in y.iter().enumerate() {
                            let (p, n) = (at / columns, at % columns);
                            let (mut sum, mut size) = (bias.map_or(0.0, |b| f64::from(b[n])), 0.0f64);
                            size += sum.abs();
                            for (i, &segment) in offsets.iter().enumerate() {
                                for r in 0..run {
                                    let a = f64::from(x[x_at[p] + segment + r].to_f32());
                                    let term = a * f64::from(w[(i * run + r) * row + n * column].to_f32());
                                    sum += term;
                                    size += term.abs();
                                }
                            }
                            let bound = (k + 1) as f64 * 2f64.powi(-24) * size;
                            let case = (rows, segments, run, columns);
                            assert!((f64::from(y) - sum).abs() <= bound, "{way}, {case:?}: {y} for {sum} at row {p}, column {n}");
                        }
                    }
                });
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so_and_does_not_leave_its_row() {
        let mut x = numbers(3 * 7, 0);
        x[7 + 6] = Bf16::from_f32(f32::NAN);
        let w = numbers(7 * 20, 1);
        each_way(|way| {
            let packed = Packed::new(Right { data: &w, row: 20, column: 1 }, 1, 7, 20);
            let mut y = vec![0.0; 3 * 20];
            Product { x: &x, x_at: &[0, 7, 14], segments: &[0], w: &packed, bias: None, y: &mut y }.run();
            for (at, y) in y.iter().enumerate() {
                assert_eq!(y.is_nan(), at / 20 == 1, "{way}: element {at}");
            }
        });
    }
}

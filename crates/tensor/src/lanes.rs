//! Vectors of an element type, for loops that are written for them by hand: results kept in registers, fused multiply-adds.
//!
//! A loop is a struct with [`WithSimd`], run by [`dispatch`] with the widest vectors of this processor. It must work for any width,
//! down to one element.

#[cfg(target_arch = "x86_64")]
use std::any::TypeId;

use pulp::{Simd, WithSimd};

use crate::Bf16;
use crate::element::num::Real;
use crate::element::{Element, Stored};
use crate::storage::Buffer;

/// Asks for the cache line at `p`, which need not be valid: for memory that is read in an order the machine does not foresee.
#[inline(always)]
pub(crate) fn prefetch<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has SSE, and a hint reads nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// An element with vectors.
pub(crate) trait Lanes: Element {
    type V<S: Simd>: Copy;
    fn splat<S: Simd>(simd: S, x: Self) -> Self::V<S>;
    /// `a b + c`.
    fn mul_add<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>, c: Self::V<S>) -> Self::V<S>;
    fn plus<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    fn minus<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    fn times<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// `1 / (1 + e^-x)`; of a NaN some number.
    fn logistic<S: Simd>(simd: S, x: Self::V<S>) -> Self::V<S>;

    /// `x sigmoid(x)`.
    #[inline(always)]
    fn silu<S: Simd>(simd: S, x: Self::V<S>) -> Self::V<S> {
        Self::times(simd, x, Self::logistic(simd, x))
    }

    /// The derivative of [`silu`](Self::silu).
    #[inline(always)]
    fn silu_slope<S: Simd>(simd: S, x: Self::V<S>) -> Self::V<S> {
        let s = Self::logistic(simd, x);
        let one = Self::splat(simd, Self::ONE);
        Self::times(simd, s, Self::mul_add(simd, x, Self::minus(simd, one, s), one))
    }
}

impl Lanes for f32 {
    type V<S: Simd> = S::f32s;
    #[inline(always)]
    fn splat<S: Simd>(simd: S, x: f32) -> S::f32s {
        simd.splat_f32s(x)
    }
    #[inline(always)]
    fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(a, b, c)
    }
    #[inline(always)]
    fn plus<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.add_f32s(a, b)
    }
    #[inline(always)]
    fn minus<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.sub_f32s(a, b)
    }
    #[inline(always)]
    fn times<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.mul_f32s(a, b)
    }

    /// `e^-x` as in [`Real::exp`], but for arguments that keep `2^n` a normal number, so that one factor is enough: beyond them the
    /// result is 1, or within 1e-37 of 0.
    #[inline(always)]
    fn logistic<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        const MOST: f32 = 87.0;
        // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low mantissa bits.
        const ROUND: f32 = 12_582_912.0;
        // ln 2 in two parts, the first exact in products with |n| <= 128.
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        let c = |x: f32| simd.splat_f32s(x);
        let t = simd.max_f32s(simd.min_f32s(simd.neg_f32s(x), c(MOST)), c(-MOST));
        let shifted = simd.mul_add_e_f32s(t, c(std::f32::consts::LOG2_E), c(ROUND));
        let n = simd.sub_f32s(shifted, c(ROUND));
        let r = simd.mul_add_e_f32s(n, c(-LN_2_LOW), simd.mul_add_e_f32s(n, c(-LN_2_HIGH), t));
        // Minimax coefficients of e^r on [-ln2/2, ln2/2], after 1 + r.
        let mut p = c(1.987_569_1e-4);
        for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = simd.mul_add_e_f32s(p, r, c(coefficient));
        }
        let e_r = simd.add_f32s(simd.mul_add_e_f32s(p, simd.mul_f32s(r, r), r), c(1.0));
        // n in the exponent: the bits of ROUND leave at the top.
        let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
        let power = simd.transmute_f32s_u32s(simd.add_u32s(exponent, simd.splat_u32s(127 << 23)));
        simd.div_f32s(c(1.0), simd.mul_add_e_f32s(e_r, power, c(1.0)))
    }
}

impl Lanes for f64 {
    type V<S: Simd> = S::f64s;
    #[inline(always)]
    fn splat<S: Simd>(simd: S, x: f64) -> S::f64s {
        simd.splat_f64s(x)
    }
    #[inline(always)]
    fn mul_add<S: Simd>(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
        simd.mul_add_e_f64s(a, b, c)
    }
    #[inline(always)]
    fn plus<S: Simd>(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.add_f64s(a, b)
    }
    #[inline(always)]
    fn minus<S: Simd>(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.sub_f64s(a, b)
    }
    #[inline(always)]
    fn times<S: Simd>(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.mul_f64s(a, b)
    }
    #[inline(always)]
    fn logistic<S: Simd>(_: S, mut x: S::f64s) -> S::f64s {
        let elements = (&raw mut x).cast::<f64>();
        for i in 0..width::<S, f64>() {
            // SAFETY: a vector is that many elements.
            unsafe { *elements.add(i) = Real::sigmoid(*elements.add(i)) };
        }
        x
    }
}

/// What vectors of `T` are read from and written to: `T` itself, and for `f32` also `bf16`, widened and rounded.
pub(crate) trait Held<T: Lanes>: Stored {
    /// Whether these are elements of `T`, read and written by a single instruction.
    const PLAIN: bool;
    /// # Safety
    /// As many elements as a vector has can be read.
    unsafe fn read<S: Simd>(simd: S, from: *const Self) -> T::V<S>;
    /// # Safety
    /// As many elements as a vector has can be written.
    unsafe fn write<S: Simd>(simd: S, to: *mut Self, v: T::V<S>);
    /// This element.
    fn element(self) -> T;
}

impl<T: Lanes> Held<T> for T {
    const PLAIN: bool = true;
    #[inline(always)]
    unsafe fn read<S: Simd>(_: S, from: *const T) -> T::V<S> {
        // SAFETY: as the caller says.
        unsafe { from.cast::<T::V<S>>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn write<S: Simd>(_: S, to: *mut T, v: T::V<S>) {
        // SAFETY: as the caller says.
        unsafe { to.cast::<T::V<S>>().write_unaligned(v) };
    }
    #[inline(always)]
    fn element(self) -> T {
        self
    }
}

impl Held<f32> for Bf16 {
    const PLAIN: bool = false;
    #[inline(always)]
    unsafe fn read<S: Simd>(simd: S, from: *const Bf16) -> S::f32s {
        #[cfg(target_arch = "x86_64")]
        if TypeId::of::<S>() == TypeId::of::<pulp::x86::V4>() {
            use std::arch::x86_64::*;
            // SAFETY: the processor has AVX-512, since there is an `S`, whose vectors are these; the caller says that they can be read.
            return unsafe {
                let wide = _mm512_cvtepu16_epi32(from.cast::<__m256i>().read_unaligned());
                std::mem::transmute_copy(&_mm512_slli_epi32::<16>(wide))
            };
        }
        let mut v = simd.splat_f32s(0.0);
        for i in 0..S::F32_LANES {
            // SAFETY: a vector is that many elements, of which the caller says that they can be read.
            unsafe { *(&raw mut v).cast::<f32>().add(i) = (*from.add(i)).to_f32() };
        }
        v
    }
    #[inline(always)]
    unsafe fn write<S: Simd>(_: S, to: *mut Bf16, v: S::f32s) {
        #[cfg(target_arch = "x86_64")]
        if TypeId::of::<S>() == TypeId::of::<pulp::x86::V4>() {
            use std::arch::x86_64::*;
            // SAFETY: as in `read`. The steps are those of `Bf16::from_f32`.
            return unsafe {
                let v: __m512 = std::mem::transmute_copy(&v);
                let bits = _mm512_castps_si512(v);
                let high = _mm512_srli_epi32::<16>(bits);
                let half = _mm512_add_epi32(_mm512_set1_epi32(0x7fff), _mm512_and_si512(high, _mm512_set1_epi32(1)));
                let nearest = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, half));
                let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
                let rounded = _mm512_mask_or_epi32(nearest, is_nan, high, _mm512_set1_epi32(0x40));
                to.cast::<__m256i>().write_unaligned(_mm512_cvtepi32_epi16(rounded));
            };
        }
        for i in 0..S::F32_LANES {
            // SAFETY: a vector is that many elements, for which the caller says that there is room.
            unsafe { *to.add(i) = Bf16::from_f32(*(&raw const v).cast::<f32>().add(i)) };
        }
    }
    #[inline(always)]
    fn element(self) -> f32 {
        self.to_f32()
    }
}

/// The vector at `i` of a row of what holds it: its last elements, then zeros, where it ends before.
#[inline(always)]
pub(crate) fn part_of<S: Simd, T: Lanes, X: Held<T>>(simd: S, row: &[X], i: usize) -> T::V<S> {
    let lanes = width::<S, T>();
    if i + lanes <= row.len() {
        // SAFETY: the vector lies in the row.
        return unsafe { X::read(simd, row.as_ptr().add(i)) };
    }
    let rest = &row[i.min(row.len())..];
    let mut elements = [X::default(); MOST];
    elements[..rest.len()].copy_from_slice(rest);
    // SAFETY: no vector has more elements.
    unsafe { X::read(simd, elements.as_ptr()) }
}

/// Writes the vector at `i` of a row of what holds it, as far as the row goes.
#[inline(always)]
pub(crate) fn put_in<S: Simd, T: Lanes, X: Held<T>>(simd: S, row: &mut [X], i: usize, v: T::V<S>) {
    let lanes = width::<S, T>();
    if i + lanes <= row.len() {
        // SAFETY: the vector lies in the row.
        return unsafe { X::write(simd, row.as_mut_ptr().add(i), v) };
    }
    let i = i.min(row.len());
    let mut elements = [X::default(); MOST];
    // SAFETY: no vector has more elements.
    unsafe { X::write(simd, elements.as_mut_ptr(), v) };
    let rest = &mut row[i..];
    rest.copy_from_slice(&elements[..rest.len()]);
}

/// Elements of a vector.
#[inline(always)]
pub(crate) const fn width<S: Simd, T: Lanes>() -> usize {
    size_of::<T::V<S>>() / size_of::<T>()
}

/// Elements per vector on this processor.
pub(crate) fn lanes<T: Lanes>() -> usize {
    struct Ask<T>(std::marker::PhantomData<T>);
    impl<T: Lanes> WithSimd for Ask<T> {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            width::<S, T>()
        }
    }
    dispatch(Ask::<T>(std::marker::PhantomData))
}

/// Runs a loop with the widest vectors of this processor.
pub(crate) fn dispatch<F: WithSimd>(f: F) -> F::Output {
    #[cfg(test)]
    if let Some(vectors) = tests::CHOSEN.get() {
        return vectors.run(f);
    }
    pulp::Arch::new().dispatch(f)
}

/// The vector at `i`.
///
/// # Panics
/// If it does not lie in the slice.
#[inline(always)]
pub(crate) fn load<S: Simd, T: Lanes>(_: S, x: &[T], i: usize) -> T::V<S> {
    let part = &x[i..i + width::<S, T>()];
    // SAFETY: the slice has the length of a vector.
    unsafe { part.as_ptr().cast::<T::V<S>>().read_unaligned() }
}

/// Writes the vector at `i`.
///
/// # Panics
/// If it does not lie in the slice.
#[inline(always)]
pub(crate) fn store<S: Simd, T: Lanes>(_: S, x: &mut [T], i: usize, v: T::V<S>) {
    let part = &mut x[i..i + width::<S, T>()];
    // SAFETY: the slice has the length of a vector.
    unsafe { part.as_mut_ptr().cast::<T::V<S>>().write_unaligned(v) };
}

/// As many elements as the slice has (a vector's at most), then zeros.
#[inline(always)]
pub(crate) fn load_part<S: Simd, T: Lanes>(simd: S, x: &[T]) -> T::V<S> {
    // A copy of some length is a call of a function: far slower than a load.
    if x.len() >= width::<S, T>() {
        return load(simd, x, 0);
    }
    let mut v = T::splat(simd, T::ZERO);
    // SAFETY: that many elements are in the slice, and a vector has room for them.
    unsafe { std::ptr::copy_nonoverlapping(x.as_ptr(), (&raw mut v).cast::<T>(), x.len().min(width::<S, T>())) };
    v
}

/// Writes as many elements as the slice has room for.
#[inline(always)]
pub(crate) fn store_part<S: Simd, T: Lanes>(simd: S, x: &mut [T], v: T::V<S>) {
    if x.len() >= width::<S, T>() {
        return store(simd, x, 0, v);
    }
    let n = x.len().min(width::<S, T>());
    // SAFETY: the slice has room for `n` elements, and a vector has as many.
    unsafe { std::ptr::copy_nonoverlapping((&raw const v).cast::<T>(), x.as_mut_ptr(), n) };
}

/// The vector at `i` of a row: its last elements, then zeros, where it ends before.
#[inline(always)]
pub(crate) fn part<S: Simd, T: Lanes>(simd: S, row: &[T], i: usize) -> T::V<S> {
    if i + width::<S, T>() <= row.len() { load(simd, row, i) } else { load_part(simd, &row[i.min(row.len())..]) }
}

/// Writes the vector at `i` of a row, as far as the row goes.
#[inline(always)]
pub(crate) fn put<S: Simd, T: Lanes>(simd: S, row: &mut [T], i: usize, v: T::V<S>) {
    if i + width::<S, T>() <= row.len() {
        store(simd, row, i, v)
    } else {
        let i = i.min(row.len());
        store_part(simd, &mut row[i..], v)
    }
}

/// Elements of the widest vector there is (64 bytes of `f32`).
pub(crate) const MOST: usize = 16;

/// `sums[i..] += v`.
#[inline(always)]
pub(crate) fn widen<S: Simd, T: Lanes>(simd: S, sums: &mut [f64], i: usize, v: T::V<S>) {
    let lanes = width::<S, T>();
    let mut elements = [T::ZERO; MOST];
    store_part(simd, &mut elements[..lanes], v);
    let i = i.min(sums.len());
    for (sum, &x) in sums[i..].iter_mut().zip(&elements[..lanes]) {
        *sum += x.wide();
    }
}

/// Recycled memory that starts on a cache line, so that no vector load straddles two.
pub(crate) struct Scratch<T: Stored> {
    buffer: Buffer<T>,
    start: usize,
    len: usize,
}

impl<T: Stored> Scratch<T> {
    /// `len` elements with unspecified values.
    pub(crate) fn new(len: usize) -> Self {
        let spare = 64 / size_of::<T>();
        let buffer = Buffer::<T>::uninit(len + spare);
        let start = buffer.as_slice().as_ptr().align_offset(64).min(spare);
        Scratch { buffer, start, len }
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        &self.buffer.as_slice()[self.start..self.start + self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.buffer.as_mut_slice()[self.start..self.start + self.len]
    }
}

/// Whether every number of `x` is finite.
pub(crate) struct AllFinite<'a, T> {
    pub(crate) x: &'a [T],
}

impl<T: Lanes> WithSimd for AllFinite<'_, T> {
    type Output = bool;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let lanes = width::<S, T>();
        let zero = T::splat(simd, T::ZERO);
        // 0 times what is not finite is NaN, and NaN stays in a sum.
        let mut sums = [zero; 4];
        let whole = self.x.len() / (4 * lanes) * (4 * lanes);
        for at in (0..whole).step_by(4 * lanes) {
            for (k, sum) in sums.iter_mut().enumerate() {
                *sum = T::mul_add(simd, load(simd, self.x, at + k * lanes), zero, *sum);
            }
        }
        for at in (whole..self.x.len()).step_by(lanes) {
            sums[0] = T::mul_add(simd, part(simd, self.x, at), zero, sums[0]);
        }
        let sum = T::plus(simd, T::plus(simd, sums[0], sums[1]), T::plus(simd, sums[2], sums[3]));
        let mut elements = [T::ZERO; MOST];
        store_part(simd, &mut elements[..lanes], sum);
        elements[..lanes].iter().all(|&x| x == T::ZERO)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use pulp::NullaryFnOnce;

    use super::*;

    /// How vectors are represented: the widest of this machine, narrower ones, none.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Vectors {
        Widest,
        #[cfg(target_arch = "x86_64")]
        Avx2,
        Portable,
        None,
    }

    thread_local! {
        /// What [`dispatch`] and [`simd::widest`](crate::simd::widest) use on this thread (work small enough that it is not handed to another).
        pub(crate) static CHOSEN: Cell<Option<Vectors>> = const { Cell::new(None) };
    }

    impl Vectors {
        pub(crate) const ALL: &[Vectors] = &[
            Vectors::Widest,
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx2,
            Vectors::Portable,
            Vectors::None,
        ];

        pub(crate) fn run<F: WithSimd>(self, f: F) -> F::Output {
            match self {
                Vectors::Widest => pulp::Arch::new().dispatch(f),
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx2 => match pulp::x86::V3::try_new() {
                    Some(simd) => simd.vectorize(AsNullary { simd, f }),
                    None => f.with_simd(pulp::Scalar),
                },
                Vectors::Portable => f.with_simd(pulp::Scalar256b),
                Vectors::None => f.with_simd(pulp::Scalar),
            }
        }

        /// A loop that is not written with vectors, compiled for them.
        pub(crate) fn compiled<F: NullaryFnOnce>(self, f: F) -> F::Output {
            match self {
                Vectors::Widest => pulp::Arch::new().dispatch(f),
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx2 => match pulp::x86::V3::try_new() {
                    Some(simd) => simd.vectorize(f),
                    None => f.call(),
                },
                Vectors::Portable | Vectors::None => f.call(),
            }
        }

        /// Calls `f` with [`dispatch`] and [`simd::widest`](crate::simd::widest) choosing these vectors on this thread.
        pub(crate) fn with<R>(self, f: impl FnOnce() -> R) -> R {
            CHOSEN.set(Some(self));
            let result = f();
            CHOSEN.set(None);
            result
        }
    }

    #[cfg(target_arch = "x86_64")]
    struct AsNullary<S, F> {
        simd: S,
        f: F,
    }

    #[cfg(target_arch = "x86_64")]
    impl<S: Simd, F: WithSimd> NullaryFnOnce for AsNullary<S, F> {
        type Output = F::Output;
        #[inline(always)]
        fn call(self) -> F::Output {
            self.f.with_simd(self.simd)
        }
    }

    struct Silu<'a, T> {
        x: &'a mut [T],
        slope: &'a mut [T],
    }

    impl<T: Lanes> WithSimd for Silu<'_, T> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for (x, slope) in self.x.chunks_mut(width::<S, T>()).zip(self.slope.chunks_mut(width::<S, T>())) {
                let v = load_part::<S, T>(simd, x);
                store_part::<S, T>(simd, x, T::silu(simd, v));
                store_part::<S, T>(simd, slope, T::silu_slope(simd, v));
            }
        }
    }

    #[test]
    fn silu_and_its_slope_are_exact_to_a_few_roundings_for_every_width_and_keep_nan() {
        let exact = |x: f64| {
            let s = 1.0 / (1.0 + (-x).exp());
            (x * s, s * (1.0 + x * (1.0 - s)))
        };
        let xs: Vec<f32> = (0..40_001).map(|i| (i - 20_000) as f32 * 0.0049).collect();
        for &vectors in Vectors::ALL {
            let (mut y, mut slope) = (xs.clone(), vec![0.0; xs.len()]);
            vectors.run(Silu { x: &mut y, slope: &mut slope });
            for ((&x, &y), &slope) in xs.iter().zip(&y).zip(&slope) {
                let (value, derivative) = exact(f64::from(x));
                assert!((f64::from(y) - value).abs() <= 4e-7 * value.abs() + 1e-34, "{vectors:?}: silu({x}) = {y}, not {value}");
                // `1 - s` has the rounding of `s`, which `x` multiplies.
                let tolerance = 1.5e-7 * (1.0 + f64::from(x).abs());
                assert!((f64::from(slope) - derivative).abs() <= tolerance, "{vectors:?}: at {x} {slope}, not {derivative}");
            }
            let (mut y, mut slope) = ([f32::NAN, 1e30, -1e30], [0.0; 3]);
            vectors.run(Silu { x: &mut y, slope: &mut slope });
            assert!(y[0].is_nan() && slope[0].is_nan() && y[1] == 1e30 && y[2].abs() < 1e-6, "{vectors:?}: {y:?} {slope:?}");
            let (mut y, mut slope) = ([-1.5f64, 0.0, 2.5], [0.0; 3]);
            vectors.run(Silu { x: &mut y, slope: &mut slope });
            for (x, (y, slope)) in [-1.5, 0.0, 2.5].into_iter().zip(y.into_iter().zip(slope)) {
                let (value, derivative) = exact(x);
                assert!((y - value).abs() < 1e-15 && (slope - derivative).abs() < 1e-15, "{vectors:?}: at {x}");
            }
        }
    }

    #[test]
    fn a_number_that_is_not_finite_is_found_at_any_place() {
        for len in [1, 31, 32, 33, 64, 4095, 4097, 9000] {
            let finite: Vec<f32> = (0..len).map(|i| if i % 2 == 0 { f32::MAX } else { -0.0 }).collect();
            assert!(crate::Tensor::from_vec(&[len], finite.clone()).all_finite(), "{len} finite numbers");
            for (place, bad) in [(0, f32::NAN), (len / 2, f32::INFINITY), (len - 1, f32::NEG_INFINITY), (len - 1, f32::NAN)] {
                let mut x = finite.clone();
                x[place] = bad;
                assert!(!crate::Tensor::from_vec(&[len], x).all_finite(), "{bad} at {place} of {len}");
            }
        }
    }
}

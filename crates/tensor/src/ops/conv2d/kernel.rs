//! The register-tiled inner loops of convolution, for any vector width.
//!
//! Both keep a small tile of results in registers and, per step, load a few vectors along the output channels, broadcast
//! one input value per tile row and fuse a multiply-add for each pair. Input values are read where they lie, so no
//! matrix of patches is ever written.

// Loops over the tile's constant extents unroll, and indices say which accumulator is meant.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use crate::lanes::{Lanes, width};

/// `y[p, :] = bias + Σ_s Σ_r x[x_at[p] + segments[s] + r] · w[s, r, :]` for a list of pixels `p`.
pub(super) struct Correlate<'a, T> {
    pub(super) x: &'a [T],
    /// Where each pixel's patch starts in `x`.
    pub(super) x_at: &'a [usize],
    /// Offsets of a patch's contiguous runs.
    pub(super) segments: &'a [usize],
    /// Length of each run.
    pub(super) run: usize,
    /// `[channels / block][segments · run][block]`: blocks of two vectors, a last one of one vector if the number of
    /// vectors is odd; padded with zeros.
    pub(super) w: &'a [T],
    /// Padded to whole vectors.
    pub(super) bias: &'a [T],
    pub(super) y: &'a mut [T],
    /// Where each pixel's channels start in `y`.
    pub(super) y_at: &'a [usize],
    /// Output channels.
    pub(super) channels: usize,
}

impl<T: Lanes> WithSimd for Correlate<'_, T> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = width::<S, T>();
        let (k, padded) = (self.segments.len() * self.run, self.channels.next_multiple_of(lanes));
        assert_eq!(self.x_at.len(), self.y_at.len());
        assert!(self.w.len() >= k * padded && self.bias.len() >= padded);
        let reach = self.segments.iter().max().map_or(0, |s| s + self.run);
        assert!(reach == 0 || self.x_at.iter().all(|&x| x + reach <= self.x.len()));
        assert!(self.y_at.iter().all(|&y| y + self.channels <= self.y.len()));
        let mut first = 0;
        while first < padded {
            // SAFETY: everything `block` asks for was just asserted.
            unsafe {
                if first + 2 * lanes <= padded {
                    self.block::<S, 2>(simd, first);
                    first += 2 * lanes;
                } else {
                    self.block::<S, 1>(simd, first);
                    first += lanes;
                }
            }
        }
    }
}

impl<T: Lanes> Correlate<'_, T> {
    /// All pixels, output channels `first..first + N vectors`.
    ///
    /// # Safety
    /// Every patch lies in `x`, every pixel's channels in `y`, `w` and `bias` are padded to whole vectors.
    #[inline(always)]
    unsafe fn block<S: Simd, const N: usize>(&mut self, simd: S, first: usize) {
        let mut p = 0;
        while p < self.x_at.len() {
            let left = self.x_at.len() - p;
            // SAFETY: passed on.
            unsafe {
                // 12 × 2 accumulators fill 32 registers, 6 × 2 fill 16.
                if left > 6 && S::REGISTER_COUNT >= 32 {
                    self.tile::<S, 12, N>(simd, first, p);
                    p += 12;
                } else if left > 2 {
                    self.tile::<S, 6, N>(simd, first, p);
                    p += 6;
                } else {
                    self.tile::<S, 2, N>(simd, first, p);
                    p += 2;
                }
            }
        }
    }

    /// Pixels `p..p + M`, as far as there are so many.
    ///
    /// # Safety
    /// As for [`block`](Self::block); `p` is a pixel.
    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize, const N: usize>(&mut self, simd: S, first: usize, p: usize) {
        let lanes = width::<S, T>();
        let last = self.x_at.len() - 1;
        // SAFETY: indices are clamped to the last pixel, patches lie in `x` (all asserted by the caller).
        unsafe {
            let mut patch = [self.x.as_ptr(); M];
            for m in 0..M {
                patch[m] = patch[m].add(*self.x_at.get_unchecked((p + m).min(last)));
            }
            let mut w = self.w.as_ptr().add(self.segments.len() * self.run * first);
            let mut sums = [[T::splat(simd, T::ZERO); N]; M];
            for n in 0..N {
                let bias = self.bias.as_ptr().add(first + n * lanes).cast::<T::V<S>>().read_unaligned();
                for row in &mut sums {
                    row[n] = bias;
                }
            }
            for &segment in self.segments {
                let mut at = patch;
                for at in &mut at {
                    *at = at.add(segment);
                }
                for r in 0..self.run {
                    let mut b = [T::splat(simd, T::ZERO); N];
                    for n in 0..N {
                        b[n] = w.cast::<T::V<S>>().add(n).read_unaligned();
                    }
                    w = w.add(N * lanes);
                    for m in 0..M {
                        let a = T::splat(simd, *at[m].add(r));
                        for n in 0..N {
                            sums[m][n] = T::mul_add(simd, a, b[n], sums[m][n]);
                        }
                    }
                }
            }
            if first + N * lanes <= self.channels {
                for m in 0..M {
                    if p + m <= last {
                        let y = self.y.as_mut_ptr().add(*self.y_at.get_unchecked(p + m) + first);
                        for n in 0..N {
                            y.cast::<T::V<S>>().add(n).write_unaligned(sums[m][n]);
                        }
                    }
                }
            } else {
                for m in 0..M {
                    if p + m <= last {
                        let y = self.y.as_mut_ptr().add(*self.y_at.get_unchecked(p + m) + first);
                        // A copy, so that the address of the sums is never taken and they stay in registers.
                        let row = sums[m];
                        std::ptr::copy_nonoverlapping(row.as_ptr().cast::<T>(), y, self.channels - first);
                    }
                }
            }
        }
    }
}

/// `dw[r, :] += Σ_rows Σ_i x[x_at + i · x_step + r] · g[g_at + i · channels, :]` for `r` in `0..run`, over a list of rows
/// of `width` pixels.
pub(super) struct Outer<'a, T> {
    pub(super) x: &'a [T],
    pub(super) x_step: usize,
    /// `[pixels, channels]`, channels padded to whole vectors.
    pub(super) g: &'a [T],
    /// Where each row of pixels starts in `x` and in `g`.
    pub(super) rows: &'a [(usize, usize)],
    pub(super) width: usize,
    pub(super) run: usize,
    /// Padded output channels.
    pub(super) channels: usize,
    /// `[run, channels]`.
    pub(super) dw: &'a mut [T],
}

impl<T: Lanes> WithSimd for Outer<'_, T> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = width::<S, T>();
        assert_eq!(self.channels % lanes, 0);
        if self.width == 0 || self.run == 0 {
            return;
        }
        let (x_reach, g_reach) = ((self.width - 1) * self.x_step + self.run, self.width * self.channels);
        assert!(self.rows.iter().all(|&(x, g)| x + x_reach <= self.x.len() && g + g_reach <= self.g.len()));
        assert!(self.run * self.channels <= self.dw.len());
        let mut first = 0;
        while first < self.channels {
            // SAFETY: everything `block` asks for was just asserted.
            unsafe {
                if first + 2 * lanes <= self.channels {
                    self.block::<S, 2>(simd, first);
                    first += 2 * lanes;
                } else {
                    self.block::<S, 1>(simd, first);
                    first += lanes;
                }
            }
        }
    }
}

impl<T: Lanes> Outer<'_, T> {
    /// All of `r`, output channels `first..first + N vectors`.
    ///
    /// # Safety
    /// All rows lie in `x` and `g`, `dw` has `run · channels` elements.
    #[inline(always)]
    unsafe fn block<S: Simd, const N: usize>(&mut self, simd: S, first: usize) {
        let mut r = 0;
        while r < self.run {
            let left = self.run - r;
            // SAFETY: passed on; `r + M <= run`.
            unsafe {
                if left >= 12 && S::REGISTER_COUNT >= 32 {
                    self.tile::<S, 12, N>(simd, first, r);
                    r += 12;
                } else if left >= 6 {
                    self.tile::<S, 6, N>(simd, first, r);
                    r += 6;
                } else if left >= 3 {
                    self.tile::<S, 3, N>(simd, first, r);
                    r += 3;
                } else {
                    self.tile::<S, 1, N>(simd, first, r);
                    r += 1;
                }
            }
        }
    }

    /// # Safety
    /// As for [`block`](Self::block); `r + M <= run`.
    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize, const N: usize>(&mut self, simd: S, first: usize, r: usize) {
        let lanes = width::<S, T>();
        // SAFETY: rows, `dw` and `r` are in bounds as the caller asserted.
        unsafe {
            let mut sums = [[T::splat(simd, T::ZERO); N]; M];
            for &(x, g) in self.rows {
                let mut x = self.x.as_ptr().add(x + r);
                let mut g = self.g.as_ptr().add(g + first);
                for _ in 0..self.width {
                    let mut b = [T::splat(simd, T::ZERO); N];
                    for n in 0..N {
                        b[n] = g.cast::<T::V<S>>().add(n).read_unaligned();
                    }
                    for m in 0..M {
                        let a = T::splat(simd, *x.add(m));
                        for n in 0..N {
                            sums[m][n] = T::mul_add(simd, a, b[n], sums[m][n]);
                        }
                    }
                    // One step past the last pixel may leave the slices; such a pointer is not read.
                    x = x.wrapping_add(self.x_step);
                    g = g.wrapping_add(self.channels);
                }
            }
            let one = T::splat(simd, T::ONE);
            for m in 0..M {
                for n in 0..N {
                    let dw = self.dw.as_mut_ptr().add((r + m) * self.channels + first + n * lanes).cast::<T::V<S>>();
                    dw.write_unaligned(T::mul_add(simd, sums[m][n], one, dw.read_unaligned()));
                }
            }
        }
    }
}

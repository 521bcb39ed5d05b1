//! Loops compiled for the widest vectors the processor has, chosen at run time.

use pulp::NullaryFnOnce;

/// Runs a loop body compiled for this processor. Implemented by small structs so that the body is inlined into each
/// version.
pub(crate) fn widest<F: NullaryFnOnce>(body: F) -> F::Output {
    #[cfg(test)]
    if let Some(vectors) = crate::lanes::tests::CHOSEN.get() {
        return vectors.compiled(body);
    }
    pulp::Arch::new().dispatch(body)
}

/// `out[i] = f(x[i])`.
pub(crate) struct Map1<'a, T, F> {
    pub(crate) out: &'a mut [T],
    pub(crate) x: &'a [T],
    pub(crate) f: F,
}

impl<T: Copy, F: Fn(T) -> T> NullaryFnOnce for Map1<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        for (out, &x) in self.out.iter_mut().zip(self.x) {
            *out = (self.f)(x);
        }
    }
}

/// `out[i] = f(x[i], y[i])`.
pub(crate) struct Map2<'a, T, F> {
    pub(crate) out: &'a mut [T],
    pub(crate) x: &'a [T],
    pub(crate) y: &'a [T],
    pub(crate) f: F,
}

impl<T: Copy, F: Fn(T, T) -> T> NullaryFnOnce for Map2<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        for ((out, &x), &y) in self.out.iter_mut().zip(self.x).zip(self.y) {
            *out = (self.f)(x, y);
        }
    }
}

/// `out[i] = f(out[i], x[i])`.
pub(crate) struct Update<'a, T, F> {
    pub(crate) out: &'a mut [T],
    pub(crate) x: &'a [T],
    pub(crate) f: F,
}

impl<T: Copy, F: Fn(T, T) -> T> NullaryFnOnce for Update<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        for (out, &x) in self.out.iter_mut().zip(self.x) {
            *out = (self.f)(*out, x);
        }
    }
}

/// `Σ f(x[i])`, in 16 lanes of `f64`.
pub(crate) struct Sum<'a, T, F> {
    pub(crate) x: &'a [T],
    pub(crate) f: F,
}

impl<T: crate::Element, F: Fn(f64) -> f64> NullaryFnOnce for Sum<'_, T, F> {
    type Output = f64;
    #[inline(always)]
    fn call(self) -> f64 {
        const LANES: usize = 16;
        let mut lanes = [0.0f64; LANES];
        let mut chunks = self.x.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += (self.f)(x.wide());
            }
        }
        lanes.iter().sum::<f64>() + chunks.remainder().iter().map(|x| (self.f)(x.wide())).sum::<f64>()
    }
}

/// `Σ f(x[i])`, in pieces of fixed length.
pub(crate) fn long_sum<T: crate::Element>(data: &[T], f: impl Fn(f64) -> f64 + Copy + Sync) -> f64 {
    let mut partial = vec![0.0f64; data.len().div_ceil(crate::par::PIECE)];
    crate::par::pieces(&mut partial, 1, data.len(), |i, out| {
        let end = data.len().min((i + 1) * crate::par::PIECE);
        out[0] = widest(Sum { x: &data[i * crate::par::PIECE..end], f });
    });
    partial.iter().sum()
}

//! Loops compiled for the widest vectors the processor has, chosen at run time.

use pulp::NullaryFnOnce;

/// Runs a loop body compiled for this processor. Implemented by small structs so that the body is inlined into each
/// version.
pub(crate) fn widest<F: NullaryFnOnce>(body: F) -> F::Output {
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

/// `Σ x[i]`, in 16 lanes of `f64`.
pub(crate) struct Sum<'a, T> {
    pub(crate) x: &'a [T],
}

impl<T: crate::Element> NullaryFnOnce for Sum<'_, T> {
    type Output = f64;
    #[inline(always)]
    fn call(self) -> f64 {
        const LANES: usize = 16;
        let mut lanes = [0.0f64; LANES];
        let mut chunks = self.x.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += x.wide();
            }
        }
        lanes.iter().sum::<f64>() + chunks.remainder().iter().map(|x| x.wide()).sum::<f64>()
    }
}

/// `Σ x[i]²`, in 16 lanes of `f64`.
pub(crate) struct SquaredNorm<'a, T> {
    pub(crate) x: &'a [T],
}

impl<T: crate::Element> NullaryFnOnce for SquaredNorm<'_, T> {
    type Output = f64;
    #[inline(always)]
    fn call(self) -> f64 {
        const LANES: usize = 16;
        let mut lanes = [0.0f64; LANES];
        let mut chunks = self.x.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += x.wide() * x.wide();
            }
        }
        lanes.iter().sum::<f64>() + chunks.remainder().iter().map(|x| x.wide() * x.wide()).sum::<f64>()
    }
}

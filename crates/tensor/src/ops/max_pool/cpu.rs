//! The greatest number of every window of pixels on the host.

use pulp::NullaryFnOnce;

use super::MaxPool;
use crate::element::Element;
use crate::element::num::Real;
use crate::par;
use crate::simd;

/// The extents of an image, before and after.
#[derive(Clone, Copy)]
pub(super) struct Extents {
    pub(super) input: (usize, usize),
    pub(super) output: (usize, usize),
    pub(super) channels: usize,
}

impl MaxPool {
    /// The inputs along an axis of `n` that output `i` looks at: there is one at least.
    fn window(&self, i: usize, n: usize) -> std::ops::Range<usize> {
        let first = i * self.stride;
        first.saturating_sub(self.padding)..(first + self.kernel - self.padding).min(n)
    }
}

/// One row of outputs.
struct Row<'a, T> {
    how: MaxPool,
    e: Extents,
    /// The image.
    x: &'a [T],
    /// Number of the row.
    i: usize,
    y: &'a mut [T],
}

impl<T: Element> NullaryFnOnce for Row<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let (c, rows) = (self.e.channels, self.how.window(self.i, self.e.input.0));
        for (j, out) in self.y.chunks_exact_mut(c).enumerate() {
            let columns = self.how.window(j, self.e.input.1);
            let at = |row: usize, column: usize| (row * self.e.input.1 + column) * c;
            out.copy_from_slice(&self.x[at(rows.start, columns.start)..][..c]);
            for row in rows.clone() {
                for pixel in self.x[at(row, columns.start)..at(row, columns.end)].chunks_exact(c) {
                    for (out, &x) in out.iter_mut().zip(pixel) {
                        *out = Real::greatest(*out, x);
                    }
                }
            }
        }
    }
}

pub(super) fn forward<T: Element>(how: MaxPool, e: Extents, x: &[T], y: &mut [T]) {
    let (image, row) = (e.input.0 * e.input.1 * e.channels, e.output.1 * e.channels);
    let cost = y.len() * how.kernel * how.kernel;
    par::pieces(y, row, cost, |k, y| {
        let (b, i) = (k / e.output.0, k % e.output.0);
        simd::widest(Row { how, e, x: &x[b * image..][..image], i, y });
    });
}

/// Which element of `x` each element of the result `y` is: the first that is equal, or, of a NaN, the first NaN.
pub(super) fn winners<T: Element>(how: MaxPool, e: Extents, x: &[T], y: &[T]) -> Vec<usize> {
    let mut found = Vec::with_capacity(y.len());
    for (k, &value) in y.iter().enumerate() {
        let (pixel, c) = (k / e.channels, k % e.channels);
        let (line, j) = (pixel / e.output.1, pixel % e.output.1);
        let (b, i) = (line / e.output.0, line % e.output.0);
        let columns = how.window(j, e.input.1);
        let mut all = how
            .window(i, e.input.0)
            .flat_map(|row| columns.clone().map(move |column| ((b * e.input.0 + row) * e.input.1 + column) * e.channels + c));
        let same = |at: &usize| x[*at] == value || x[*at].not_equal_to_itself() && value.not_equal_to_itself();
        found.push(all.find(same).expect("the greatest is one of them"));
    }
    found
}

//! Two-dimensional convolution (as networks say it: correlation) and its transpose, channels last.
//!
//! ```text
//! y[b, i, j, o] = Σ_{k, l, c} x[b, i s_h - p_h + k, j s_w - p_w + l, c] w[k, l, c, o] + bias[o]
//! ```
//!
//! with `x` zero outside the image, and perhaps an addend `r` (a residual, or a shift of each sample) in the same pass. The transpose is the
//! exact adjoint in `x`:
//! `⟨conv(x, w), y⟩ = ⟨x, convᵀ(y, w)⟩`. Both are linear in `x` and in `w`, so each one's derivatives are the other and the
//! weight gradient `Σ x ⊗ grad` over all pixels.

mod addend;
mod bf16;
mod cpu;
mod few;
mod kernel;
#[cfg(test)]
mod tests;
mod winograd;

use super::group_norm::Activation;
use crate::graph::{Keep, Op, Saved, record};
use crate::tensor::{Tensor, by_dtype};
use crate::{Device, Dtype};
use addend::Addend;
use cpu::{Axis, Geometry};

/// How a filter moves over an image: `(vertical, horizontal)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// Pixels between applications.
    pub stride: (usize, usize),
    /// Zeros added on either side.
    pub padding: (usize, usize),
}

impl Conv2d {
    /// Stride 1 without padding.
    pub const VALID: Conv2d = Conv2d { stride: (1, 1), padding: (0, 0) };

    /// Stride 1 with the padding that keeps the extents, for a filter of odd extents.
    pub const fn same(kernel_h: usize, kernel_w: usize) -> Conv2d {
        Conv2d { stride: (1, 1), padding: (kernel_h / 2, kernel_w / 2) }
    }

    /// The extents a filter of `kernel` makes of an image of `input`, `floor((n + 2p - k) / s) + 1`; `None` if
    /// the filter does not fit.
    pub fn output(&self, input: (usize, usize), kernel: (usize, usize)) -> Option<(usize, usize)> {
        let axis = |n: usize, k: usize, s: usize, p: usize| Some((n + 2 * p).checked_sub(k)? / s + 1);
        Some((axis(input.0, kernel.0, self.stride.0, self.padding.0)?, axis(input.1, kernel.1, self.stride.1, self.padding.1)?))
    }
}

impl Default for Conv2d {
    fn default() -> Conv2d {
        Conv2d::VALID
    }
}

/// A convolution or its transpose, as recorded.
struct Convolution {
    how: Conv2d,
    transposed: bool,
    /// Extents of the larger side: what a convolution reads and its transpose writes.
    size: (usize, usize),
    bias: bool,
}

/// The extents of the convolution (or, if `transposed`, of its adjoint) with filter `w` between `size` and `small`.
fn geometry(how: Conv2d, transposed: bool, batch: usize, size: (usize, usize), small: (usize, usize), w: &[usize]) -> Geometry {
    let axis = |large: usize, small: usize, kernel: usize, stride: usize, padding: usize| {
        let (input, output) = if transposed { (small, large) } else { (large, small) };
        Axis { input, output, kernel, stride, padding, transposed }
    };
    let (c_in, c_out) = if transposed { (w[3], w[2]) } else { (w[2], w[3]) };
    Geometry {
        batch,
        h: axis(size.0, small.0, w[0], how.stride.0, how.padding.0),
        w: axis(size.1, small.1, w[1], how.stride.1, how.padding.1),
        c_in,
        c_out,
    }
}

#[track_caller]
fn checked<'a>(name: &str, how: Conv2d, x: &Tensor, w: &'a Tensor, added: impl IntoIterator<Item = &'a Tensor>) {
    assert!(how.stride.0 > 0 && how.stride.1 > 0, "{name}: stride {:?} has a zero", how.stride);
    assert_eq!(x.rank(), 4, "{name}: the image has shape {:?}, not [B, H, W, C]", x.shape());
    assert_eq!(w.rank(), 4, "{name}: the filter has shape {:?}, not [KH, KW, C_in, C_out]", w.shape());
    assert!(w.dim(0) > 0 && w.dim(1) > 0, "{name}: the filter has shape {:?}, with no taps", w.shape());
    for t in std::iter::once(w).chain(added) {
        assert_eq!(x.dtype(), t.dtype(), "{name}: element types differ");
    }
}

impl Convolution {
    fn geometry(&self, x: &Tensor, w: &Tensor) -> Geometry {
        let small = if self.transposed {
            (x.dim(1), x.dim(2))
        } else {
            self.how.output(self.size, (w.dim(0), w.dim(1))).expect("checked")
        };
        geometry(self.how, self.transposed, x.dim(0), self.size, small, w.shape())
    }

    fn forward(&self, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, addend: Addend<&Tensor>) -> Tensor {
        let g = self.geometry(x, w);
        let shape = [g.batch, g.h.output, g.w.output, g.c_out];
        match x.device() {
            Device::Cpu if x.dtype() == Dtype::Bf16 => Tensor::build(&shape, |y| {
                let addend = addend.map(Tensor::as_slice);
                bf16::correlate(&g, x.as_slice(), w.as_slice(), bias.map(Tensor::as_slice), addend, y);
            }),
            Device::Cpu => by_dtype!(x.dtype(), T => Tensor::build(&shape, |y: &mut [T]| {
                let addend = addend.map(Tensor::as_slice);
                cpu::correlate(&g, x.as_slice(), w.as_slice(), bias.map(Tensor::as_slice), addend, y);
            })),
        }
    }

    /// The convolution, or its transpose (to which nothing is added), on other operands of the same shapes, recorded.
    fn apply(&self, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, addend: Option<&Tensor>) -> Tensor {
        match addend {
            _ if self.transposed => x.conv_transpose2d(w, bias, self.how, self.size),
            Some(addend) => x.conv2d_plus(w, bias, self.how, addend),
            None => x.conv2d(w, bias, self.how),
        }
    }

    /// The gradient of the weights: `large` is what the convolution reads, `small` what it writes.
    fn weight_gradient(&self, large: &Tensor, small: &Tensor, w: &[usize]) -> Tensor {
        let g = geometry(self.how, false, large.dim(0), self.size, (small.dim(1), small.dim(2)), w);
        match large.device() {
            Device::Cpu => by_dtype!(large.dtype(), T => Tensor::build(w, |dw: &mut [T]| {
                cpu::weight_gradient(&g, large.as_slice(), small.as_slice(), dw);
            })),
        }
    }
}

/// A convolution with the shapes its derivatives need. Inputs: image, filter, the bias if there is one, the addend if there is one.
struct Recorded {
    convolution: Convolution,
    /// The first extent of it.
    addend: Addend<usize>,
    filter: Vec<usize>,
    output: Vec<usize>,
}

impl Op for Recorded {
    fn name(&self) -> &'static str {
        if self.convolution.transposed { "conv_transpose2d" } else { "conv2d" }
    }

    fn keep(&self, tracked: &[bool]) -> Keep {
        Keep::inputs(&[1, 0].into_iter().filter(|&other| tracked[1 - other]).collect::<Vec<_>>())
    }

    fn vjp(&self, saved: &Saved, grad: &Tensor, needed: &[bool]) -> Vec<Option<Tensor>> {
        let Convolution { how, transposed, size, bias } = self.convolution;
        let dx = needed[0].then(|| {
            let adjoint = Convolution { how, transposed: !transposed, size, bias: false };
            adjoint.apply(grad, saved.input(1), None, None)
        });
        let dw = needed[1].then(|| {
            let x = saved.input(0);
            let (large, small) = if transposed { (grad, x) } else { (x, grad) };
            self.convolution.weight_gradient(large, small, &self.filter)
        });
        let mut grads = vec![dx, dw];
        let addend = |needed: bool| match self.addend {
            Addend::Rows(rows) if needed => {
                let sums = grad.sum_keep(&[1, 2]);
                Some(if rows == grad.dim(0) { sums } else { sums.sum_keep(&[0]) })
            }
            Addend::Image(_) if needed => Some(grad.clone()),
            _ => None,
        };
        let dr = needed.get(2 + usize::from(bias)).and_then(|&needed| addend(needed));
        if bias {
            // The rows' gradients, where there are such, are half of the way.
            let sums = if matches!(self.addend, Addend::Rows(_)) { dr.as_ref() } else { None };
            grads.push(needed[2].then(|| sums.unwrap_or(grad).sum(&[0, 1, 2])));
        }
        if self.addend != Addend::Nothing {
            grads.push(dr);
        }
        grads
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        let convolution = &self.convolution;
        let mut rest = tangents[2..].iter();
        let t_bias = if convolution.bias { rest.next().and_then(Option::as_ref) } else { None };
        let t_addend = rest.next().and_then(Option::as_ref);
        // What is added moves with one of the two convolutions.
        let by_x = tangents[0].as_ref().map(|t| convolution.apply(t, saved.input(1), t_bias, t_addend));
        let by_w = tangents[1].as_ref().map(|t| match by_x {
            Some(_) => convolution.apply(saved.input(0), t, None, None),
            None => convolution.apply(saved.input(0), t, t_bias, t_addend),
        });
        match (by_x, by_w) {
            (Some(a), Some(b)) => &a + &b,
            (Some(t), None) | (None, Some(t)) => t,
            (None, None) => {
                let added = [t_bias, t_addend].into_iter().flatten().cloned().reduce(|a, b| &a + &b);
                added.expect("jvp is called with a tangent").broadcast_to(&self.output)
            }
        }
    }
}

#[track_caller]
fn apply(convolution: Convolution, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, addend: Addend<&Tensor>) -> Tensor {
    let y = convolution.forward(x, w, bias, addend);
    let r = if let Addend::Rows(r) | Addend::Image(r) = addend { Some(r) } else { None };
    let inputs: Vec<&Tensor> = [x, w].into_iter().chain(bias).chain(r).collect();
    if inputs.iter().all(|t| !t.is_tracked()) {
        return y;
    }
    let (filter, output, addend) = (w.shape().to_vec(), y.shape().to_vec(), addend.map(|r| r.dim(0)));
    record(Recorded { convolution, addend, filter, output }, &inputs, y)
}

impl Tensor {
    /// The convolution of images `[B, H, W, C_in]` with a filter `w` of shape `[KH, KW, C_in, C_out]`, plus `bias`
    /// of shape `[C_out]`; the result has shape `[B, OH, OW, C_out]` with the extents of [`Conv2d::output`].
    ///
    /// # Panics
    /// If the shapes do not fit together, the filter is larger than the padded image, or the types differ.
    #[track_caller]
    pub fn conv2d(&self, w: &Tensor, bias: Option<&Tensor>, how: Conv2d) -> Tensor {
        self.convolution(w, bias, how, None)
    }

    /// [`conv2d`](Self::conv2d) plus `addend` of the result's shape, or of one pixel for each sample, `[B, 1, 1, C_out]`, or for all: one pass over
    /// the result.
    ///
    /// # Panics
    /// If the shapes do not fit together, the filter is larger than the padded image, or the types differ.
    #[track_caller]
    pub fn conv2d_plus(&self, w: &Tensor, bias: Option<&Tensor>, how: Conv2d, addend: &Tensor) -> Tensor {
        self.convolution(w, bias, how, Some(addend))
    }

    #[track_caller]
    fn convolution(&self, w: &Tensor, bias: Option<&Tensor>, how: Conv2d, addend: Option<&Tensor>) -> Tensor {
        checked("conv2d", how, self, w, bias.into_iter().chain(addend));
        let [kh, kw, c_in, c_out] = [w.dim(0), w.dim(1), w.dim(2), w.dim(3)];
        assert_eq!(self.dim(3), c_in, "conv2d: image of shape {:?} and filter of shape {:?}", self.shape(), w.shape());
        if let Some(b) = bias {
            assert_eq!(b.shape(), [c_out], "conv2d: bias of shape {:?} for filter of shape {:?}", b.shape(), w.shape());
        }
        let size = (self.dim(1), self.dim(2));
        let Some((oh, ow)) = how.output(size, (kh, kw)) else {
            let (filter, image, padding) = (w.shape(), self.shape(), how.padding);
            panic!("conv2d: filter of shape {filter:?} on an image of shape {image:?} with padding {padding:?}")
        };
        let addend = match addend {
            None => Addend::Nothing,
            Some(r) => Addend::of(r, [self.dim(0), oh, ow, c_out]),
        };
        if (kh, kw) == (1, 1) && how == Conv2d::VALID {
            let w = w.reshape(&[c_in, c_out]);
            return match (addend, bias) {
                (Addend::Image(r), Some(bias)) => self.linear_with(&w, bias, Some(r), Activation::None),
                (Addend::Image(r) | Addend::Rows(r), _) => &self.linear(&w, bias) + r,
                (Addend::Nothing, _) => self.linear(&w, bias),
            };
        }
        apply(Convolution { how, transposed: false, size, bias: bias.is_some() }, self, w, bias, addend)
    }

    /// The adjoint of [`conv2d`](Self::conv2d) in its image: from `[B, OH, OW, C_out]`, with a filter `w` of shape `[KH, KW,
    /// C_in, C_out]`, to `[B, H, W, C_in]` with `(H, W) = size`, plus `bias` of shape `[C_in]`.
    ///
    /// # Panics
    /// If a convolution of an image of extents `size` would not have this tensor's shape, or the types differ.
    #[track_caller]
    pub fn conv_transpose2d(&self, w: &Tensor, bias: Option<&Tensor>, how: Conv2d, size: (usize, usize)) -> Tensor {
        checked("conv_transpose2d", how, self, w, bias);
        let [kh, kw, c_in, c_out] = [w.dim(0), w.dim(1), w.dim(2), w.dim(3)];
        assert_eq!(self.dim(3), c_out, "conv_transpose2d: image of shape {:?} and filter of shape {:?}", self.shape(), w.shape());
        if let Some(b) = bias {
            assert_eq!(b.shape(), [c_in], "conv_transpose2d: bias of shape {:?} for filter of shape {:?}", b.shape(), w.shape());
        }
        assert_eq!(
            Some((self.dim(1), self.dim(2))),
            how.output(size, (kh, kw)),
            "conv_transpose2d: extents of {:?} against those that {how:?} with filter {:?} makes of {size:?}",
            self.shape(),
            w.shape()
        );
        apply(Convolution { how, transposed: true, size, bias: bias.is_some() }, self, w, bias, Addend::Nothing)
    }
}

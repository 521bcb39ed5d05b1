//! Images of another size, by interpolation. Along each axis,
//!
//! ```text
//! y[i] = Σ_j w(i, j) x[j],     w(i, j) ∝ k((j + ½ − r (i + ½)) / s),     r = input pixels per output pixel
//! ```
//!
//! where pixels are squares with their centres at `j + ½`. Without smoothing, `s = 1` and pixels beyond the edge repeat the edge's; with
//! smoothing, `s = max(r, 1)`, which widens the kernel to the pixels that one of a smaller image stands for, and the weights of the pixels
//! that are there are brought to a sum of 1. The kernels are the triangle (`1 − |u|`) and cubic convolution (Keys 1981, eq. 15 for any `a`),
//!
//! ```text
//! k(u) = (a + 2)|u|³ − (a + 3)|u|² + 1   for |u| < 1,     a|u|³ − 5a|u|² + 8a|u| − 4a   for |u| < 2.
//! ```
//!
//! An axis is one product with the matrix of weights, computed in `f64`, so derivatives are those of products.

use crate::Dtype;
use crate::tensor::Tensor;

/// Which neighbours count how much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kernel {
    /// Linear between neighbours.
    Triangle,
    /// Cubic convolution with this slope at 1: −½ is exact for squares (Keys 1981), PyTorch's without smoothing is −¾.
    Cubic(f64),
}

impl Kernel {
    /// Beyond which it is 0.
    fn reach(self) -> f64 {
        match self {
            Kernel::Triangle => 1.0,
            Kernel::Cubic(_) => 2.0,
        }
    }

    fn at(self, u: f64) -> f64 {
        let u = u.abs();
        match self {
            Kernel::Triangle => (1.0 - u).max(0.0),
            Kernel::Cubic(a) if u < 1.0 => ((a + 2.0) * u - (a + 3.0)) * u * u + 1.0,
            Kernel::Cubic(a) if u < 2.0 => ((a * u - 5.0 * a) * u + 8.0 * a) * u - 4.0 * a,
            Kernel::Cubic(_) => 0.0,
        }
    }
}

/// How an image is resized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resize {
    /// The kernel.
    pub kernel: Kernel,
    /// Whether a smaller image is smoothed first, so that no pixel of the larger one is passed over.
    pub smooth: bool,
    /// Input pixels per output pixel, down and across; the ratio of the extents if not given.
    pub ratio: Option<(f64, f64)>,
}

impl Resize {
    /// Linear interpolation without smoothing: PyTorch's `interpolate(mode="bilinear", align_corners=False)`.
    pub const BILINEAR: Resize = Resize { kernel: Kernel::Triangle, smooth: false, ratio: None };

    /// Cubic interpolation without smoothing: PyTorch's `interpolate(mode="bicubic", align_corners=False)`.
    pub const BICUBIC: Resize = Resize { kernel: Kernel::Cubic(-0.75), smooth: false, ratio: None };

    /// Cubic interpolation with smoothing: the same with `antialias=True`, and Pillow's `BICUBIC` on images of `float`.
    pub const SMOOTH_BICUBIC: Resize = Resize { kernel: Kernel::Cubic(-0.5), smooth: true, ratio: None };

    /// The weights of an axis, `[input, output]`.
    fn weights(&self, input: usize, output: usize, ratio: Option<f64>, dtype: Dtype) -> Tensor {
        let ratio = ratio.unwrap_or(input as f64 / output as f64);
        let width = if self.smooth { ratio.max(1.0) } else { 1.0 };
        let reach = self.kernel.reach() * width;
        let mut all = vec![0.0; input * output];
        for i in 0..output {
            let centre = ratio * (i as f64 + 0.5);
            // Pixels whose centres are within reach, those of the padding too.
            let (first, last) = ((centre - reach - 0.5).floor() as isize, (centre + reach - 0.5).ceil() as isize);
            let mut sum = 0.0;
            for j in first..=last {
                let weight = self.kernel.at((j as f64 + 0.5 - centre) / width);
                let inside = j.clamp(0, input as isize - 1);
                if inside == j || !self.smooth {
                    all[inside as usize * output + i] += weight;
                    sum += weight;
                }
            }
            (0..input).for_each(|j| all[j * output + i] /= sum);
        }
        Tensor::from_f64(&[input, output], &all, dtype)
    }
}

impl Tensor {
    /// `[B, H, W, C]` to `[B, height, width, C]`.
    ///
    /// # Panics
    /// If the tensor is not of rank 4, either image has no pixels, or a given ratio leads out of the image.
    #[track_caller]
    pub fn resize2d(&self, (height, width): (usize, usize), how: Resize) -> Tensor {
        assert_eq!(self.rank(), 4, "resize2d: shape {:?} is not [B, H, W, C]", self.shape());
        let (h, w) = (self.dim(1), self.dim(2));
        let pixels = [h, w, height, width].iter().all(|&n| n > 0);
        assert!(pixels, "resize2d: an image of shape {:?} to {height} × {width} pixels", self.shape());
        if let Some((down, across)) = how.ratio {
            let inside = |n: usize, output: usize, ratio: f64| ratio > 0.0 && ratio * (output as f64 - 0.5) < n as f64;
            assert!(
                inside(h, height, down) && inside(w, width, across),
                "resize2d: {height} × {width} pixels at a ratio of {down} and {across} lead out of an image of shape {:?}",
                self.shape()
            );
        }
        let across = how.weights(w, width, how.ratio.map(|r| r.1), self.dtype());
        let down = how.weights(h, height, how.ratio.map(|r| r.0), self.dtype());
        // [B, C, H, W], then [B, C, W', H]: the axis in question is the last, so that an axis is a single product.
        let x = self.permute(&[0, 3, 1, 2]).matmul(&across);
        x.permute(&[0, 1, 3, 2]).matmul(&down).permute(&[0, 3, 2, 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Noise, check};

    const ALL: [Resize; 4] = [
        Resize::BILINEAR,
        Resize::BICUBIC,
        Resize::SMOOTH_BICUBIC,
        Resize { kernel: Kernel::Triangle, smooth: true, ratio: Some((0.55, 1.9)) },
    ];

    fn sample(shape: &[usize]) -> Tensor {
        Noise::new(37, 0).normal(shape, 0, 0, Dtype::F64)
    }

    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        assert_eq!(a.shape(), b.shape());
        (a - b).abs().max_all().item()
    }

    #[test]
    fn the_same_size_is_the_same_image_and_one_colour_stays_one() {
        let x = sample(&[2, 5, 4, 3]);
        for how in ALL {
            if how.ratio.is_none() {
                assert!(distance(&x.resize2d((5, 4), how), &x) < 1e-14, "{how:?}");
            }
            let flat = Tensor::full(&[1, 5, 4, 2], 0.7, Dtype::F64);
            let resized = flat.resize2d((9, 2), how);
            assert!(distance(&resized, &Tensor::full(&[1, 9, 2, 2], 0.7, Dtype::F64)) < 1e-14, "{how:?}");
        }
    }

    #[test]
    fn straight_lines_stay_straight_away_from_the_edges() {
        // x[i, j] = 2 i − 3 j at pixel centres.
        let (h, w) = (20, 16);
        let values = (0..h * w).map(|k| 2.0 * ((k / w) as f64 + 0.5) - 3.0 * ((k % w) as f64 + 0.5)).collect::<Vec<f64>>();
        let x = Tensor::from_vec(&[1, h, w, 1], values);
        // Of cubic convolutions only that of slope −½ keeps them.
        let cubic = Resize { smooth: false, ..Resize::SMOOTH_BICUBIC };
        for (how, size) in [(Resize::BILINEAR, (33, 50)), (cubic, (31, 7)), (Resize::SMOOTH_BICUBIC, (10, 8))] {
            let y = x.resize2d(size, how);
            let (down, across) = (h as f64 / size.0 as f64, w as f64 / size.1 as f64);
            let inside = |i: f64, n: usize, ratio: f64| i > 2.0 * ratio.max(1.0) && i < n as f64 - 2.0 * ratio.max(1.0);
            let mut seen = 0;
            for (index, &value) in y.view::<f64>().indexed_iter() {
                let (i, j) = (down * (index[1] as f64 + 0.5), across * (index[2] as f64 + 0.5));
                if inside(i, h, down) && inside(j, w, across) {
                    assert!((value - (2.0 * i - 3.0 * j)).abs() < 1e-12, "{how:?} at {index:?}");
                    seen += 1;
                }
            }
            assert!(seen > 10, "{how:?}");
        }
    }

    #[test]
    fn smoothing_sees_pixels_that_interpolation_passes_over() {
        // A single bright pixel that no neighbour of a sampled point is.
        let mut values = vec![0.0; 64];
        values[2 * 8 + 1] = 1.0;
        let x = Tensor::from_vec(&[1, 8, 8, 1], values);
        assert_eq!(x.resize2d((1, 1), Resize::BILINEAR).item(), 0.0);
        let smooth = Resize { smooth: true, ..Resize::BILINEAR };
        // The triangle of width 8, cut off at the edges: weights 4.5/…/7.5 of 48.
        let expected = (6.5 / 48.0) * (5.5 / 48.0);
        assert!((x.resize2d((1, 1), smooth).item() - expected).abs() < 1e-15);
    }

    #[test]
    fn resizing_passes_the_op_checks() {
        for how in ALL {
            check::op("resize2d", |x| x[0].resize2d((5, 2), how), &[sample(&[2, 3, 4, 2])]);
        }
    }

    #[test]
    #[should_panic(expected = "resize2d: 2 × 2 pixels at a ratio of 1 and 2.7 lead out of an image of shape [1, 4, 4, 1]")]
    fn ratios_that_lead_out_of_the_image_are_refused() {
        let how = Resize { ratio: Some((1.0, 2.7)), ..Resize::SMOOTH_BICUBIC };
        Tensor::zeros(&[1, 4, 4, 1], Dtype::F32).resize2d((2, 2), how);
    }

    #[test]
    #[should_panic(expected = "resize2d: an image of shape [1, 0, 4, 1] to 2 × 2 pixels")]
    fn images_without_pixels_are_refused() {
        Tensor::zeros(&[1, 0, 4, 1], Dtype::F32).resize2d((2, 2), Resize::BILINEAR);
    }
}

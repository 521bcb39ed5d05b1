//! Keeping the denoiser's answer in the range of the data: an option of the sampler, the same for every solver.

use fokker_tensor::{Dtype, Element, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::SolveError;

/// What to do with every `x̂₀` before it is used.
///
/// It changes the process that is integrated: convergence to the flow of the model is only true with
/// [`None`](Self::None).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Threshold {
    /// Nothing.
    #[default]
    None,
    /// Limits every number to `[−bound, bound]`, as DDPM does (Ho et al. 2020, section 3.3).
    Clip {
        /// The largest magnitude of the data, default 1.
        #[serde(default = "one")]
        bound: f64,
    },
    /// Dynamic thresholding (Saharia et al. 2022, arXiv:2205.11487, section 2.3): in each sample, `s` is this quantile of
    /// the magnitudes, at least `bound`; numbers are limited to `[−s, s]` and divided by `s/bound`.
    Dynamic {
        /// The quantile, default 0.995.
        #[serde(default = "most")]
        quantile: f64,
        /// The largest magnitude of the data, default 1.
        #[serde(default = "one")]
        bound: f64,
    },
}

fn one() -> f64 {
    1.0
}

fn most() -> f64 {
    0.995
}

impl Threshold {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// Names the field that does not.
    pub fn check(&self) -> Result<(), SolveError> {
        let bad = |kind, field, expected| Err(SolveError::Config { what: "threshold", kind, field, expected });
        match *self {
            Self::Clip { bound } if bound.is_nan() || bound <= 0.0 => {
                bad("clip", "bound", format!("a positive number, found {bound}"))
            }
            Self::Dynamic { bound, .. } if bound.is_nan() || bound <= 0.0 => {
                bad("dynamic", "bound", format!("a positive number, found {bound}"))
            }
            Self::Dynamic { quantile, .. } if !(0.0 < quantile && quantile <= 1.0) => {
                bad("dynamic", "quantile", format!("a number in (0, 1], found {quantile}"))
            }
            _ => Ok(()),
        }
    }

    /// Applies it to `x̂₀`, `[B, ...]`.
    pub fn apply(&self, denoised: Tensor) -> Tensor {
        match *self {
            Self::None => denoised,
            Self::Clip { bound } => denoised.clamp(-bound, bound),
            Self::Dynamic { quantile, bound } => match denoised.dtype() {
                Dtype::F32 => dynamic::<f32>(denoised, quantile, bound),
                Dtype::F64 => dynamic::<f64>(denoised, quantile, bound),
                Dtype::Bf16 => panic!("a state of bf16: states are f32 or f64"),
            },
        }
    }
}

fn dynamic<T: Element>(mut denoised: Tensor, quantile: f64, bound: f64) -> Tensor {
    let size = denoised.len() / denoised.dim(0).max(1);
    let mut magnitudes = vec![0.0_f64; size];
    denoised.update::<T>(|all| {
        for sample in all.chunks_mut(size.max(1)) {
            for (magnitude, x) in magnitudes.iter_mut().zip(sample.iter()) {
                *magnitude = x.wide().abs();
            }
            let limit = interpolated_quantile(&mut magnitudes, quantile).max(bound);
            for x in sample {
                *x = T::of(x.wide().clamp(-limit, limit) * (bound / limit));
            }
        }
    });
    denoised
}

/// The quantile with linear interpolation between order statistics; reorders `values`, which are not NaN.
fn interpolated_quantile(values: &mut [f64], quantile: f64) -> f64 {
    let place = quantile * (values.len() - 1) as f64;
    let (below, part) = (place.floor() as usize, place.fract());
    let (_, &mut low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let high = above.iter().copied().fold(f64::INFINITY, f64::min);
    if part == 0.0 { low } else { low + part * (high - low) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_limits_every_number() {
        let x = Tensor::from_vec(&[1, 3], vec![-3.0, 0.5, 1.5]);
        assert_eq!(Threshold::Clip { bound: 1.0 }.apply(x).to_vec::<f64>(), [-1.0, 0.5, 1.0]);
    }

    #[test]
    fn dynamic_thresholding_rescales_each_sample_by_its_own_quantile() {
        // The median magnitude of the first sample is 2, of the second 0.3, which is below the bound.
        let x = Tensor::from_vec(&[2, 3], vec![-4.0, 2.0, 1.0, 0.3, -0.1, 1.7]);
        let found = Threshold::Dynamic { quantile: 0.5, bound: 1.0 }.apply(x).to_vec::<f64>();
        for (found, expected) in found.iter().zip([-1.0, 1.0, 0.5, 0.3, -0.1, 1.0]) {
            assert!((found - expected).abs() < 1e-15, "{found} and {expected}");
        }
        assert!((interpolated_quantile(&mut [1.0, 3.0, 2.0, 4.0], 0.5) - 2.5).abs() < 1e-15);
        assert!((interpolated_quantile(&mut [5.0], 0.995) - 5.0).abs() < 1e-15);
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        for bad in [
            Threshold::Clip { bound: 0.0 },
            Threshold::Clip { bound: f64::NAN },
            Threshold::Dynamic { quantile: 1.5, bound: 1.0 },
            Threshold::Dynamic { quantile: 0.5, bound: -1.0 },
        ] {
            bad.check().unwrap_err();
        }
        Threshold::Dynamic { quantile: 0.995, bound: 1.0 }.check().unwrap();
    }
}

//! Autoguidance (Karras et al. 2024, arXiv:2406.02507, eq. 3): guiding a model by a bad version of itself, in terms of the denoised
//! sample:
//!
//! ```text
//! D = D_weak + w (D_model − D_weak)
//! ```
//!
//! The weak model has the same data and the same faults, only more of them: it was trained for less time, or is smaller. Where the two
//! disagree the model is on its way to something better, and `w > 1` goes further that way. It needs no classes, and unlike guidance by
//! the unconditional model it does not push samples to what is typical of their class.

use fokker_sde::{Cond, Denoiser, Reverse, Sde, Times};
use fokker_tensor::Tensor;

use crate::classifier_free::{Guidance, GuidanceError};

/// A denoiser guided by a weaker one of the same process.
///
/// One call is one of each where `w` is neither 0 nor 1, otherwise one. To have them counted, wrap both in
/// [`Counted`](fokker_sde::Counted) with one counter and give it to the sampler.
#[derive(Clone, Debug)]
pub struct AutoGuidance<D, W> {
    model: D,
    weak: W,
    guidance: Guidance,
}

impl<D: Denoiser, W: Denoiser> AutoGuidance<D, W> {
    /// Guides `model` away from `weak`.
    ///
    /// # Errors
    /// If the guidance's numbers make no sense.
    pub fn new(model: D, weak: W, guidance: Guidance) -> Result<Self, GuidanceError> {
        guidance.check()?;
        Ok(Self { model, weak, guidance })
    }
}

impl<D: Denoiser, W: Denoiser> Denoiser for AutoGuidance<D, W> {
    fn sde(&self) -> &dyn Sde {
        self.model.sde()
    }

    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        let (model, weak) = (|| self.model.denoise(x, t, c).into(), || self.weak.denoise(x, t, c).into());
        self.guidance.mix(self.sde(), t, model, weak).denoised
    }

    fn learns_variance(&self) -> bool {
        self.model.learns_variance()
    }

    /// The variance is the model's, or the weak one's where that alone is asked (`w = 0`).
    fn reverse(&self, x: &Tensor, t: &Times, s: &Times, c: &Cond) -> Reverse {
        self.guidance.mix(self.sde(), t, || self.model.reverse(x, t, s, c), || self.weak.reverse(x, t, s, c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fokker_sde::{Counted, Counter, Covariance, Edm, Gaussian, Quantity};
    use fokker_tensor::{Dtype, Noise, grad};

    fn models() -> [Gaussian; 2] {
        let of = |mean: f64, variance: f64| Gaussian::new(Edm::default(), &[mean, 0.5], &Covariance::Isotropic(variance));
        [of(1.0, 0.3), of(0.7, 0.9)]
    }

    #[test]
    fn the_guided_score_is_the_gradient_of_the_ratio_of_densities() {
        // ∇ [w ln p − (w − 1) ln p_weak] (Karras et al. 2024, eq. 4).
        let ([model, weak], w) = (models(), 2.5);
        let (x, t) = (Noise::new(3, 0).normal(&[4, 2], 0, 0, Dtype::F64), Times::Same(0.8));
        let guided = AutoGuidance::new(&model, &weak, Guidance { scale: w, noise: None }).unwrap();
        let score = guided.predict(Quantity::Score, &x, &t, &Cond::NONE);
        let leaf = x.track();
        let density = |m: &Gaussian| m.log_density(&leaf, &t).sum_all();
        let gradient = grad(&(&density(&model) * w) + &(&density(&weak) * (1.0 - w)), &[&leaf]).remove(0);
        assert!((&score - &gradient).abs().max_all().item() < 1e-12);
    }

    /// A model that has learned the same variance everywhere.
    struct WithVariance(Gaussian, f64);

    impl Denoiser for WithVariance {
        fn sde(&self) -> &dyn Sde {
            self.0.sde()
        }
        fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
            self.0.denoise(x, t, c)
        }
        fn learns_variance(&self) -> bool {
            true
        }
        fn reverse(&self, x: &Tensor, t: &Times, _s: &Times, c: &Cond) -> Reverse {
            Reverse { denoised: self.denoise(x, t, c), fraction: Some(Tensor::full(x.shape(), self.1, x.dtype())) }
        }
    }

    #[test]
    fn the_variance_is_the_models() {
        let [model, weak] = models();
        let (x, t, s) = (Noise::new(3, 0).normal(&[4, 2], 0, 0, Dtype::F64), Times::Same(0.8), Times::Same(0.5));
        let guided = AutoGuidance::new(WithVariance(model, 0.25), &weak, Guidance { scale: 2.0, noise: None }).unwrap();
        let Reverse { denoised, fraction } = guided.reverse(&x, &t, &s, &Cond::NONE);
        assert!(guided.learns_variance() && fraction.unwrap().to_vec::<f64>() == [0.25; 8]);
        assert_eq!(denoised.to_vec::<f64>(), guided.denoise(&x, &t, &Cond::NONE).to_vec::<f64>());
    }

    #[test]
    fn the_weak_model_is_asked_only_where_it_counts() {
        let [model, weak] = models();
        let x = Noise::new(3, 0).normal(&[4, 2], 0, 0, Dtype::F64);
        for (guidance, t, calls) in [
            (Guidance { scale: 1.0, noise: None }, 0.8, [1, 0]),
            (Guidance { scale: 0.0, noise: None }, 0.8, [0, 1]),
            (Guidance { scale: 2.0, noise: None }, 0.8, [1, 1]),
            (Guidance { scale: 2.0, noise: Some([1.0, 2.0]) }, 0.8, [1, 0]),
            (Guidance { scale: 2.0, noise: Some([0.5, 2.0]) }, 0.8, [1, 1]),
        ] {
            let counters = [Counter::new(), Counter::new()];
            let [a, b] = [(&model, &counters[0]), (&weak, &counters[1])].map(|(m, c)| Counted::new(m, c.clone()));
            drop(AutoGuidance::new(a, b, guidance).unwrap().denoise(&x, &t.into(), &Cond::NONE));
            assert_eq!(counters.each_ref().map(Counter::get), calls, "{guidance:?}");
        }
    }
}

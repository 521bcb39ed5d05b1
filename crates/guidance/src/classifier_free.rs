//! Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598, eq. 6), in terms of the denoised sample:
//!
//! ```text
//! D = D_∅ + w (D_c − D_∅)
//! ```
//!
//! `D_c` answers for the class asked for and `D_∅` for the null class. `w = 1` is the conditional model and `w = 0` the unconditional
//! one; the paper's own `w` is this one less 1. Since `ε̂`, the score and the velocity are affine in `x̂₀` with the same state, guiding
//! any of them is the same thing.
//!
//! The variance of a reverse step, where the model has learned one, is the conditional model's: guidance moves means.

use fokker_sde::{Cond, Denoiser, Reverse, Sde, Times};
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Strength of guidance, as written in configuration files.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guidance {
    /// `w`, default 1: no guidance.
    pub scale: f64,
    /// The noise levels `σ/α`, lowest and highest, between which to guide; outside of them the model answers alone and costs one call (Kynkäänniemi et al. 2024, arXiv:2404.07724). Default: all.
    pub noise: Option<[f64; 2]>,
}

impl Default for Guidance {
    fn default() -> Self {
        Self { scale: 1.0, noise: None }
    }
}

/// A number of a [`Guidance`] that makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("guidance: `{field}`: expected {expected}")]
pub struct GuidanceError {
    field: &'static str,
    expected: String,
}

impl Guidance {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// If the scale is not finite, or the noise levels are not two in order.
    pub fn check(&self) -> Result<(), GuidanceError> {
        if !self.scale.is_finite() {
            return Err(GuidanceError { field: "scale", expected: format!("a finite number, found {}", self.scale) });
        }
        match self.noise {
            Some([low, high]) if !(0.0 <= low && low < high) => {
                let expected = format!("[lowest, highest] with 0 ≤ lowest < highest, found [{low}, {high}]");
                Err(GuidanceError { field: "noise", expected })
            }
            _ => Ok(()),
        }
    }

    /// `reference + w (model − reference)`, each asked only where it counts. The variance is the model's, if it is asked at all.
    pub(crate) fn mix(
        &self,
        sde: &dyn Sde,
        t: &Times,
        model: impl FnOnce() -> Reverse,
        reference: impl FnOnce() -> Reverse,
    ) -> Reverse {
        let scale = |t: f64| self.scale_at(sde, t);
        if t.values().iter().all(|&t| scale(t) == 1.0) {
            return model();
        }
        let reference = reference();
        if t.values().iter().all(|&t| scale(t) == 0.0) {
            return reference;
        }
        let model = model();
        let denoised = &t.scale(&model.denoised, scale) + &t.scale(&reference.denoised, |t| 1.0 - scale(t));
        Reverse { denoised, ..model }
    }

    /// `w` at time `t`.
    fn scale_at(&self, sde: &dyn Sde, t: f64) -> f64 {
        let level = (-0.5 * sde.log_snr(t)).exp();
        match self.noise {
            Some([low, high]) if !(low..=high).contains(&level) => 1.0,
            _ => self.scale,
        }
    }
}

/// A class-conditional denoiser under classifier-free guidance.
///
/// The inner denoiser has to know the null class: a network trained with dropped labels, or an exact mixture with classes. One call is
/// two of the inner one where there is a class other than null and `w` is neither 0 nor 1, otherwise one. To have them counted, wrap the inner
/// denoiser in [`Counted`](fokker_sde::Counted) and give the sampler its counter.
#[derive(Clone, Debug)]
pub struct ClassifierFree<D> {
    inner: D,
    null: u32,
    guidance: Guidance,
}

impl<D: Denoiser> ClassifierFree<D> {
    /// Guides `inner`, whose null class is `null` (the number of its classes).
    ///
    /// # Errors
    /// If the guidance's numbers make no sense.
    pub fn new(inner: D, null: u32, guidance: Guidance) -> Result<Self, GuidanceError> {
        guidance.check()?;
        Ok(Self { inner, null, guidance })
    }

    /// The guided answer, from what the inner denoiser answers to the conditions it is asked for.
    fn guide(&self, t: &Times, c: &Cond, ask: impl Fn(&Cond) -> Reverse) -> Reverse {
        let Some(labels) = &c.class else { return ask(c) };
        if labels.iter().all(|&label| label == self.null) {
            return ask(c);
        }
        let null = || Cond::classes(vec![self.null; labels.len()]);
        self.guidance.mix(self.sde(), t, || ask(c), || ask(&null()))
    }
}

impl<D: Denoiser> Denoiser for ClassifierFree<D> {
    fn sde(&self) -> &dyn Sde {
        self.inner.sde()
    }

    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        self.guide(t, c, |c| self.inner.denoise(x, t, c).into()).denoised
    }

    fn learns_variance(&self) -> bool {
        self.inner.learns_variance()
    }

    /// The variance is the conditional model's, or the unconditional one's where that alone is asked (`w = 0`).
    fn reverse(&self, x: &Tensor, t: &Times, s: &Times, c: &Cond) -> Reverse {
        self.guide(t, c, |c| self.inner.reverse(x, t, s, c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fokker_sde::{Counted, Counter, Covariance, Edm, GaussianMixture, Quantity};
    use fokker_tensor::{Dtype, Noise, grad};

    fn model() -> GaussianMixture {
        let covariances = [Covariance::Isotropic(0.3), Covariance::Diagonal(vec![0.2, 0.6]), Covariance::Isotropic(0.4)];
        GaussianMixture::new(Edm::default(), &[0.2, 0.5, 0.3], &[vec![-1.0, 0.0], vec![1.0, 0.5], vec![0.0, 2.0]], &covariances)
            .with_classes(vec![0, 1, 1])
    }

    fn state() -> Tensor {
        Noise::new(3, 0).normal(&[4, 2], 0, 0, Dtype::F64)
    }

    fn close(a: &Tensor, b: &Tensor) -> bool {
        (a - b).abs().max_all().item() < 1e-12
    }

    #[test]
    fn the_guided_score_is_the_gradient_of_the_sharpened_density() {
        // ∇ [(1 − w) ln p(x) + w ln p(x | c)] (Ho & Salimans 2022, section 3.2).
        let (model, x, t, w) = (model(), state(), Times::Same(0.8), 2.5);
        let labels = Cond::classes(vec![0, 1, 1, 0]);
        let guided = ClassifierFree::new(&model, 2, Guidance { scale: w, noise: None }).unwrap();
        let score = guided.predict(Quantity::Score, &x, &t, &labels);
        let leaf = x.track();
        let conditional = model.log_density(&leaf, &t, &labels).sum_all();
        let unconditional = model.log_density(&leaf, &t, &Cond::classes(vec![2; 4])).sum_all();
        let gradient = grad(&(&conditional * w) + &(&unconditional * (1.0 - w)), &[&leaf]).remove(0);
        assert!(close(&score, &gradient));
    }

    #[test]
    fn scales_0_and_1_and_no_class_cost_one_call_and_others_two() {
        let (model, x, t) = (model(), state(), Times::Same(0.8));
        let (asked, null) = (Cond::classes(vec![1; 4]), Cond::classes(vec![2; 4]));
        let run = |scale: f64, c: &Cond| {
            let counter = Counter::new();
            let guided = ClassifierFree::new(Counted::new(&model, counter.clone()), 2, Guidance { scale, noise: None }).unwrap();
            (guided.denoise(&x, &t, c), counter.get())
        };
        for (scale, c, expected, calls) in
            [(1.0, &asked, &asked, 1), (0.0, &asked, &null, 1), (4.0, &Cond::NONE, &null, 1), (4.0, &null, &null, 1)]
        {
            let (found, counted) = run(scale, c);
            assert!(close(&found, &model.denoise(&x, &t, expected)), "scale {scale}");
            assert_eq!(counted, calls, "scale {scale}");
        }
        assert_eq!(run(2.0, &asked).1, 2);
    }

    /// A model that has learned variances, the label's number for each element.
    struct WithVariance(GaussianMixture);

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
            let labels: Vec<f64> = c.class.as_ref().expect("labels").iter().map(|&label| f64::from(label)).collect();
            let fraction = &Tensor::zeros(x.shape(), Dtype::F64) + &Tensor::from_vec(&[labels.len(), 1], labels);
            Reverse { denoised: self.denoise(x, t, c), fraction: Some(fraction) }
        }
    }

    #[test]
    fn the_variance_is_the_conditional_models_and_costs_no_call() {
        let (x, t, s) = (state(), Times::Same(0.8), Times::Same(0.5));
        let c = Cond::classes(vec![0, 1, 1, 0]);
        for (scale, labels, calls) in [(3.0, [0.0, 1.0, 1.0, 0.0], 2), (1.0, [0.0, 1.0, 1.0, 0.0], 1), (0.0, [2.0; 4], 1)] {
            let counter = Counter::new();
            let inner = Counted::new(WithVariance(model()), counter.clone());
            let guided = ClassifierFree::new(inner, 2, Guidance { scale, noise: None }).unwrap();
            assert!(guided.learns_variance());
            let Reverse { denoised, fraction } = guided.reverse(&x, &t, &s, &c);
            assert_eq!(counter.get(), calls, "scale {scale}");
            assert_eq!(denoised.to_vec::<f64>(), guided.denoise(&x, &t, &c).to_vec::<f64>());
            let expected: Vec<f64> = labels.iter().flat_map(|&label| [label; 2]).collect();
            assert_eq!(fraction.expect("a variance").to_vec::<f64>(), expected, "scale {scale}");
        }
        let without = ClassifierFree::new(model(), 2, Guidance { scale: 3.0, noise: None }).unwrap();
        assert!(!without.learns_variance() && without.reverse(&x, &t, &s, &c).fraction.is_none());
    }

    #[test]
    fn outside_of_its_noise_levels_the_conditional_model_answers_alone() {
        let (model, x, c) = (model(), state(), Cond::classes(vec![1; 4]));
        let guidance = Guidance { scale: 3.0, noise: Some([0.5, 2.0]) };
        let guided = ClassifierFree::new(&model, 2, guidance).unwrap();
        let everywhere = ClassifierFree::new(&model, 2, Guidance { noise: None, ..guidance }).unwrap();
        for (t, inside) in [(0.4, false), (1.0, true), (3.0, false)] {
            let t = Times::Same(t);
            let expected = if inside { everywhere.denoise(&x, &t, &c) } else { model.denoise(&x, &t, &c) };
            assert!(close(&guided.denoise(&x, &t, &c), &expected), "{t:?}");
        }
        // The same sample by sample.
        let mixed = guided.denoise(&x, &Times::Each(vec![0.4, 1.0, 3.0, 1.0]), &c);
        for (i, t) in [0.4, 1.0, 3.0, 1.0].into_iter().enumerate() {
            let one = guided.denoise(&x.slice(0, i..i + 1), &Times::Same(t), &c.slice(i..i + 1));
            assert!(close(&mixed.slice(0, i..i + 1), &one), "sample {i}");
        }
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused_by_name() {
        for (guidance, field) in [
            (Guidance { scale: f64::NAN, noise: None }, "`scale`"),
            (Guidance { scale: 2.0, noise: Some([2.0, 1.0]) }, "`noise`"),
            (Guidance { scale: 2.0, noise: Some([-1.0, 1.0]) }, "`noise`"),
        ] {
            assert!(guidance.check().unwrap_err().to_string().contains(field));
        }
    }
}

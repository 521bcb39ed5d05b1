//! What makes no sense is refused with what to use instead, and what breaks on the way is named with step and time.

mod oracle;

use fokker_sde::{Cond, Denoiser, Edm, Gaussian, GaussianMixture, Sde, Times, VariancePreserving};
use fokker_solve::{
    AdaptiveSde, Ancestral, Dpm2Ancestral, DpmPpMultistep, Dpmpp2mSde, Dpmpp2sAncestral, Dpmpp3mSde, DpmppSde, EdmStochastic,
    EulerAncestral, EulerMaruyama, ExponentialEuler, Family, Grid, Kind, LowerOrderFinal, NoiseLevel, NoiseSource, Paradigms,
    PredictorCorrector, SaSolver, Sampler, SolveError, Solver, SolverConfig, Srk, Variance,
};
use fokker_tensor::{Dtype, Tensor};

use oracle::{NOISE, gaussian, mixture, solvers};

#[test]
fn numbers_of_stochastic_solvers_that_make_no_sense_are_refused_with_the_name_of_the_field() {
    let level = |from, to| NoiseLevel { value: 1.0, from, to };
    let bad: Vec<(SolverConfig, &str)> = vec![
        (EulerAncestral { eta: -0.1, ..EulerAncestral::default() }.into(), "`eta`"),
        (EulerAncestral { s_noise: 0.0, ..EulerAncestral::default() }.into(), "`s_noise`"),
        (Dpm2Ancestral { eta: 1.1, ..Dpm2Ancestral::default() }.into(), "`euler-ancestral` takes more"),
        (Dpmpp2sAncestral { eta: f64::NAN, ..Dpmpp2sAncestral::default() }.into(), "`eta`"),
        (Dpmpp2sAncestral { s_noise: -1.0, ..Dpmpp2sAncestral::default() }.into(), "`s_noise`"),
        (DpmppSde { eta: f64::INFINITY, ..DpmppSde::default() }.into(), "`eta`"),
        (DpmppSde { r: 0.0, ..DpmppSde::default() }.into(), "`r`"),
        (Dpmpp2mSde { eta: -1.0, ..Dpmpp2mSde::default() }.into(), "`eta`"),
        (Dpmpp3mSde { s_noise: f64::NAN, ..Dpmpp3mSde::default() }.into(), "`s_noise`"),
        (EulerMaruyama { noise_level: (-1.0).into(), ..EulerMaruyama::default() }.into(), "`noise_level.value`"),
        (ExponentialEuler { noise_level: level(2.0, Some(1.0)), ..ExponentialEuler::default() }.into(), "from < to"),
        (SaSolver { noise_level: level(-1.0, None), ..SaSolver::default() }.into(), "from < to"),
        (EdmStochastic { s_churn: -1.0, ..EdmStochastic::default() }.into(), "`s_churn`"),
        (EdmStochastic { s_noise: 0.0, ..EdmStochastic::default() }.into(), "`s_noise`"),
        (EdmStochastic { s_tmin: 2.0, ..EdmStochastic::default() }.into(), "s_tmin <= s_tmax"),
        (Ancestral { variance: Variance::Interpolated { v: 1.5 }, ..Ancestral::default() }.into(), "`variance.v`"),
        (AdaptiveSde { rtol: -1.0, ..AdaptiveSde::default() }.into(), "`rtol`"),
        (AdaptiveSde { atol: 0.0, ..AdaptiveSde::default() }.into(), "`atol`"),
        (AdaptiveSde { safety: 0.0, ..AdaptiveSde::default() }.into(), "`safety`"),
        (AdaptiveSde { exponent: -0.9, ..AdaptiveSde::default() }.into(), "`exponent`"),
        (AdaptiveSde { max_attempts: 0, ..AdaptiveSde::default() }.into(), "`max_attempts`"),
        (Paradigms { tolerance: -0.1, ..Paradigms::default() }.into(), "`tolerance`"),
        (Paradigms { window: 0, ..Paradigms::default() }.into(), "`window`"),
        (Paradigms { stochasticity: -1.0, ..Paradigms::default() }.into(), "`stochasticity`"),
        (PredictorCorrector { snr: -0.1, ..PredictorCorrector::default() }.into(), "`snr`"),
    ];
    let model = gaussian(VariancePreserving::default());
    for (solver, expected) in bad {
        let grid = Grid::new(vec![0.9, 0.1], true, model.sde()).unwrap();
        let message = Sampler::new(&model, solver.clone(), grid).err().unwrap_or_else(|| panic!("{solver:?}")).to_string();
        assert!(message.contains(expected) && message.contains(solver.name()), "{message}");
    }
}

#[test]
fn a_brownian_path_that_ends_before_the_grid_is_refused_with_what_to_use_instead() {
    let sde = Edm { sigma_min: 1e-15, sigma_max: 80.0 };
    let model = gaussian(sde.clone());
    let noise = NoiseSource::Brownian;
    let paths: Vec<SolverConfig> = vec![
        Srk { noise, ..Srk::default() }.into(),
        Dpm2Ancestral { noise, ..Dpm2Ancestral::default() }.into(),
        AdaptiveSde { noise, ..AdaptiveSde::default() }.into(),
    ];
    for solver in paths {
        let grid = |end: f64| Grid::new(vec![80.0, 1.0, end], false, &sde).unwrap();
        let message = Sampler::new(&model, solver.clone(), grid(1e-15)).err().unwrap().to_string();
        assert!(
            message.contains("log-SNR of 64") && message.contains("noise = \"per-step\"") && message.contains("t_min"),
            "{message}"
        );
        assert!(Sampler::new(&model, solver, grid(1e-10)).is_ok());
    }
}

/// A model that answers NaN for samples below some time.
struct Broken {
    inner: Gaussian,
    below: f64,
}

impl Denoiser for Broken {
    fn sde(&self) -> &dyn Sde {
        self.inner.sde()
    }

    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        let fine = self.inner.denoise(x, t, c);
        &fine * &t.column(x, |t| if t < self.below { f64::NAN } else { 1.0 })
    }
}

#[test]
fn where_samples_have_times_of_their_own_a_nan_is_named_with_that_of_its_sample() {
    let sde = VariancePreserving::default();
    let model = Broken { inner: gaussian(sde.clone()), below: 0.5 };
    // Samples of very different sizes take very different steps.
    let x = Tensor::from_vec(&[3, 2], vec![200.0, -100.0, 0.1, 0.2, 30.0, 40.0]);
    for solver in [solvers(Kind::Ode), solvers(Kind::Sde)].concat() {
        let own_steps = matches!(solver.family(), Family::Adaptive | Family::Parallel);
        let grid = Grid::new(vec![0.9, 0.8, 0.2], true, &sde).unwrap();
        let sampler = Sampler::new(&model, solver.clone(), grid).unwrap().state(Dtype::F64);
        let error = sampler.integrate(x.clone(), &Cond::NONE, NOISE, 0, &mut []).unwrap_err();
        let SolveError::NotFinite { step, total, t, .. } = error else { panic!("{solver:?}: {error}") };
        assert!(t < 0.5 && total == 3 && (own_steps || step >= 2), "{solver:?}: {error}");
        assert!(error.to_string().contains(&format!("(t = {t})")), "{error}");
    }
}

/// A model whose answers are the largest numbers of `f32`, of the other sign below some time.
struct Huge(GaussianMixture);

impl Denoiser for Huge {
    fn sde(&self) -> &dyn Sde {
        self.0.sde()
    }

    fn denoise(&self, x: &Tensor, t: &Times, _c: &Cond) -> Tensor {
        Tensor::full(x.shape(), if t.of(0) > 2.0 { -3e38 } else { 3e38 }, x.dtype())
    }
}

#[test]
fn a_state_that_leaves_the_range_of_numbers_in_the_last_step_is_named_with_it() {
    let model = Huge(mixture(Edm::default()));
    let grid = Grid::new(vec![10.0, 1.0, 0.01], false, &Edm::default()).unwrap();
    let solver = DpmPpMultistep { order: 2, lower_order_final: LowerOrderFinal::Never };
    let sampler = Sampler::new(&model, solver, grid).unwrap();
    let message = sampler.sample(&[2, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap_err().to_string();
    assert!(message.contains("step 2 of 2 (t = 1)") && message.contains("the state is not finite"), "{message}");
    assert!(message.contains("use more steps or another solver"), "{message}");
}

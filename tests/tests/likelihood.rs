//! Log-densities by the probability-flow ODE: exact on every process, densities for any network, unbiased estimators, and no sample depends on another.

mod oracle;

use fokker_models::{DiffusionModel, MlpConfig, ModelConfig, NetworkConfig};
use fokker_nn::Module;
use fokker_sde::{
    Cond, Covariance, Denoiser, Edm, Exact, Gaussian, GaussianMixture, LinearFlow, Preconditioning, Sde, SdeConfig, Times,
    VarianceExploding, VariancePreserving, diffuse,
};
use fokker_solve::{
    AdaptiveRungeKutta, Control, Divergence, Grid, Integrator, Law, Likelihood, LogDensity, Method, Per, Prior, Probes, Sampler,
    SolveError, VariableAdams,
};
use fokker_tensor::{Dtype, Noise, Tensor};

use oracle::{NOISE, fitted_order, gaussian, max_difference, mixture};

/// Step control with this tolerance.
fn within(tolerance: f64) -> Likelihood {
    Likelihood { integrator: Integrator::with_tolerances(tolerance, tolerance), ..Likelihood::default() }
}

fn in_steps(method: Method, steps: usize) -> Likelihood {
    Likelihood { integrator: Integrator::Fixed { method, steps }, ..Likelihood::default() }
}

fn run(likelihood: &Likelihood, model: &dyn Denoiser, x: &Tensor) -> LogDensity {
    likelihood.log_density(model, x, &Cond::NONE, NOISE, 0).unwrap()
}

/// States at the start of the span.
fn data<M: Exact>(model: &M, n: usize) -> Tensor {
    let x_0 = model.sample(n, NOISE, 0);
    diffuse(model.sde(), &model.sde().span().0.into(), &x_0, &NOISE.normal(x_0.shape(), 0, 9, Dtype::F64))
}

/// The largest difference from the exact log-densities at the start of the span, in nats.
fn error<M: Exact>(model: &M, x: &Tensor, found: &[f64]) -> f64 {
    largest(found, &Exact::log_density(model, x, &model.sde().span().0.into(), &Cond::NONE).to_vec::<f64>())
}

fn largest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().chain(b).all(|v| v.is_finite()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// A covariance with eigenvalues from about 0 to 4 times `variance` above a floor, and no axis that is special.
fn covariance(d: usize, variance: f64, floor: f64, key: u32) -> Covariance {
    let factor = NOISE.normal(&[d, d], 0, key, Dtype::F64);
    let mut product = (&factor.matmul_nt(&factor) * (variance / d as f64)).to_vec::<f64>();
    (0..d).for_each(|i| product[i * d + i] += floor);
    let symmetric = (0..d * d).map(|i| 0.5 * (product[i] + product[i % d * d + i / d])).collect();
    Covariance::Full(symmetric)
}

/// Clusters with full covariances whose means are about `apart` from the origin.
fn clusters(sde: impl Sde + 'static, d: usize, count: usize, apart: f64) -> GaussianMixture {
    let centres = &NOISE.normal(&[count, d], 0, 70, Dtype::F64) * (apart / (d as f64).sqrt());
    let means: Vec<Vec<f64>> = centres.to_vec::<f64>().chunks(d).map(<[f64]>::to_vec).collect();
    let weights: Vec<f64> = (0..count).map(|k| 1.0 + k as f64).collect();
    let covariances: Vec<Covariance> = (0..count).map(|k| covariance(d, 0.15, 0.02, 80 + k as u32)).collect();
    GaussianMixture::new(sde, &weights, &means, &covariances)
}

#[test]
fn log_densities_of_gaussians_and_mixtures_are_exact_on_every_process() {
    for sde in SdeConfig::all() {
        let check = |what: &str, error: f64| assert!(error < 1e-4, "{what} on {}: {error:e} nats", sde.name());
        let likelihood = within(1e-7);
        let model = gaussian(sde.clone());
        let x = data(&model, 8);
        check("a Gaussian of 2 dimensions", error(&model, &x, &run(&likelihood, &model, &x).log_density));
        let mean = NOISE.normal(&[16], 0, 60, Dtype::F64).to_vec::<f64>();
        let model = Gaussian::new(sde.clone(), &mean, &covariance(16, 0.5, 0.05, 61));
        let x = data(&model, 4);
        check("a Gaussian of 16 dimensions", error(&model, &x, &run(&likelihood, &model, &x).log_density));
        for (d, count, apart, n) in [(2, 3, 1.0, 8), (8, 4, 0.8, 4), (64, 2, 0.8, 2)] {
            let model = clusters(sde.clone(), d, count, apart);
            let x = data(&model, n);
            let found = run(&likelihood, &model, &x);
            check(&format!("a mixture of {d} dimensions"), error(&model, &x, &found.log_density));
            // What that costs: nothing is stiff at either end.
            assert!(found.nfe < 120, "{d} dimensions on {}: {} evaluations", sde.name(), found.nfe);
        }
    }
}

#[test]
fn far_apart_clusters_are_exact_where_the_noise_ends_large() {
    // Narrow clusters, whose samples decide at some point of their way: Jacobians are large there, and steps short.
    for sde in [SdeConfig::from(Edm::default()), VariancePreserving::default().into(), LinearFlow::default().into()] {
        let model = mixture(sde.clone());
        let x = data(&model, 32);
        let error = error(&model, &x, &run(&within(1e-7), &model, &x).log_density);
        assert!(error < 1e-4, "{}: {error:e} nats", sde.name());
    }
}

#[test]
fn processes_with_the_same_ends_give_the_same_number() {
    let flow = LinearFlow { t_min: 0.01, t_max: 0.99 };
    let edm = Edm { sigma_min: 0.01 / 0.99, sigma_max: 99.0 };
    let (on_flow, on_edm) = (clusters(flow.clone(), 3, 3, 1.0), clusters(edm, 3, 3, 1.0));
    let x = data(&on_edm, 6);
    for prior in [Prior::Noise, Prior::Matched] {
        let likelihood = Likelihood { prior, ..in_steps(Method::Rk4, 20) };
        let a = run(&likelihood, &on_edm, &x).log_density;
        // The state of the flow is 0.99 times that of EDM.
        let b = run(&likelihood, &on_flow, &(&x * 0.99)).log_density;
        let b: Vec<f64> = b.iter().map(|b| b + 3.0 * 0.99_f64.ln()).collect();
        assert!(largest(&a, &b) < 1e-9, "{prior:?}: {:e}", largest(&a, &b));
    }
}

#[test]
fn the_log_density_given_a_class_is_that_of_its_components() {
    let model = clusters(VariancePreserving::default(), 2, 3, 1.0).with_classes(vec![0, 1, 1]);
    let x = data(&model, 9);
    // The null class among them, and samples that reach the end at different times.
    let cond = Cond::classes(vec![0, 1, 2, 1, 0, 0, 2, 1, 1]);
    let found = within(1e-6).log_density(&model, &x, &cond, NOISE, 0).unwrap();
    let exact = model.log_density(&x, &model.sde().span().0.into(), &cond).to_vec::<f64>();
    assert!(largest(&found.log_density, &exact) < 1e-4);
}

/// `exp(ln p)` summed over a square with this half width.
fn mass(likelihood: &Likelihood, model: &dyn Denoiser, half: f64, points: usize) -> f64 {
    let step = 2.0 * half / points as f64;
    let at = |i: usize| -half + (i as f64 + 0.5) * step;
    let x: Vec<f64> = (0..points * points).flat_map(|i| [at(i / points), at(i % points)]).collect();
    let x = Tensor::from_vec(&[points * points, 2], x);
    run(likelihood, model, &x).log_density.iter().map(|l| l.exp()).sum::<f64>() * step * step
}

#[test]
fn the_density_of_a_mixture_integrates_to_one() {
    for prior in [Prior::Matched, Prior::Noise] {
        let mass = mass(&Likelihood { prior, ..within(1e-5) }, &mixture(Edm { sigma_min: 0.02, sigma_max: 80.0 }), 3.5, 70);
        assert!((mass - 1.0).abs() < 1e-3, "{prior:?}: {mass}");
    }
}

/// A network of random weights, which is no conditional mean of anything.
fn network(dtype: Dtype) -> DiffusionModel {
    let config = ModelConfig {
        sample_shape: vec![2],
        classes: None,
        sde: Edm { sigma_min: 0.05, sigma_max: 20.0 }.into(),
        preconditioning: Preconditioning::default(),
        learned_variance: false,
        network: NetworkConfig::Mlp(MlpConfig { hidden: 16, blocks: 2, embedding: 8, ..MlpConfig::default() }),
    };
    let mut key = 0;
    DiffusionModel::new(config, 0, Dtype::F64)
        .unwrap()
        .map(|weights| {
            key += 1;
            &NOISE.normal(weights.shape(), 0, 100 + key, Dtype::F64) * (1.0 / (weights.dim(0) as f64).sqrt())
        })
        .to(dtype)
}

#[test]
fn the_flow_of_any_network_has_a_density_that_integrates_to_one() {
    // No oracle: only a trace that is that of the flow conserves mass.
    let likelihood = Likelihood { prior: Prior::Noise, ..within(1e-4) };
    let mass = mass(&likelihood, &network(Dtype::F64), 4.0, 60);
    assert!((mass - 1.0).abs() < 1e-3, "{mass}");
}

#[test]
fn a_narrow_network_under_a_wide_state_gives_the_same_to_its_own_rounding() {
    let x = &NOISE.normal(&[20, 2], 0, 9, Dtype::F64) * 0.5;
    let [wide, narrow] = [Dtype::F64, Dtype::F32].map(|dtype| run(&in_steps(Method::Rk4, 60), &network(dtype), &x));
    assert!(largest(&wide.log_density, &narrow.log_density) < 1e-4);
    assert_eq!(narrow.latent.dtype(), Dtype::F64);
    assert!(largest(&wide.log_density, &narrow.log_density) > 1e-9, "the network was not narrow");
}

#[test]
fn fixed_steps_converge_in_the_methods_order() {
    let model = clusters(Edm { sigma_min: 0.05, sigma_max: 80.0 }, 2, 3, 1.0);
    let x = data(&model, 4);
    let reference = run(&in_steps(Method::Dopri5, 400), &model, &x).log_density;
    let methods: [(Method, f64, [usize; 3]); 5] = [
        (Method::Euler, 1.0, [200, 400, 800]),
        (Method::Heun, 2.0, [50, 100, 200]),
        (Method::Rk4, 4.0, [20, 40, 80]),
        (Method::Dopri5, 5.0, [16, 32, 64]),
        (Method::Tsit5, 5.0, [16, 32, 64]),
    ];
    for (method, order, steps) in methods {
        let errors = steps.map(|steps| largest(&run(&in_steps(method, steps), &model, &x).log_density, &reference));
        let found = fitted_order(&steps, &errors);
        // Errors of the fifth order may be smaller than those of the sixth at steps as long as these.
        assert!(found > order - 0.3 && found < order + 1.2, "{method:?}: order {found}, errors {errors:?}");
    }
}

#[test]
fn tolerances_are_met_in_the_log_density_and_cost_what_they_should() {
    let model = mixture(VariancePreserving::default());
    let x = data(&model, 24);
    let reference = run(&within(1e-11), &model, &x).log_density;
    let measure = |integrator: &Integrator, tolerance: f64| {
        let integrator = integrator.clone().map_tolerances(|_| tolerance);
        let found = run(&Likelihood { integrator, ..Likelihood::default() }, &model, &x);
        (largest(&found.log_density, &reference), found.nfe)
    };
    for per in [Per::Sample, Per::Batch] {
        let adams = Integrator::Adams(VariableAdams { per, ..VariableAdams::default() });
        let [dopri5, tsit5] = [Method::Dopri5, Method::Tsit5].map(|method| {
            let control = Control { per, ..Control::default() };
            Integrator::Adaptive { method, control }
        });
        for (integrator, most) in [(&adams, 200.0), (&dopri5, 20.0), (&tsit5, 20.0)] {
            let mut costs = Vec::new();
            for decade in 3..9 {
                let tolerance = 10.0_f64.powi(-decade);
                let (error, nfe) = measure(integrator, tolerance);
                assert!(error < most * tolerance, "{integrator:?} at {tolerance:e}: {error:e}, {nfe} evaluations");
                costs.push(nfe);
            }
            assert!(costs.windows(2).all(|pair| pair[0] < pair[1]), "{integrator:?}: {costs:?}");
        }
        // As exact at a fiftieth of the tolerance, for half of the evaluations or little more.
        for decade in 4..8 {
            let tolerance = 10.0_f64.powi(-decade);
            let (ours, theirs) = (measure(&adams, 0.02 * tolerance), measure(&dopri5, tolerance));
            assert!(ours.0 < 2.0 * theirs.0 && 10 * ours.1 < 6 * theirs.1, "at {tolerance:e}: {ours:?} and {theirs:?}");
        }
    }
}

#[test]
fn evaluations_and_products_are_counted() {
    let model = clusters(Edm::default(), 3, 2, 1.0);
    let x = data(&model, 5);
    let cost = |likelihood: &Likelihood| {
        let found = run(likelihood, &model, &x);
        (found.nfe, found.products)
    };
    let noise = Likelihood { prior: Prior::Noise, ..in_steps(Method::Rk4, 10) };
    assert_eq!(cost(&noise), (40, 40 * 3));
    assert_eq!(cost(&in_steps(Method::Rk4, 10)), (42, 42 * 3 + 3));
    let probes = Probes { count: 2, ..Probes::default() };
    assert_eq!(cost(&Likelihood { divergence: Divergence::Hutchinson(probes.clone()), ..noise.clone() }), (40, 80));
    assert_eq!(cost(&Likelihood { divergence: Divergence::HutchPlusPlus(probes), ..noise }), (40, 240));
    // One to begin with, one for each step, and two at the far end.
    let (nfe, products) = cost(&within(1e-5));
    assert!(nfe > 20 && products == 3 * nfe + 3, "{nfe}, {products}");
    // Two to begin with, six for each step, of which the second stage has no weight in the result, and two at the far end.
    let control = Control { rtol: 1e-5, atol: 1e-5, per: Per::Batch, ..Control::default() };
    let dopri5 = Integrator::Adaptive { method: Method::Dopri5, control };
    let (nfe, products) = cost(&Likelihood { integrator: dopri5, ..Likelihood::default() });
    let steps = (nfe - 4) / 6;
    assert!(steps > 10 && nfe == 6 * steps + 4 && products == 3 * (nfe - steps) + 3, "{nfe}, {products}");
    // At pure noise there is nothing to ask.
    let flow = clusters(LinearFlow::default(), 3, 2, 1.0);
    let [matched, unmatched] = [Prior::Matched, Prior::Noise].map(|prior| run(&Likelihood { prior, ..within(1e-5) }, &flow, &x));
    assert_eq!((matched.nfe, matched.log_density), (unmatched.nfe, unmatched.log_density));
}

/// States between the ends of a short way, where the density at its far end is what matters.
fn far_end_errors<M: Exact>(make: impl Fn(Edm) -> M, prior: Prior, levels: &[usize]) -> Vec<f64> {
    let errors = levels.iter().map(|&u| {
        let sde = Edm { sigma_min: 0.9 * u as f64, sigma_max: u as f64 };
        let model = make(sde);
        let x = data(&model, 16);
        error(&model, &x, &run(&Likelihood { prior, ..in_steps(Method::Dopri5, 20) }, &model, &x).log_density)
    });
    errors.collect()
}

#[test]
fn the_matched_prior_is_of_order_four_for_any_data_and_six_for_normal_ones() {
    let levels = [8, 16, 32];
    let matched = far_end_errors(mixture, Prior::Matched, &levels);
    let normal = far_end_errors(gaussian, Prior::Matched, &levels);
    for (errors, order) in [(&matched, 4.0), (&normal, 6.0)] {
        let found = fitted_order(&levels, errors);
        assert!((found - order).abs() < 0.5, "order {found} instead of {order}: {errors:?}");
    }
    // Where VE of Song et al. ends, for data of unit size.
    assert!(far_end_errors(mixture, Prior::Matched, &[50])[0] < 1e-6);
    assert!(far_end_errors(mixture, Prior::Noise, &[50])[0] > 1e-3);
}

#[test]
fn the_latent_is_where_the_flow_ends_and_leads_back_to_the_data() {
    for sde in [SdeConfig::from(VarianceExploding::default()), VariancePreserving::default().into(), LinearFlow::default().into()]
    {
        let (t_min, t_max) = sde.span();
        let model = gaussian(sde.clone());
        let x = data(&model, 6);
        let found = run(&within(1e-8), &model, &x);
        let exact = model.flow(&x, t_min, t_max);
        assert!(max_difference(&found.latent, &exact) < 1e-6 * exact.abs().max_all().item(), "{}", sde.name());
        let control = Control { rtol: 1e-8, atol: 1e-8, ..Control::default() };
        let solver = AdaptiveRungeKutta { control, ..AdaptiveRungeKutta::default() };
        let grid = Grid::new(vec![t_max, t_min], false, &sde).unwrap();
        let sampler = Sampler::new(&model, solver, grid).unwrap().state(Dtype::F64);
        let back = sampler.integrate(found.latent, &Cond::NONE, NOISE, 0, &mut []).unwrap().x;
        assert!(max_difference(&back, &x) < 1e-5, "{}: {:e}", sde.name(), max_difference(&back, &x));
    }
}

#[test]
fn the_ends_can_be_chosen() {
    let sde = VariancePreserving::default();
    let model = mixture(sde.clone());
    let x = diffuse(&sde, &0.3.into(), &model.sample(8, NOISE, 0), &NOISE.normal(&[8, 2], 0, 9, Dtype::F64));
    let found = run(&Likelihood { t_min: Some(0.3), t_max: Some(0.98), ..within(1e-7) }, &model, &x);
    let exact = model.log_density(&x, &0.3.into(), &Cond::NONE).to_vec::<f64>();
    assert!(largest(&found.log_density, &exact) < 1e-5);
}

/// Every estimator with random probes.
fn estimators(count: usize, fresh: bool) -> Vec<Divergence> {
    [Law::Rademacher, Law::Gaussian]
        .into_iter()
        .flat_map(|law| {
            let probes = Probes { count, law, fresh };
            [Divergence::Hutchinson(probes.clone()), Divergence::HutchPlusPlus(probes)]
        })
        .collect()
}

/// Mean and variance of the numbers, and the standard error of the mean.
fn moments(values: &[f64]) -> (f64, f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, variance, (variance / n).sqrt())
}

#[test]
fn estimates_of_the_trace_are_unbiased_and_hutchinsons_have_the_variance_of_theory() {
    let (n, t) = (20_000, Times::Same(0.7));
    let model = clusters(Edm::default(), 6, 3, 1.5);
    let row = diffuse(model.sde(), &t, &model.sample(1, NOISE, 0), &NOISE.normal(&[1, 6], 0, 9, Dtype::F64));
    let x = row.gather(&vec![0; n]);
    let trace = model.divergence(&row, &t, &Cond::NONE).item();
    let jacobian = model.jacobian(&row, &t, &Cond::NONE).to_vec::<f64>();
    let squared_norm: f64 = jacobian.iter().map(|v| v * v).sum();
    let diagonal: f64 = (0..6).map(|i| jacobian[i * 7].powi(2)).sum();
    for divergence in estimators(2, false) {
        let found = divergence.trace(|x| model.denoise(x, &t, &Cond::NONE), &x, NOISE, 0);
        for (estimates, exact) in [(&found.trace, trace), (&found.squared_norm, squared_norm)] {
            let (mean, _, standard_error) = moments(estimates);
            assert!(((mean - exact) / standard_error).abs() < 4.5, "{divergence:?}: {mean} ± {standard_error}, exact {exact}");
        }
        let expected = match divergence {
            Divergence::Hutchinson(Probes { law: Law::Gaussian, .. }) => squared_norm,
            Divergence::Hutchinson(_) => squared_norm - diagonal,
            _ => continue,
        };
        // Two probes, so that twice over two is left.
        let (_, variance, _) = moments(&found.trace);
        assert!((variance / expected - 1.0).abs() < 0.08, "{divergence:?}: variance {variance}, expected {expected}");
    }
}

#[test]
fn hutch_plus_plus_has_less_variance_for_the_same_products_where_few_directions_matter() {
    // Three wide directions of twenty, none of them along an axis.
    let d = 20;
    let wide = NOISE.normal(&[d, 3], 0, 90, Dtype::F64);
    let mut matrix = wide.matmul_nt(&wide).to_vec::<f64>();
    (0..d).for_each(|i| matrix[i * d + i] += 1e-4);
    let matrix = (0..d * d).map(|i| 0.5 * (matrix[i] + matrix[i % d * d + i / d])).collect();
    let model = Gaussian::new(Edm::default(), &vec![0.0; d], &Covariance::Full(matrix));
    let x = NOISE.normal(&[1, d], 0, 9, Dtype::F64).gather(&vec![0; 4000]);
    for law in [Law::Rademacher, Law::Gaussian] {
        let run = |divergence: Divergence| {
            let found = divergence.trace(|x| model.denoise(x, &Times::Same(0.1), &Cond::NONE), &x, NOISE, 0);
            (moments(&found.trace).1, found.products)
        };
        let (plain, products) = run(Divergence::Hutchinson(Probes { count: 12, law, fresh: false }));
        let (sketched, same) = run(Divergence::HutchPlusPlus(Probes { count: 4, law, fresh: false }));
        assert_eq!(products, same);
        assert!(sketched < 0.02 * plain, "{law:?}: {sketched:e} and {plain:e}");
    }
}

#[test]
fn estimates_of_the_log_density_are_unbiased_with_fixed_and_with_fresh_probes() {
    let n = 2000;
    let model = clusters(VariancePreserving::default(), 5, 2, 1.0);
    let row = data(&model, 1);
    let likelihood = in_steps(Method::Rk4, 16);
    let exact = run(&likelihood, &model, &row).log_density[0];
    let x = row.gather(&vec![0; n]);
    for fresh in [false, true] {
        for divergence in estimators(1, fresh) {
            let found = run(&Likelihood { divergence: divergence.clone(), ..likelihood.clone() }, &model, &x);
            let (mean, variance, standard_error) = moments(&found.log_density);
            assert!(((mean - exact) / standard_error).abs() < 4.5, "{divergence:?}: {mean} ± {standard_error}, exact {exact}");
            assert!(variance > 1e-6, "{divergence:?} is not random");
        }
    }
}

#[test]
fn hutchinsons_estimates_of_the_log_density_are_unbiased_on_every_process() {
    let n = 400;
    for sde in SdeConfig::all() {
        let model = clusters(sde.clone(), 4, 2, 1.0);
        let row = data(&model, 1);
        let likelihood = in_steps(Method::Rk4, 12);
        let exact = run(&likelihood, &model, &row).log_density[0];
        let random = Likelihood { divergence: Divergence::Hutchinson(Probes::default()), ..likelihood };
        let (mean, variance, error) = moments(&run(&random, &model, &row.gather(&vec![0; n])).log_density);
        assert!(((mean - exact) / error).abs() < 4.5 && variance > 1e-6, "{}: {mean} ± {error}, exact {exact}", sde.name());
    }
}

#[test]
fn a_sample_does_not_depend_on_its_batch() {
    let model = clusters(VariancePreserving::default(), 3, 3, 1.0);
    let x = data(&model, 40);
    let configurations = estimators(2, false)
        .into_iter()
        .chain([Divergence::Exact])
        .map(|divergence| Likelihood { divergence, ..within(1e-5) })
        .chain(estimators(2, true).into_iter().map(|divergence| Likelihood { divergence, ..in_steps(Method::Heun, 10) }));
    for likelihood in configurations {
        let together = run(&likelihood, &model, &x);
        for rows in [3..4, 17..40] {
            let first = rows.start as u64;
            let some = likelihood.log_density(&model, &x.slice(0, rows.clone()), &Cond::NONE, NOISE, first).unwrap();
            let difference = largest(&some.log_density, &together.log_density[rows.clone()]);
            assert!(difference < 1e-11, "{likelihood:?}: {difference:e}");
            assert!(max_difference(&some.latent, &together.latent.slice(0, rows)) < 1e-11);
        }
        // Other samples have other probes.
        let other = likelihood.log_density(&model, &x, &Cond::NONE, NOISE, 1).unwrap();
        let random = likelihood.divergence != Divergence::Exact;
        assert_eq!(largest(&other.log_density, &together.log_density) > 1e-6, random, "{likelihood:?}");
    }
    // Nor on the shape of a sample, or on there being others at all.
    let shaped = run(&within(1e-5), &model, &x.reshape(&[40, 1, 3, 1]));
    assert_eq!(shaped.latent.shape(), [40, 1, 3, 1]);
    assert_eq!(shaped.log_density, run(&within(1e-5), &model, &x).log_density);
    assert!(run(&within(1e-5), &model, &Tensor::zeros(&[0, 3], Dtype::F64)).log_density.is_empty());
}

/// A model whose answers break for states to the right, or its derivatives do.
struct Broken {
    sde: Edm,
    derivative: bool,
}

impl Denoiser for Broken {
    fn sde(&self) -> &dyn Sde {
        &self.sde
    }

    fn denoise(&self, x: &Tensor, _t: &Times, _c: &Cond) -> Tensor {
        // √max(0, 1 − x): its derivative is 0 · ∞ right of 1; and 1/0 without the maximum.
        let room = &(x * -1.0) + 1.0;
        if self.derivative { (&(&room + &room.abs()) * 0.5).sqrt() } else { room.sqrt() }
    }
}

#[test]
fn what_is_not_finite_is_named_with_its_sample_and_place() {
    let likelihood = in_steps(Method::Euler, 3);
    let x = Tensor::from_vec(&[3, 1], vec![0.5, 0.2, 7.0]);
    for (derivative, what) in [(false, "the denoiser's answer"), (true, "the denoiser's derivative")] {
        let model = Broken { sde: Edm::default(), derivative };
        let error = likelihood.log_density(&model, &x, &Cond::NONE, NOISE, 10).unwrap_err();
        let SolveError::NotFiniteSample { sample, t, s, .. } = error else { panic!("{error}") };
        assert!(sample == 12 && t == 0.002 && (s - (0.001_f64).ln()).abs() < 1e-5, "{error}");
        assert!(error.to_string().starts_with("sample 12 (t = 0.002, s = -6.9") && error.to_string().contains(what), "{error}");
    }
    let x = Tensor::from_vec(&[2, 1], vec![0.5, f64::INFINITY]);
    let model = Broken { sde: Edm::default(), derivative: false };
    let message = likelihood.log_density(&model, &x, &Cond::NONE, NOISE, 0).unwrap_err().to_string();
    assert!(message.starts_with("sample 1 (") && message.contains("the data is not finite"), "{message}");
}

#[test]
fn configurations_that_make_no_sense_are_refused_by_name() {
    let model = gaussian(Edm::default());
    let x = data(&model, 1);
    let with = |control: Control| Likelihood {
        integrator: Integrator::Adaptive { method: Method::Tsit5, control },
        ..Likelihood::default()
    };
    let adams = |adams: VariableAdams| Likelihood { integrator: Integrator::Adams(adams), ..Likelihood::default() };
    let none = Probes { count: 0, ..Probes::default() };
    let fresh = Divergence::Hutchinson(Probes { fresh: true, ..Probes::default() });
    let rk4 = Integrator::Adaptive { method: Method::Rk4, control: Control::default() };
    let bad = [
        (with(Control { rtol: 0.0, ..Control::default() }), "control.rtol"),
        (with(Control { atol: f64::NAN, ..Control::default() }), "control.atol"),
        (with(Control { max_steps: 0, ..Control::default() }), "control.max_steps"),
        (adams(VariableAdams { rtol: -1.0, ..VariableAdams::default() }), "`rtol`"),
        (adams(VariableAdams { atol: f64::INFINITY, ..VariableAdams::default() }), "`atol`"),
        (adams(VariableAdams { max_order: 13, ..VariableAdams::default() }), "`max_order`: expected 1 to 12"),
        (adams(VariableAdams { max_steps: 0, ..VariableAdams::default() }), "`max_steps`"),
        (Likelihood { integrator: rk4, ..Likelihood::default() }, "`method`"),
        (in_steps(Method::Rk4, 0), "`steps`"),
        (Likelihood { divergence: Divergence::Hutchinson(none.clone()), ..Likelihood::default() }, "`hutchinson`: field `count`"),
        (Likelihood { divergence: Divergence::HutchPlusPlus(none), ..Likelihood::default() }, "`hutch++`: field `count`"),
        (Likelihood { divergence: fresh, ..Likelihood::default() }, "fresh probes"),
        (Likelihood { t_min: Some(1e-9), ..Likelihood::default() }, "t_min, t_max"),
        (Likelihood { t_min: Some(3.0), t_max: Some(2.0), ..Likelihood::default() }, "t_min, t_max"),
        (Likelihood { t_max: Some(f64::NAN), ..Likelihood::default() }, "t_min, t_max"),
    ];
    for (likelihood, part) in bad {
        let message = likelihood.log_density(&model, &x, &Cond::NONE, NOISE, 0).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    for hurried in [
        with(Control { rtol: 1e-9, atol: 1e-9, max_steps: 4, ..Control::default() }),
        adams(VariableAdams { max_steps: 4, ..VariableAdams::default() }),
    ] {
        let error = hurried.log_density(&model, &x, &Cond::NONE, NOISE, 0).unwrap_err();
        let SolveError::TooManySteps { steps: 4, t, .. } = error else { panic!("{error}") };
        assert!(t > 0.002 && t < 80.0, "{error}");
    }
}

#[test]
fn configurations_are_read_with_defaults_and_written_back() {
    let text = r#"{"divergence": {"kind": "hutch++", "count": 4}, "integrator": {"kind": "fixed", "method": "tsit5"}, "prior": "noise"}"#;
    let read: Likelihood = serde_json::from_str(text).unwrap();
    let expected = Likelihood {
        divergence: Divergence::HutchPlusPlus(Probes { count: 4, law: Law::Rademacher, fresh: false }),
        integrator: Integrator::Fixed { method: Method::Tsit5, steps: 50 },
        prior: Prior::Noise,
        ..Likelihood::default()
    };
    assert_eq!(read, expected);
    for likelihood in [read, Likelihood::default()] {
        let text = serde_json::to_string(&likelihood).unwrap();
        assert_eq!(serde_json::from_str::<Likelihood>(&text).unwrap(), likelihood);
    }
    assert_eq!(serde_json::from_str::<Likelihood>(r#"{"integrator": {"kind": "adams"}}"#).unwrap(), Likelihood::default());
    assert!(serde_json::from_str::<Likelihood>(r#"{"divergence": {"kind": "hutchinson", "probes": 4}}"#).is_err());
}

#[test]
fn another_seed_gives_another_estimate() {
    let model = clusters(Edm::default(), 3, 2, 1.0);
    let x = data(&model, 4);
    let probes = Probes { law: Law::Gaussian, ..Probes::default() };
    let likelihood = Likelihood { divergence: Divergence::Hutchinson(probes), ..within(1e-4) };
    let [a, b] = [1, 2].map(|seed| likelihood.log_density(&model, &x, &Cond::NONE, Noise::new(seed, 0), 0).unwrap());
    assert!(a.log_density.iter().zip(&b.log_density).all(|(a, b)| a != b));
}

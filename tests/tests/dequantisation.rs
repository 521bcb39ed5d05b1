//! Probabilities of discrete data: the bound of uniform dequantisation, tighter with more draws, and never above the truth.

mod oracle;

use fokker_sde::{Cond, Covariance, Denoiser, Edm, Exact, Gaussian};
use fokker_solve::{Dequantisation, Divergence, Integrator, Law, Likelihood, Method, Probes};
use fokker_tensor::Tensor;

use oracle::NOISE;

fn likelihood() -> Likelihood {
    Likelihood { integrator: Integrator::Fixed { method: Method::Rk4, steps: 24 }, ..Likelihood::default() }
}

/// Data of the size of the cells, so that the density changes within them.
fn model() -> Gaussian {
    Gaussian::new(Edm { sigma_min: 0.05, sigma_max: 30.0 }, &[0.1, -0.2], &Covariance::Full(vec![0.12, 0.05, 0.05, 0.06]))
}

/// Mean and its standard error.
fn mean(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt())
}

/// The mean of `ln p` over the cell of `x`, and `ln` of the integral of `p` over it.
fn by_quadrature(model: &Gaussian, x: &[f64], width: f64) -> (f64, f64) {
    let n = 200;
    let at = |x: f64, i: usize| x + width * ((i as f64 + 0.5) / n as f64 - 0.5);
    let cell: Vec<f64> = (0..n * n).flat_map(|i| [at(x[0], i / n), at(x[1], i % n)]).collect();
    let start = model.sde().span().0;
    let values = Exact::log_density(model, &Tensor::from_vec(&[n * n, 2], cell), &start.into(), &Cond::NONE).to_vec::<f64>();
    let count = (n * n) as f64;
    let integral = values.iter().map(|v| v.exp()).sum::<f64>() / count;
    (values.iter().sum::<f64>() / count, integral.ln() + 2.0 * width.ln())
}

#[test]
fn more_draws_come_closer_to_the_probability_from_below() {
    let (model, n) = (model(), 1500);
    for x in [[0.0, 0.0], [0.5, -0.5]] {
        let (mean_log, exact) = by_quadrature(&model, &x, 0.5);
        let rows = Tensor::from_vec(&[1, 2], x.to_vec()).gather(&vec![0; n]);
        let bounds: Vec<(f64, f64)> = [1, 4, 16]
            .iter()
            .map(|&draws| {
                let cells = Dequantisation { levels: 5, draws };
                let found = likelihood().log_probability(&model, &rows, &cells, &Cond::NONE, NOISE, 0).unwrap();
                assert_eq!((found.nfe, found.products), (draws * 98, draws * (98 * 2 + 3)));
                mean(&found.log_probability)
            })
            .collect();
        // One draw: the mean of ln p, and the offset.
        let (one, error) = bounds[0];
        let expected = mean_log + 2.0 * 0.5_f64.ln();
        assert!((one - expected).abs() < 4.5 * error + 1e-4, "{one} ± {error}, expected {expected}");
        for (pair, factor) in bounds.windows(2).zip([0.5, 0.4]) {
            let gaps = [exact - pair[0].0, exact - pair[1].0];
            // What is missing falls like 1/k in the end.
            assert!(gaps[0] > 0.0 && gaps[1] < factor * gaps[0] && gaps[1] > -4.5 * pair[1].1, "{bounds:?}, exact {exact}");
        }
    }
}

#[test]
fn random_probes_do_not_raise_the_bound() {
    let (model, n) = (model(), 6000);
    let rows = Tensor::from_vec(&[1, 2], vec![0.5, -0.5]).gather(&vec![0; n]);
    let cells = Dequantisation { levels: 5, draws: 8 };
    let run = |divergence| {
        let likelihood = Likelihood { divergence, ..likelihood() };
        mean(&likelihood.log_probability(&model, &rows, &cells, &Cond::NONE, NOISE, 0).unwrap().log_probability)
    };
    let probes = Probes { count: 1, law: Law::Gaussian, fresh: false };
    let (exact, random) = (run(Divergence::Exact), run(Divergence::Hutchinson(probes)));
    // The scatter of a probe is many times that of the draws: with probes of its own each draw would be a chance to be too high, and
    // the mean would rise by about half of their variance.
    let variance = (n as f64) * random.1.powi(2);
    assert!(variance > 0.2, "{variance}");
    assert!((exact.0 - random.0).abs() < 4.5 * random.1, "{exact:?} and {random:?}");
    assert!(4.5 * random.1 < 0.3 * 0.5 * variance, "the test would not see it: {random:?}");
}

#[test]
fn a_samples_probability_does_not_depend_on_its_batch() {
    let model = model();
    let x = Tensor::from_vec(&[4, 2], vec![0.0, 0.5, -0.5, 0.0, 1.0, 1.0, -1.0, 0.0]);
    let cells = Dequantisation { levels: 5, draws: 3 };
    let run =
        |x: &Tensor, first| likelihood().log_probability(&model, x, &cells, &Cond::NONE, NOISE, first).unwrap().log_probability;
    let (whole, part) = (run(&x, 10), run(&x.slice(0, 2..4), 12));
    assert!(whole[2..].iter().zip(&part).all(|(a, b)| (a - b).abs() < 1e-11), "{whole:?} {part:?}");
    assert!((whole[0] - run(&x, 11)[0]).abs() > 1e-6, "other samples have other draws");
}

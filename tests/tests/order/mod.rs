//! Observed orders of convergence.

use fokker_sde::Sde;
use fokker_solve::{Grid, GridConfig, LogSnr, Spacing, Uniform};

/// The least-squares slope of `ln error` against `ln n`, negated: the observed order.
pub(crate) fn fitted_order(steps: &[usize], errors: &[f64]) -> f64 {
    let points: Vec<(f64, f64)> = steps.iter().zip(errors).map(|(n, e)| ((*n as f64).ln(), e.ln())).collect();
    let count = points.len() as f64;
    let mean = points.iter().fold((0.0, 0.0), |m, p| (m.0 + p.0 / count, m.1 + p.1 / count));
    let covariance: f64 = points.iter().map(|p| (p.0 - mean.0) * (p.1 - mean.1)).sum();
    -covariance / points.iter().map(|p| (p.0 - mean.0).powi(2)).sum::<f64>()
}

/// A grid uniform in time without last denoising step between two noise levels.
pub(crate) fn interior_grid(sde: &dyn Sde, steps: usize, log_snr: (f64, f64)) -> Grid {
    spaced_grid(sde, steps, log_snr, Uniform::default().into())
}

/// The same uniform in the log-SNR.
pub(crate) fn log_snr_grid(sde: &dyn Sde, steps: usize, log_snr: (f64, f64)) -> Grid {
    spaced_grid(sde, steps, log_snr, LogSnr::default().into())
}

fn spaced_grid(sde: &dyn Sde, steps: usize, log_snr: (f64, f64), spacing: Spacing) -> Grid {
    let config = GridConfig {
        steps,
        spacing,
        t_max: Some(sde.time_at_log_snr(log_snr.0)),
        t_min: Some(sde.time_at_log_snr(log_snr.1)),
        denoise_last: false,
    };
    config.build(sde).unwrap()
}

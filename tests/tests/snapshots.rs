//! Whole trajectories, so that a change of any solver is seen. That they are right is shown in `solvers.rs`.

use fokker_sde::{Cond, Covariance, GaussianMixture, VariancePreserving};
use fokker_solve::{GridConfig, Sampler, Solver, SolverConfig, Step};
use fokker_tensor::{Dtype, Noise, Tensor};

/// Two samples of a mixture in the plane under VP by 8 steps that are uniform in time, the last of which denoises.
fn trajectory(solver: &SolverConfig) -> String {
    let sde = VariancePreserving::default();
    let model = GaussianMixture::new(
        sde.clone(),
        &[0.6, 0.4],
        &[vec![-1.0, 0.5], vec![1.0, 0.0]],
        &[Covariance::Isotropic(0.05), Covariance::Full(vec![0.2, 0.1, 0.1, 0.1])],
    );
    let grid = GridConfig::with_steps(8);
    let sampler = Sampler::new(&model, solver.clone(), grid.build(&sde).unwrap()).unwrap().state(Dtype::F64);
    let mut lines = vec![
        serde_json::to_string(solver).unwrap(),
        "two samples of a mixture of two Gaussians under VP, 8 steps uniform in time".to_owned(),
        String::new(),
        format!(
            "{:>4} {:>6}{:>14}{:>14}{:>14}{:>14}{:>14}{:>14}",
            "step", "sample", "t", "s", "x_0", "x_1", "denoised_0", "denoised_1"
        ),
    ];
    let number = |x: f64| format!("{x:>14.5e}");
    let mut write = |step: &Step<'_>| {
        let row = |x: &Tensor, i: usize| x.to_vec::<f64>()[2 * i..2 * i + 2].iter().map(|&x| number(x)).collect::<String>();
        let denoised = step.denoised.expect("every step evaluates the model");
        for i in 0..2 {
            let (x, denoised) = (row(step.x, i), row(denoised, i));
            lines.push(format!("{:>4} {i:>6}{}{}{x}{denoised}", step.index + 1, number(step.t), number(step.s)));
        }
    };
    let samples = sampler.sample(&[2, 2], &Cond::NONE, Noise::new(2024, 0), 0, &mut [&mut write]).unwrap();
    lines.push(String::new());
    lines.push(format!("evaluations: {}", samples.nfe));
    lines.join("\n")
}

#[test]
fn snapshot_of_a_trajectory_of_every_solver() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for solver in SolverConfig::all() {
            insta::assert_snapshot!(solver.name(), trajectory(&solver));
        }
    });
}

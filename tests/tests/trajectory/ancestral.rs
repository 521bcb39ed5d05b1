//! k-diffusion's ancestral samplers around any solver.

use fokker_sde::Sde;
use fokker_solve::{Context, Grid, Kind, SolveError, Solver, Stepper, combine};
use fokker_tensor::Tensor;

/// What k-diffusion calls ancestral, around any one-step solver: its step to the level `√(s² − up²)` below the level `s` aimed
/// at, then noise `up` to it. fokker lists it around Euler's step only.
#[derive(Clone, Debug)]
pub(crate) struct Ancestrally<S> {
    /// The solver that goes down.
    pub(crate) inner: S,
    /// How much of the posterior's noise to add.
    pub(crate) eta: f64,
    /// A factor of the noise added.
    pub(crate) s_noise: f64,
}

impl<S: Solver + Clone + 'static> Solver for Ancestrally<S> {
    fn name(&self) -> &'static str {
        "ancestrally"
    }
    fn order(&self) -> u32 {
        1
    }
    fn kind(&self) -> Kind {
        Kind::Sde
    }
    fn evaluations(&self, moves: usize) -> Option<usize> {
        self.inner.evaluations(moves)
    }
    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        let (eta, s_noise) = (self.eta, self.s_noise);
        Ok(Box::new(AncestralStep { inner: self.inner.start(sde, grid)?, eta, s_noise }))
    }
}

struct AncestralStep {
    inner: Box<dyn Stepper>,
    eta: f64,
    s_noise: f64,
}

impl Stepper for AncestralStep {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        // On EDM, where times are noise levels.
        let (t, s) = (cx.t, cx.s);
        let up = (self.eta * s * (1.0 - (s / t).powi(2)).sqrt()).min(s);
        cx.s = (s * s - up * up).sqrt();
        let down = self.inner.step(cx, x)?;
        cx.s = s;
        let noise = cx.normal(0, &down);
        Ok(combine(1.0, down, &[(self.s_noise * up, &noise)]))
    }
}

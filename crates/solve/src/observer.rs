//! Watching a trajectory: progress bars, movies, snapshots.

use fokker_tensor::Tensor;

/// One finished step of one batch.
pub struct Step<'a> {
    /// The number of the step, from 0.
    pub index: usize,
    /// The number of steps of the trajectory, the last denoising one included.
    pub total: usize,
    /// The time the step started from.
    pub t: f64,
    /// The time it reached; 0 after the last denoising step.
    pub s: f64,
    /// The state at `s`, `[B, ...]`.
    pub x: &'a Tensor,
    /// The last `x̂₀` that was computed during the step, `[B, ...]`.
    pub denoised: Option<&'a Tensor>,
    /// The index of the batch's first sample.
    pub first_sample: u64,
}

/// Something that wants to see every step.
pub trait Observer {
    /// A batch starts at the state `x`, `[B, ...]`, at time `t`.
    fn start(&mut self, _x: &Tensor, _t: f64, _first_sample: u64) {}

    /// Times at which it wants the state besides the ends of the steps, in any order, each between the grid's first and last: of solvers
    /// with [dense output](crate::Solver::dense_order).
    fn times(&self) -> &[f64] {
        &[]
    }

    /// The state `x`, `[B, ...]`, at one of its [`times`](Self::times): in the order in which the trajectory comes to them.
    fn state(&mut self, _t: f64, _x: &Tensor) {}

    /// A step was made.
    fn step(&mut self, step: &Step<'_>);
}

/// Any closure over a [`Step`] observes.
impl<F: FnMut(&Step<'_>)> Observer for F {
    fn step(&mut self, step: &Step<'_>) {
        self(step);
    }
}

//! What solvers cost beside the model: time per step with a denoiser that is free, in passes over the state.
//!
//! A pass reads one tensor and writes another of the state's size, `[64, 32, 32, 3]` in `f32`, on one thread. A network leaves nothing of the
//! states in the caches, so the free denoiser empties them too, which is not timed, and so it is before every pass. Every pass and every
//! step is timed for itself, and passes and solvers in turn: numbers are medians, which a busy moment does not move.

use std::hint::black_box;
use std::sync::Mutex;
use std::time::Instant;

use fokker_sde::{Cond, Denoiser, Edm, Sde, Times};
use fokker_solve::{GridConfig, Karras, Kind, Sampler, Solver, SolverConfig};
use fokker_tensor::{Dtype, Noise, Tensor};
use serde::{Deserialize, Serialize};

use crate::compare::median;

const SHAPE: [usize; 4] = [64, 32, 32, 3];
/// Moves of a trajectory.
const MOVES: usize = 12;
/// Those of them that are not timed: multistep methods use more answers from step to step.
const WARM_UP: usize = 5;

/// Bytes that fill the caches.
const CACHES: usize = 64 << 20;

/// Memory that is gone through to empty the caches of everything else.
struct Evict {
    memory: Mutex<Vec<u64>>,
}

impl Evict {
    fn new() -> Evict {
        Evict { memory: Mutex::new(vec![1; CACHES / 8]) }
    }

    fn run(&self) {
        // One number of every cache line.
        self.memory.lock().expect("one thread").iter_mut().step_by(8).for_each(|x| *x += 1);
    }
}

/// Answers what it was given once, and notes when it was asked and when it answered.
struct Free {
    sde: Edm,
    answer: Tensor,
    evict: Evict,
    calls: Mutex<Vec<(Instant, Instant)>>,
}

impl Denoiser for Free {
    fn sde(&self) -> &dyn Sde {
        &self.sde
    }

    fn denoise(&self, x: &Tensor, _: &Times, _: &Cond) -> Tensor {
        let asked = Instant::now();
        assert_eq!(x.shape(), self.answer.shape());
        // A network's answer is the caller's alone.
        let answer = &self.answer * 1.0;
        self.evict.run();
        self.calls.lock().expect("one thread").push((asked, Instant::now()));
        answer
    }
}

/// One solver's cost.
#[derive(Serialize, Deserialize)]
pub(crate) struct Cost {
    solver: String,
    deterministic: bool,
    evaluations_per_step: f64,
    passes_per_step: f64,
}

/// All costs, and what they are measured in.
#[derive(Serialize, Deserialize)]
pub(crate) struct Overhead {
    pass_us: f64,
    passes_per_draw: f64,
    passes_per_check: f64,
    solvers: Vec<Cost>,
}

fn seconds(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

/// The seconds between the evaluations of a trajectory for each group of `evaluations`, but for the first steps, which warm up.
fn steps(sampler: &Sampler<'_>, model: &Free, x: &Tensor, noise: Noise, evaluations: usize) -> Vec<f64> {
    model.calls.lock().expect("one thread").clear();
    drop(black_box(sampler.integrate(x.clone(), &Cond::NONE, noise, 0, &mut [])));
    let calls = model.calls.lock().expect("one thread");
    let between: Vec<f64> = calls.windows(2).map(|pair| (pair[1].0 - pair[0].1).as_secs_f64()).collect();
    // From the end, where all steps are alike: the first steps of some methods have more evaluations.
    let timed = between.rchunks_exact(evaluations).take(MOVES - WARM_UP - 1);
    timed.map(|step| step.iter().sum()).collect()
}

/// Evaluations of one step more, after any warm-up.
fn evaluations_per_step(solver: &SolverConfig) -> usize {
    solver.evaluations(101).expect("steps are fixed") - solver.evaluations(100).unwrap_or(0)
}

/// Measures every solver of fixed steps, `rounds` times each.
pub(crate) fn measure(rounds: usize) -> Overhead {
    let noise = Noise::new(1, 0);
    let draw = |step| noise.normal(&SHAPE, 0, step, Dtype::F32);
    let x = draw(0);
    let model = Free { sde: Edm::default(), answer: draw(1), evict: Evict::new(), calls: Mutex::default() };
    let grid = GridConfig { steps: MOVES, spacing: Karras::default().into(), denoise_last: false, ..GridConfig::default() };
    let grid = grid.build(&model.sde).expect("a grid of EDM");
    let fixed = SolverConfig::all().into_iter().filter(|solver| solver.evaluations(1).is_some());
    let samplers: Vec<(SolverConfig, Sampler<'_>)> = fixed
        .map(|solver| {
            let sampler = Sampler::new(&model, solver.clone(), grid.clone()).expect("a solver of EDM");
            (solver, sampler)
        })
        .collect();

    let (from, mut to) = (x.to_vec::<f32>(), vec![0.0_f32; x.len()]);
    let (mut passes, mut draws, mut checks) = (Vec::new(), Vec::new(), Vec::new());
    let mut times = vec![Vec::new(); samplers.len()];
    for _ in 0..rounds {
        for ((solver, sampler), times) in samplers.iter().zip(&mut times) {
            model.evict.run();
            passes.push(seconds(|| black_box(&mut to).copy_from_slice(black_box(&from))));
            times.extend(steps(sampler, &model, &x, noise, evaluations_per_step(solver)));
        }
        draws.push(seconds(|| drop(black_box(draw(2)))));
        model.evict.run();
        checks.push(seconds(|| assert!(black_box(&x).all_finite())));
    }
    let pass = median(passes);
    let cost = |((solver, _), times): (&(SolverConfig, Sampler<'_>), Vec<f64>)| Cost {
        solver: solver.name().to_owned(),
        deterministic: solver.kind() == Kind::Ode,
        evaluations_per_step: evaluations_per_step(solver) as f64,
        passes_per_step: median(times) / pass,
    };
    Overhead {
        pass_us: pass * 1e6,
        passes_per_draw: median(draws) / pass,
        passes_per_check: median(checks) / pass,
        solvers: samplers.iter().zip(times).map(cost).collect(),
    }
}

/// Prints the table.
pub(crate) fn print(overhead: &Overhead) {
    println!("overhead of solvers on {SHAPE:?} f32; a pass over the state takes {:.0} µs", overhead.pass_us);
    println!(
        "  {:.1} passes to draw normal noise once, {:.2} to check that a state is finite",
        overhead.passes_per_draw, overhead.passes_per_check
    );
    for (kind, deterministic) in [("deterministic", true), ("stochastic (noise included)", false)] {
        println!("  {kind:30} passes per step   per evaluation");
        for cost in overhead.solvers.iter().filter(|cost| cost.deterministic == deterministic) {
            let each = cost.passes_per_step / cost.evaluations_per_step;
            println!("    {:28} {:15.2} {:16.2}", cost.solver, cost.passes_per_step, each);
        }
    }
}

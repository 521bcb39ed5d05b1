//! What solvers cost beside the model: time per step with a denoiser that is free, in passes over the state.
//!
//! A pass reads one tensor and writes another of the state's size, `[64, 32, 32, 3]` in `f32`, on one thread. A network leaves nothing of the
//! states in the caches, so the free denoiser empties them too, which is not timed, and so it is before every pass. Every pass and every
//! step is timed for itself, and passes and solvers in turn: numbers are medians, which a busy moment does not move.

use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fokker_sde::{Cond, Denoiser, Edm, Sde, Times};
use fokker_solve::{GridConfig, Karras, Kind, Sampler, Solver, SolverConfig, Step};
use fokker_tensor::{Dtype, Noise, Tensor};
use serde::{Deserialize, Serialize};

const SHAPE: [usize; 4] = [64, 32, 32, 3];
/// Moves of a trajectory.
const MOVES: usize = 12;
/// Those of them that are not timed: multistep methods use more answers from step to step.
const WARM_UP: usize = 5;

/// Bytes that fill the caches.
const CACHES: usize = 64 << 20;

/// Memory that is gone through to empty the caches of everything else, and the time that took.
struct Evict {
    memory: Mutex<Vec<u64>>,
    nanoseconds: AtomicU64,
}

impl Evict {
    fn new() -> Evict {
        Evict { memory: Mutex::new(vec![1; CACHES / 8]), nanoseconds: AtomicU64::new(0) }
    }

    fn run(&self) {
        let started = Instant::now();
        // One number of every cache line.
        self.memory.lock().expect("one thread").iter_mut().step_by(8).for_each(|x| *x += 1);
        self.nanoseconds.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }

    fn spent(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed))
    }
}

/// Answers what it was given once.
struct Free {
    sde: Edm,
    answer: Tensor,
    evict: Evict,
}

impl Denoiser for Free {
    fn sde(&self) -> &dyn Sde {
        &self.sde
    }

    fn denoise(&self, x: &Tensor, _: &Times, _: &Cond) -> Tensor {
        assert_eq!(x.shape(), self.answer.shape());
        self.evict.run();
        self.answer.clone()
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

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn seconds(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

/// The seconds of each step of a trajectory, but for the first ones, which warm up.
fn steps(sampler: &Sampler<'_>, x: &Tensor, noise: Noise, evict: &Evict) -> Vec<f64> {
    let (mut last, mut spent, mut times) = (Instant::now(), evict.spent(), Vec::new());
    let mut observer = |_: &Step<'_>| {
        let model = evict.spent() - spent;
        times.push(last.elapsed().saturating_sub(model).as_secs_f64());
        (last, spent) = (Instant::now(), evict.spent());
    };
    drop(black_box(sampler.integrate(x.clone(), &Cond::NONE, noise, 0, &mut [&mut observer])));
    times.split_off(WARM_UP)
}

/// Measures every solver of fixed steps, `rounds` times each.
pub(crate) fn measure(rounds: usize) -> Overhead {
    let noise = Noise::new(1, 0);
    let draw = |step| noise.normal(&SHAPE, 0, step, Dtype::F32);
    let x = draw(0);
    let model = Free { sde: Edm::default(), answer: draw(1), evict: Evict::new() };
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
        for ((_, sampler), times) in samplers.iter().zip(&mut times) {
            model.evict.run();
            passes.push(seconds(|| black_box(&mut to).copy_from_slice(black_box(&from))));
            times.extend(steps(sampler, &x, noise, &model.evict));
        }
        draws.push(seconds(|| drop(black_box(draw(2)))));
        model.evict.run();
        checks.push(seconds(|| assert!(black_box(&x).all_finite())));
    }
    let pass = median(passes);
    let cost = |((solver, _), times): (&(SolverConfig, Sampler<'_>), Vec<f64>)| Cost {
        solver: solver.name().to_owned(),
        deterministic: solver.kind() == Kind::Ode,
        // Of one step more, after any warm-up.
        evaluations_per_step: (solver.evaluations(101).expect("steps are fixed") - solver.evaluations(100).unwrap_or(0)) as f64,
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

//! Which solvers run, with which settings, on which grids.

use fokker_sde::{Sde, VariancePreserving};
use fokker_solve::{
    AdaptiveRungeKutta, Deis, ExponentialAdams, Grid, GridConfig, Karras, Kind, LogSnr, Method, Pndm, Solver, SolverConfig,
    Spacing, UniPc, Variable, WarmUp,
};
use serde_json::Value;

/// Every listed solver of this kind once, but `langevin`, which stays at one noise level and does not sample.
pub fn solvers(kind: Kind) -> Vec<SolverConfig> {
    let all = SolverConfig::all().into_iter().filter(|solver| solver.name() != "langevin");
    all.map(settings).filter(|solver| solver.kind() == kind).collect()
}

/// Settings that make sense for tens of evaluations on an easy model, where they are not the defaults.
fn settings(solver: SolverConfig) -> SolverConfig {
    match solver {
        // Its step control works in the variable in which the flow is smooth.
        SolverConfig::AdaptiveRungeKutta(default) => {
            AdaptiveRungeKutta { method: Method::Tsit5, variable: Variable::LogSnr, ..default }.into()
        }
        // In t, which is the noise level here, it is `lms`.
        SolverConfig::Deis(default) => Deis { order: 3, variable: Variable::LogSnr, ..default }.into(),
        SolverConfig::ExponentialAdams(default) => ExponentialAdams { order: 4, corrector: true, ..default }.into(),
        // Runge and Kutta's warm-up alone costs 12 evaluations.
        SolverConfig::Pndm(_) => Pndm { warm_up: WarmUp::Plms }.into(),
        SolverConfig::UniPc(default) => UniPc { order: 3, ..default }.into(),
        other => other,
    }
}

/// Deterministic solvers for the table of the stochastic ones.
pub fn for_comparison() -> Vec<SolverConfig> {
    solvers(Kind::Ode).into_iter().filter(|solver| ["heun", "exponential-adams"].contains(&solver.name())).collect()
}

/// The settings that differ from the defaults, as in a configuration file.
pub fn changes(solver: &SolverConfig) -> String {
    let json = |solver: &SolverConfig| serde_json::to_value(solver).expect("a solver is a table");
    let (Value::Object(own), Some(default)) = (json(solver), SolverConfig::from_kind(solver.name())) else {
        unreachable!("every solver is listed")
    };
    let default = json(&default);
    let changed = own.iter().filter(|(key, value)| default.get(key) != Some(value));
    changed.map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join(", ")
}

/// A way of spacing noise levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GridKind {
    /// Uniform in `σ^(1/7)`.
    Karras,
    /// Uniform in `ln σ`.
    LogSnr,
    /// Uniform in the time of the variance-preserving process.
    VpTime,
    /// Fitted to the solver and the model.
    Fitted,
    /// Of the solver's own making.
    Own,
}

impl GridKind {
    /// The grids on which every solver with steps is tried.
    pub const USUAL: [Self; 3] = [Self::Karras, Self::LogSnr, Self::VpTime];

    /// Its mark in the tables.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Karras => "k",
            Self::LogSnr => "l",
            Self::VpTime => "v",
            Self::Fitted => "f",
            Self::Own => "o",
        }
    }

    /// The usual grid, or the solver's own, with this name in the peers' file.
    pub fn from_key(key: &str) -> Option<Self> {
        match key {
            "karras" => Some(Self::Karras),
            "log-snr" => Some(Self::LogSnr),
            "vp-time" => Some(Self::VpTime),
            "own" => Some(Self::Own),
            _ => None,
        }
    }

    /// One of the usual grids of this many steps, the last of which denoises, over the span of `sde`.
    ///
    /// # Panics
    /// If it is none of them.
    #[track_caller]
    pub fn grid(self, sde: &dyn Sde, steps: usize) -> Grid {
        let spaced = |spacing: Spacing| {
            let config = GridConfig { steps, spacing, ..GridConfig::default() };
            config.build(sde).expect("a grid of EDM")
        };
        match self {
            Self::Karras => spaced(Karras::default().into()),
            Self::LogSnr => spaced(LogSnr::default().into()),
            Self::VpTime => vp_time(sde, steps),
            Self::Fitted | Self::Own => panic!("{self:?} is no usual grid"),
        }
    }
}

/// The noise levels of the variance-preserving process at equally spaced times, between the levels at the ends of `sde`.
fn vp_time(sde: &dyn Sde, steps: usize) -> Grid {
    let vp = VariancePreserving::default();
    let (t_min, t_max) = sde.span();
    let (first, last) = (vp.time_at_log_snr(sde.log_snr(t_max)), vp.time_at_log_snr(sde.log_snr(t_min)));
    let intervals = (steps - 1).max(1) as f64;
    let inner = |i: usize| sde.time_at_log_snr(vp.log_snr(first + (last - first) * (i as f64 / intervals)));
    let times = (0..steps).map(|i| match i {
        0 => t_max,
        i if i + 1 == steps => t_min,
        i => inner(i),
    });
    Grid::new(times.collect(), true, sde).expect("decreasing times within the span")
}

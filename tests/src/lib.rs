//! Cross-crate tests.
//!
//! - `tests/`: processes, exact denoisers, solvers and the sampler against closed forms and papers' equations; operations, layers,
//!   networks and optimisers against PyTorch's values; a snapshot of one trajectory of every solver.
//! - `fixtures/`, `reference/`: PyTorch's values, and the scripts that make them. Tests need no Python.
//! - `benches/workloads/`: whole workloads, beside PyTorch where asked (`cargo xtask bench`).
//! - `examples/judge.rs`: judges samples without knowing the model.
//! - [`solver_table`], `examples/solvers.rs`: how accurate each solver is, as a page of `docs` (`cargo xtask solvers`).

pub mod solver_table;

/// The README's example, compiled and run with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

//! `t_i = t_max + (i/N)(t_min − t_max)`.

use fokker_sde::Sde;
use serde::{Deserialize, Serialize};

use super::{Space, between};
use crate::error::SolveError;

/// Uniform in `t`: what Song et al. 2021 use for VP and VE, and the choice for flows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Uniform {}

impl Space for Uniform {
    fn times(&self, _sde: &dyn Sde, t_max: f64, t_min: f64, points: usize) -> Result<Vec<f64>, SolveError> {
        Ok(between(t_max, t_min, points).collect())
    }
}

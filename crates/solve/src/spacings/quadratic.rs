//! `t_i = (√t_max + (i/N)(√t_min − √t_max))²`.

use fokker_sde::Sde;
use serde::{Deserialize, Serialize};

use super::{Space, between};
use crate::error::SolveError;

/// Uniform in `√t`, steps that shorten towards the data: Song, Meng & Ermon 2021 (arXiv:2010.02502), appendix D.2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quadratic {}

impl Space for Quadratic {
    fn times(&self, _sde: &dyn Sde, t_max: f64, t_min: f64, points: usize) -> Result<Vec<f64>, SolveError> {
        Ok(between(t_max.sqrt(), t_min.sqrt(), points).map(|root| root * root).collect())
    }
}

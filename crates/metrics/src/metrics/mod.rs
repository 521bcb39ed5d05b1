//! The list of metrics of two sets, and what a configuration says about each: a type's fields are its configuration keys.
//!
//! One file in this folder and one line in the `metrics!` list add a metric.

use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::MetricError;

/// One number that a metric has found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// What it is, such as `precision`.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// Its standard error, where the metric estimates one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
}

impl Score {
    pub(crate) fn new(name: &'static str, value: f64) -> Score {
        Score { name, value, error: None }
    }

    pub(crate) fn with_error(name: &'static str, value: f64, error: f64) -> Score {
        Score { name, value, error: Some(error) }
    }
}

/// A metric that needs no more than two sets of vectors.
pub(crate) trait Metric {
    /// The metric's scores of generated vectors `[M, ...]` beside real ones `[N, ...]`.
    fn scores(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<Vec<Score>, MetricError>;
}

macro_rules! metrics {
    ($($module:ident :: $Type:ident = $kind:literal : $doc:literal),* $(,)?) => {
        $(mod $module; pub use $module::$Type;)*

        /// Which metric, and with which options: `kind = "precision-recall"` and that kind's own keys.
        ///
        /// An unknown kind or key is an error; keys left out take their defaults.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        #[non_exhaustive]
        pub enum MetricConfig {
            $(#[doc = $doc] #[serde(rename = $kind)] $Type($Type),)*
        }

        impl MetricConfig {
            /// Every kind with one line about it, in the order of the list.
            pub const KINDS: &[(&str, &str)] = &[$(($kind, $doc)),*];

            /// The kind's name, as in `kind = "energy"`.
            pub fn kind(&self) -> &'static str {
                match self { $(MetricConfig::$Type(_) => $kind,)* }
            }

            /// The metric's scores of generated vectors `[M, ...]` beside real ones `[N, ...]` (axes after the first are taken as
            /// one), both `f32` or `f64`. Whatever is random follows from the seed.
            ///
            /// # Errors
            /// When a set is empty, has a number that is not finite, or fewer rows than the metric needs; when the widths differ;
            /// when an option is out of range.
            pub fn scores(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<Vec<Score>, MetricError> {
                match self { $(MetricConfig::$Type(metric) => metric.scores(real, generated, seed),)* }
            }
        }
    };
}

metrics! {
    precision_recall::PrecisionRecall = "precision-recall": "share of samples inside the data's manifold, and of data inside the samples'",
    density_coverage::DensityCoverage = "density-coverage": "how many data balls hold a sample, and how many hold any",
    energy::EnergyDistance = "energy": "energy distance, with a permutation test",
    mmd::Mmd = "mmd": "maximum mean discrepancy with a Gaussian kernel, with a permutation test",
    sliced_wasserstein::SlicedWasserstein = "sliced-wasserstein": "Wasserstein distance along random directions",
    max_sliced_wasserstein::MaxSlicedWasserstein = "max-sliced-wasserstein": "Wasserstein distance along the direction that separates most",
    wasserstein2::Wasserstein2 = "wasserstein-2": "exact Wasserstein-2 distance of up to 2,000 points",
    frechet::Frechet = "frechet": "Fréchet distance of means and covariances (FID in Inception's feature space)",
    kernel_distance::KernelDistance = "kernel-distance": "cubic kernel distance over random subsets (KID in Inception's feature space)",
    nearest_neighbour_test::NearestNeighbourTest = "nearest-neighbour-test": "whether nearest neighbours tell real from generated",
    network_test::NetworkTest = "network-test": "whether a small trained network tells real from generated",
    marginal_ks::MarginalKs = "marginal-ks": "Kolmogorov-Smirnov distance of each marginal",
    vendi::Vendi = "vendi": "effective number of different samples",
    memorisation::Memorisation = "memorisation": "samples much nearer to one training vector than to any other",
    authenticity::Authenticity = "authenticity": "samples farther from the data than the data from itself",
    mode_counts::ModeCounts = "mode-counts": "samples near each of the centres that are given",
}

pub use density_coverage::DensityAndCoverage;
pub use energy::Energy;
pub use kernel_distance::MeanKernelDistance;
pub use marginal_ks::Marginals;
pub use max_sliced_wasserstein::MaxSliced;
pub use memorisation::NearestTraining;
pub use mmd::MeanDiscrepancy;
pub use mode_counts::Modes;
pub use precision_recall::PrecisionAndRecall;
pub use sliced_wasserstein::Sliced;
pub use wasserstein2::Transport;

impl MetricConfig {
    /// Every metric that needs nothing but two sets of vectors, with its defaults.
    pub fn all() -> Vec<MetricConfig> {
        MetricConfig::KINDS.iter().filter_map(|(kind, _)| MetricConfig::with_defaults(kind).ok()).collect()
    }

    /// A kind with all its defaults.
    ///
    /// # Errors
    /// When there is no such kind, or the kind has a key without a default (the centres of modes).
    pub fn with_defaults(kind: &str) -> Result<MetricConfig, MetricError> {
        serde_json::from_value(serde_json::json!({ "kind": kind })).map_err(|error| {
            let names: Vec<&str> = MetricConfig::KINDS.iter().map(|&(name, _)| name).collect();
            let expected = format!("a kind without required keys, among {} ({error})", names.join(", "));
            MetricError::config("kind", format!("{kind:?}"), expected)
        })
    }
}

#[cfg(test)]
mod tests;

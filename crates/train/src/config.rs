//! A run's configuration: one TOML file.

use std::path::Path;

use fokker_data::DataConfig;
use fokker_guidance::Guidance;
use fokker_models::{ModelConfig, NetworkConfig};
use fokker_nn::{AdamConfig, EmaConfig, Schedule};
use fokker_sde::{Preconditioning, SdeConfig};
use fokker_solve::{GridConfig, Heun, Karras, SamplerConfig};
use fokker_tensor::Dtype;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::objective::Objective;
use crate::recipes::RECIPES;

/// Everything that defines a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// A name for people.
    pub name: String,
    /// Seed of all randomness.
    #[serde(default)]
    pub seed: u64,
    /// What is learned.
    pub data: DataConfig,
    /// How it is loaded.
    #[serde(default)]
    pub loader: DataSection,
    /// The model.
    pub model: ModelSection,
    /// What is minimised.
    #[serde(default)]
    pub objective: Objective,
    /// The optimisation.
    pub train: TrainSection,
    /// The average of the weights.
    #[serde(default)]
    pub ema: EmaSection,
    /// Samples drawn while training and, by default, afterwards.
    #[serde(default)]
    pub sample: SampleSection,
}

/// How data is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSection {
    /// Mirror half of the images.
    pub flip: bool,
}

/// The model of a run; the sample shape and the number of classes come from the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Condition on the data's labels.
    #[serde(default)]
    pub conditional: bool,
    /// The noising process.
    #[serde(default)]
    pub sde: SdeConfig,
    /// How the network's output becomes a denoised sample.
    #[serde(default)]
    pub preconditioning: Preconditioning,
    /// Whether the network also learns the variances of reverse steps, which solver `ancestral` can use; default no. It then has twice
    /// the outputs, and `objective.variance` says how they are learned.
    #[serde(default)]
    pub learned_variance: bool,
    /// The network.
    pub network: NetworkConfig,
}

/// The optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSection {
    /// Steps in all.
    pub steps: u64,
    /// Samples per step.
    pub batch: usize,
    /// Base learning rate.
    pub learning_rate: f64,
    /// What the network computes in, default `f32`.
    #[serde(default)]
    pub precision: Precision,
    /// How the rate follows from the step.
    #[serde(default)]
    pub schedule: Schedule,
    /// Limit of the gradient's global norm; 0 for none.
    #[serde(default)]
    pub clip: f64,
    /// Adam's settings.
    #[serde(default)]
    pub adam: AdamConfig,
    /// Steps between checkpoints.
    #[serde(default = "checkpoint_every")]
    pub checkpoint_every: u64,
    /// Steps between lines of `metrics.jsonl`.
    #[serde(default = "log_every")]
    pub log_every: u64,
}

/// What the network computes in while it is trained. Parameters, their gradients' sums, the optimiser, the average, noise, targets and the
/// loss are of `f32` in either case, and so is what is saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// Weights and activations rounded to 16 bits with the exponents of `f32` where the network uses them (Kalamkar et al. 2019,
    /// arXiv:1905.12322): half the memory for activations. With those exponents no gradient of `f32` underflows, so the loss is not scaled,
    /// as it has to be for `f16` (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2).
    Bf16,
}

impl Precision {
    /// The type of the network's numbers.
    pub fn dtype(self) -> Dtype {
        match self {
            Precision::F32 => Dtype::F32,
            Precision::Bf16 => Dtype::Bf16,
        }
    }
}

fn checkpoint_every() -> u64 {
    500
}

fn log_every() -> u64 {
    10
}

/// The average of the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EmaSection(pub EmaConfig);

/// How samples are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SampleSection {
    /// Steps between pictures of samples while training; 0 for only at the end.
    pub every: u64,
    /// Samples per picture.
    pub count: usize,
    /// Samples per batch.
    pub batch: usize,
    /// Guidance, default none: by the weaker model if `weak` is set, otherwise classifier-free, for conditional models trained with
    /// `objective.label_dropout`.
    pub guidance: Guidance,
    /// The step of training whose averaged model is kept, and guides samples as the weaker model of autoguidance. Pictures before this step
    /// are not guided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weak: Option<u64>,
    /// Solver, time grid and thresholding.
    pub sampler: SamplerConfig,
}

/// The largest batch that memory is taken for, so that a typing error is a message.
const MOST_IN_A_BATCH: u64 = 1 << 20;

impl SampleSection {
    /// The largest number of samples that is drawn at once.
    pub const MOST: usize = 1 << 30;
}

/// A sampler's configuration changed by `overrides` of the form `key.path=value`, such as `solver.eta=0.5`.
///
/// # Errors
/// If there is no such key or the value is not one for it.
pub fn override_sampler(sampler: &SamplerConfig, overrides: &[String]) -> Result<SamplerConfig, TrainError> {
    let origin = format!("--set {}", overrides.join(" --set "));
    let problem = |message: String| TrainError::config(&origin, message.trim_end().to_owned());
    let mut table = toml::Table::try_from(sampler).map_err(|e| problem(e.to_string()))?;
    for item in overrides {
        apply_override(&mut table, item)?;
    }
    // Through text, so that an error shows the line it is about.
    let changed = toml::to_string(&table).map_err(|e| problem(e.to_string()))?;
    toml::from_str(&changed).map_err(|e| problem(e.to_string()))
}

impl Default for SampleSection {
    fn default() -> Self {
        // EDM's sampler (Karras et al. 2022, algorithm 1): 35 network calls.
        let grid = GridConfig { steps: 18, spacing: Karras::default().into(), ..GridConfig::default() };
        let sampler = SamplerConfig { solver: Heun::default().into(), grid, ..SamplerConfig::default() };
        SampleSection { every: 0, count: 64, batch: 64, guidance: Guidance::default(), weak: None, sampler }
    }
}

impl RunConfig {
    /// An embedded recipe.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn recipe(name: &str) -> Result<RunConfig, TrainError> {
        RunConfig::parse(recipe_text(name)?, &format!("recipe `{name}`"))
    }

    /// A configuration from TOML; `origin` is for messages.
    ///
    /// # Errors
    /// If it is not valid.
    pub fn parse(text: &str, origin: &str) -> Result<RunConfig, TrainError> {
        let config: RunConfig =
            toml::from_str(text).map_err(|e| TrainError::config(origin, e.to_string().trim_end().to_owned()))?;
        config.check(origin)?;
        Ok(config)
    }

    /// A recipe's or file's TOML changed by `overrides` of the form `key.path=value`.
    ///
    /// # Errors
    /// If the file cannot be read, there is no such recipe, or the result is not valid.
    pub fn load(source: &str, overrides: &[String]) -> Result<RunConfig, TrainError> {
        let (text, origin) = read_source(source)?;
        if overrides.is_empty() {
            return RunConfig::parse(&text, &origin);
        }
        let mut table: toml::Table =
            toml::from_str(&text).map_err(|e| TrainError::config(&origin, e.to_string().trim_end().to_owned()))?;
        for item in overrides {
            apply_override(&mut table, item)?;
        }
        let changed = toml::to_string(&table).map_err(|e| TrainError::config(&origin, e.to_string()))?;
        RunConfig::parse(&changed, &format!("{origin} with {}", overrides.join(", ")))
    }

    /// The TOML of this configuration, every default written out.
    ///
    /// # Errors
    /// If a value cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string(self).map_err(|e| TrainError::config("run configuration", e.to_string()))
    }

    /// The model's configuration for data of this shape and number of classes.
    ///
    /// # Errors
    /// If the model is conditional and the data has no labels.
    pub fn model_config(&self, sample_shape: &[usize], classes: Option<usize>) -> Result<ModelConfig, TrainError> {
        if self.model.conditional && classes.is_none() {
            let problem = "`model.conditional`: expected data with labels, but this data has none";
            return Err(TrainError::config("run configuration", problem));
        }
        Ok(ModelConfig {
            sample_shape: sample_shape.to_vec(),
            classes: classes.filter(|_| self.model.conditional),
            sde: self.model.sde.clone(),
            preconditioning: self.model.preconditioning.clone(),
            learned_variance: self.model.learned_variance,
            network: self.model.network.clone(),
        })
    }

    fn check(&self, origin: &str) -> Result<(), TrainError> {
        let bad = |field: &str, expected: &str, found: String| {
            Err(TrainError::config(origin, format!("`{field}`: expected {expected}, found {found}")))
        };
        let t = &self.train;
        for (field, value, most) in [
            ("train.steps", t.steps, u64::MAX),
            ("train.batch", t.batch as u64, MOST_IN_A_BATCH),
            ("train.checkpoint_every", t.checkpoint_every, u64::MAX),
            ("train.log_every", t.log_every, u64::MAX),
            ("sample.count", self.sample.count as u64, SampleSection::MOST as u64),
            ("sample.batch", self.sample.batch as u64, SampleSection::MOST as u64),
            ("sample.sampler.grid.steps", self.sample.sampler.grid.steps as u64, 1 << 20),
        ] {
            if value == 0 {
                return bad(field, "at least 1", "0".into());
            }
            if value > most {
                return bad(field, &format!("at most {most}"), value.to_string());
            }
        }
        if !(t.learning_rate > 0.0 && t.learning_rate.is_finite()) {
            return bad("train.learning_rate", "a number above 0", t.learning_rate.to_string());
        }
        if !(t.clip >= 0.0 && t.clip.is_finite()) {
            return bad("train.clip", "0 or a number above it", t.clip.to_string());
        }
        for (field, value) in [("train.adam.epsilon", t.adam.epsilon), ("train.adam.weight_decay", t.adam.weight_decay)] {
            if !(value >= 0.0 && value.is_finite()) {
                return bad(field, "0 or a number above it", value.to_string());
            }
        }
        match t.schedule {
            Schedule::Cosine { floor, .. } if !(0.0..=1.0).contains(&floor) => {
                return bad("train.schedule.floor", "a number from 0 to 1", floor.to_string());
            }
            Schedule::InverseSqrt { reference: 0, .. } => return bad("train.schedule.reference", "at least 1", "0".into()),
            _ => {}
        }
        for (field, value) in [("train.adam.beta1", t.adam.beta1), ("train.adam.beta2", t.adam.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return bad(field, "a number from 0 to below 1", value.to_string());
            }
        }
        match self.ema.0 {
            EmaConfig::Constant { decay } if !(0.0..1.0).contains(&decay) => {
                return bad("ema.decay", "a number from 0 to below 1", decay.to_string());
            }
            EmaConfig::HalfLife { images, rampup } if !(images > 0.0 && rampup > 0.0) => {
                return bad("ema", "`images` and `rampup` above 0", format!("{images} and {rampup}"));
            }
            _ => {}
        }
        self.sample.guidance.check().map_err(|e| TrainError::config(origin, format!("sample.{e}")))?;
        if let Some(step) = self.sample.weak
            && !(1..=t.steps).contains(&step)
        {
            return bad("sample.weak", &format!("a step from 1 to {}, that of `train.steps`", t.steps), step.to_string());
        }
        let classes = self.model.conditional && self.objective.label_dropout > 0.0;
        if self.sample.guidance.scale != 1.0 && self.sample.weak.is_none() && !classes {
            let expected = "1 unless there is something to guide by: `sample.weak`, or the null class of `model.conditional` with \
                            `objective.label_dropout` above 0";
            return bad("sample.guidance.scale", expected, self.sample.guidance.scale.to_string());
        }
        self.objective.check_times(&self.model.sde, origin)?;
        self.objective.check(origin)
    }
}

fn recipe_text(name: &str) -> Result<&'static str, TrainError> {
    RECIPES.iter().find(|r| r.name == name).map(|r| r.text).ok_or_else(|| {
        let names: Vec<&str> = RECIPES.iter().map(|r| r.name).collect();
        TrainError::config(name, format!("no such recipe; expected one of {}, or the path of a .toml file", names.join(", ")))
    })
}

/// A file's text if the source looks like a path, otherwise a recipe's.
fn read_source(source: &str) -> Result<(String, String), TrainError> {
    let looks_like_path = source.ends_with(".toml") || source.contains(std::path::MAIN_SEPARATOR);
    if looks_like_path {
        let path = Path::new(source);
        let text = std::fs::read_to_string(path).map_err(TrainError::io(path, "read"))?;
        return Ok((text, source.to_owned()));
    }
    Ok((recipe_text(source)?.to_owned(), format!("recipe `{source}`")))
}

/// Sets `a.b.c=value`; the value is TOML, or a string if it is not valid TOML.
fn apply_override(table: &mut toml::Table, item: &str) -> Result<(), TrainError> {
    let bad = |problem: String| TrainError::config(format!("--set {item}"), problem);
    let (path, value) = item.split_once('=').ok_or_else(|| bad("expected key.path=value".into()))?;
    let parsed: Result<toml::Table, _> = toml::from_str(&format!("value = {value}"));
    let value = match parsed {
        Ok(mut table) => table.remove("value").ok_or_else(|| bad("expected a single value".into()))?,
        Err(_) => toml::Value::String(value.to_owned()),
    };
    let mut keys: Vec<&str> = path.split('.').map(str::trim).collect();
    let last = keys.pop().filter(|k| !k.is_empty()).ok_or_else(|| bad("expected key.path=value".into()))?;
    let mut at = table;
    for key in keys {
        let entry = at.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = entry.as_table_mut().ok_or_else(|| bad(format!("`{key}` is not a table")))?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::TimeDistribution;

    #[test]
    fn every_recipe_is_valid_and_survives_a_round_trip() {
        for recipe in RECIPES {
            let config = RunConfig::recipe(recipe.name).unwrap();
            assert_eq!(config.name, recipe.name);
            let again = RunConfig::parse(&config.to_toml().unwrap(), "round trip").unwrap();
            assert_eq!(config, again);
        }
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_named() {
        let message = |text: &str| {
            let overrides = [text.to_owned()];
            RunConfig::load("moons", &overrides).unwrap_err().to_string()
        };
        assert!(message("train.stepz=3").contains("stepz"), "{}", message("train.stepz=3"));
        assert!(message("train.steps='many'").contains("steps"), "{}", message("train.steps='many'"));
        assert!(message("train.steps=0").contains("`train.steps`: expected at least 1"));
        assert!(message("train.learning_rate=-1.0").contains("train.learning_rate"));
        assert!(message("sample.sampler.solver.kind='magic'").contains("magic"));
        assert!(message("sample.guidance.scale=2.0").contains("label_dropout"));
        assert!(message("sample.guidance.noise=[2.0, 1.0]").contains("`noise`"));
        assert!(message("objective.variance.weight=-1.0").contains("`objective.variance.weight`"));
        assert!(message("objective.variance.steps=1").contains("`objective.variance.steps`"));
        assert!(message("nonsense").contains("expected key.path=value"));
        // Importance sampling has no density at pure noise.
        let importance = |sde: &str| {
            let overrides = ["objective.times={ kind = 'importance' }".to_owned(), format!("model.sde={sde}")];
            RunConfig::load("moons", &overrides).map_err(|e| e.to_string())
        };
        for sde in ["{ kind = 'flow' }", "{ kind = 'trigonometric' }"] {
            let error = importance(sde).unwrap_err();
            assert!(error.contains("`objective.times`") && error.contains("model.sde.t_max"), "{error}");
        }
        assert_eq!(importance("{ kind = 'flow', t_max = 0.99 }").unwrap().objective.times, TimeDistribution::Importance);
        assert!(RunConfig::recipe("nonesuch").unwrap_err().to_string().contains("moons"));
    }

    #[test]
    fn a_samplers_settings_can_be_overridden_and_errors_name_the_key() {
        let sampler = SamplerConfig { solver: fokker_solve::Ddim::default().into(), ..SamplerConfig::default() };
        let set = |items: &[&str]| override_sampler(&sampler, &items.iter().map(|i| (*i).to_owned()).collect::<Vec<_>>());
        let changed = set(&["solver.eta=0.5", "grid.t_max=0.8"]).unwrap();
        assert_eq!(changed.solver, fokker_solve::Ddim { eta: 0.5 }.into());
        assert_eq!(changed.grid.t_max, Some(0.8));
        assert_eq!(set(&[]).unwrap(), sampler);
        for (item, part) in [("solver.etta=1", "etta"), ("grid.steps='many'", "steps"), ("eta", "expected key.path=value")] {
            let message = set(&[item]).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn overrides_change_what_they_name() {
        let overrides = ["train.steps=7".to_owned(), "sample.sampler.solver.kind=euler".to_owned()];
        let config = RunConfig::load("moons", &overrides).unwrap();
        assert_eq!(config.train.steps, 7);
        assert_eq!(fokker_solve::Solver::name(&config.sample.sampler.solver), "euler");
    }
}

//! What a model is conditioned on.

use std::ops::Range;

/// The condition of each sample of a batch.
///
/// Without `class` every sample is unconditional. A class label equal to the number of classes is the *null class*: a model
/// trained with dropped labels knows it as "no label", so that one batch can mix conditional and unconditional samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cond {
    /// One class label for each sample of the batch.
    pub class: Option<Vec<u32>>,
}

impl Cond {
    /// No condition.
    pub const NONE: Self = Self { class: None };

    /// The label of each sample.
    pub fn classes(labels: Vec<u32>) -> Self {
        Self { class: Some(labels) }
    }

    /// The condition of the samples in `range`.
    ///
    /// # Panics
    /// If the range reaches past the last sample.
    #[track_caller]
    pub fn slice(&self, range: Range<usize>) -> Self {
        Self { class: self.class.as_ref().map(|labels| labels[range].to_vec()) }
    }

    /// The number of samples it was made for; `None` if it fits any batch.
    pub fn batch(&self) -> Option<usize> {
        self.class.as_ref().map(Vec::len)
    }
}

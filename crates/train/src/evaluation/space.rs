//! The space in which samples and data are compared.

use fokker_tensor::{Noise, Tensor};

use crate::error::TrainError;
use crate::features::FeatureNetwork;

/// The stream of random projections.
const STREAM: u64 = 0x7261_0011;

/// What is made of a sample before it is compared with others.
#[derive(Clone, Debug, Default)]
pub enum Features {
    /// Its numbers as they are: distances are those of data space, which for images see brightness and position more than content.
    #[default]
    Pixels,
    /// A random linear map to `width` numbers, `y = x G/√width` with `G ~ N(0, 1)`, which keeps squared distances on average and to a
    /// relative `√(2/width)` (Johnson & Lindenstrauss 1984): the same view as pixels, cheaper.
    Projection {
        /// Numbers of a projected sample.
        width: usize,
        /// Seed of the map.
        seed: u64,
    },
    /// Of images, those of a network of a file: the last hidden layer of a classifier that was trained for this, which sees what tells
    /// classes apart, or of a network that others trained on photographs.
    Network(FeatureNetwork),
}

impl Features {
    /// Features `[N, D]` of samples `[N, ...]`, in their type.
    ///
    /// # Errors
    /// If a network's features are of images of another shape, or one of these has a number that is not finite.
    ///
    /// # Panics
    /// If there are no samples, or a projection has no width.
    #[track_caller]
    pub fn of(&self, x: &Tensor) -> Result<Tensor, TrainError> {
        assert!(x.rank() > 0 && !x.is_empty(), "features of samples of shape {:?}", x.shape());
        let flat = x.reshape(&[x.dim(0), x.len() / x.dim(0)]);
        Ok(match *self {
            Features::Pixels => flat,
            Features::Network(ref features) => features.of(x)?.to(x.dtype()),
            Features::Projection { width, seed } => {
                assert!(width > 0, "a projection to no numbers");
                let map = Noise::new(seed, STREAM).normal(&[flat.dim(1), width], 0, 0, x.dtype());
                &flat.matmul(&map) * (width as f64).sqrt().recip()
            }
        })
    }

    /// How many numbers the features of a sample of so many numbers are.
    pub fn width(&self, numbers: usize) -> usize {
        match *self {
            Features::Pixels => numbers,
            Features::Network(ref features) => features.width(),
            Features::Projection { width, .. } => width,
        }
    }

    /// A name that is the same for the same features only.
    pub fn id(&self) -> String {
        match self {
            Features::Pixels => "pixels".to_owned(),
            Features::Projection { width, seed } => format!("projection-{width}-{seed}"),
            Features::Network(features) => format!("{}-{}", features.name(), features.id()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fokker_tensor::Dtype;

    #[test]
    fn pixels_are_the_numbers_in_a_row() {
        let x = Noise::new(0, 1).normal(&[3, 2, 2, 1], 0, 0, Dtype::F32);
        let found = Features::Pixels.of(&x).unwrap();
        assert_eq!((found.shape(), Features::Pixels.width(4)), (&[3, 4][..], 4));
        assert_eq!(found.to_vec::<f32>(), x.to_vec::<f32>());
    }

    #[test]
    fn a_projection_keeps_squared_lengths_on_average_and_depends_on_its_seed_alone() {
        let x = Noise::new(0, 1).normal(&[200, 60], 0, 0, Dtype::F64);
        let features = Features::Projection { width: 40, seed: 3 };
        let y = features.of(&x).unwrap();
        let square = |x: &Tensor| x.to_vec::<f64>().iter().map(|v| v * v).sum::<f64>();
        // 40 directions in 60 dimensions: the ratio's standard deviation is below √(2/40/60).
        assert!((square(&y) / square(&x) - 1.0).abs() < 0.1, "{}", square(&y) / square(&x));
        assert_eq!((features.of(&x.slice(0, 5..6)).unwrap().shape(), features.width(60)), (&[1, 40][..], 40));
        assert_ne!(Features::Projection { width: 40, seed: 4 }.of(&x).unwrap().to_vec::<f64>(), y.to_vec::<f64>());
        assert_ne!(Features::Projection { width: 40, seed: 4 }.id(), features.id());
    }
}

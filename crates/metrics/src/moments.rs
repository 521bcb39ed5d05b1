//! Means and covariances of features: streamed, merged, and kept in files that other tools read.
//!
//! ```text
//! δ = m_b − m_a,     m = m_a + δ n_b/n,     C = C_a + C_b + δ δᵀ n_a n_b/n,     Σ = C/(n − 1)
//! ```
//!
//! (Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances", eqs. 2.1): batches are centred
//! on their own means, so nothing is lost to large means. Files are pytorch-fid's: an `.npz` with `mu` `[D]` and `sigma` `[D, D]`, beside
//! which are kept `n`, the number of samples, so that they can be merged again, and `space`, the name of the features in ASCII, so that those of two
//! networks are not compared.

use std::io::{Read, Seek, Write};

use fokker_tensor::Tensor;
use ndarray::{Array0, Array1, ArrayView1, ArrayView2};
use ndarray_npy::{NpzReader, NpzWriter, ReadNpzError, WriteNpzError};

use crate::error::MetricError;
use crate::vectors::Vectors;

/// Mean and covariance of as many vectors of `D` numbers as have been seen. Memory: `16 D²` bytes while a batch is added, then half.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    n: u64,
    mean: Vec<f64>,
    /// `Σ_i (x_i − m)(x_i − m)ᵀ`, `[D, D]`.
    scatter: Vec<f64>,
}

/// Rows whose scatter is computed by one product.
const CHUNK: usize = 1024;

impl Moments {
    /// The most numbers of a vector: so many have a Fréchet distance within 4 GiB (`40 D²` bytes), in `5 D³` operations.
    pub const MOST: usize = 10_000;

    /// Of no vectors of this width yet.
    ///
    /// # Panics
    /// If the width is above [`MOST`](Self::MOST).
    #[track_caller]
    pub fn new(width: usize) -> Moments {
        assert!(width <= Self::MOST, "moments of {width} numbers, of at most {}", Self::MOST);
        Moments { n: 0, mean: vec![0.0; width], scatter: vec![0.0; width * width] }
    }

    /// Of one set `[N, ...]`.
    ///
    /// # Errors
    /// As [`add`](Self::add), and when the vectors have more than [`MOST`](Self::MOST) numbers.
    pub fn of(x: &Tensor) -> Result<Moments, MetricError> {
        let width = if x.rank() < 2 || x.is_empty() { 1 } else { x.len() / x.dim(0) };
        Moments::check(width)?;
        let mut moments = Moments::new(width);
        moments.add(x)?;
        Ok(moments)
    }

    /// Adds vectors `[N, ...]`.
    ///
    /// # Errors
    /// When there are none, one of their numbers is not finite, or their width is another.
    pub fn add(&mut self, x: &Tensor) -> Result<(), MetricError> {
        let x = Vectors::new("added", x)?;
        self.fits(x.width(), "added")?;
        self.add_vectors(&x);
        Ok(())
    }

    /// Whether vectors of so many numbers have moments.
    ///
    /// # Errors
    /// When they have more than [`MOST`](Self::MOST).
    pub fn check(width: usize) -> Result<(), MetricError> {
        if width > Self::MOST { Err(MetricError::TooWide { width, most: Self::MOST }) } else { Ok(()) }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.n
    }

    pub(crate) fn add_vectors(&mut self, x: &Vectors) {
        let width = x.width();
        for first in (0..x.rows()).step_by(CHUNK) {
            let rows = first..(first + CHUNK).min(x.rows());
            let n = rows.len() as u64;
            let some = x.gather(rows, None);
            let mut mean = vec![0.0; width];
            for row in some.as_slice::<f64>().chunks_exact(width) {
                mean.iter_mut().zip(row).for_each(|(m, v)| *m += v);
            }
            mean.iter_mut().for_each(|m| *m /= n as f64);
            let centred = &some - &Tensor::from_vec(&[1, width], mean.clone());
            let scatter = centred.matmul_tn(&centred).to_vec();
            self.join(&Moments { n, mean, scatter });
        }
    }

    /// Adds what another has seen.
    ///
    /// # Errors
    /// When the widths differ.
    pub fn merge(&mut self, other: &Moments) -> Result<(), MetricError> {
        self.fits(other.mean.len(), "merged")?;
        self.join(other);
        Ok(())
    }

    fn fits(&self, width: usize, second: &'static str) -> Result<(), MetricError> {
        if width == self.mean.len() {
            return Ok(());
        }
        Err(MetricError::Widths { first: "first", first_width: self.mean.len(), second, second_width: width })
    }

    fn join(&mut self, other: &Moments) {
        if other.n == 0 {
            return;
        }
        let (a, b) = (self.n as f64, other.n as f64);
        let n = a + b;
        let delta: Vec<f64> = other.mean.iter().zip(&self.mean).map(|(b, a)| b - a).collect();
        let weight = a * b / n;
        let width = delta.len();
        for ((row, theirs), d) in self.scatter.chunks_exact_mut(width).zip(other.scatter.chunks_exact(width)).zip(&delta) {
            for ((c, theirs), e) in row.iter_mut().zip(theirs).zip(&delta) {
                *c += theirs + weight * (d * e);
            }
        }
        self.mean.iter_mut().zip(&delta).for_each(|(m, d)| *m += d * (b / n));
        self.n += other.n;
    }

    /// Mean and covariance.
    ///
    /// # Errors
    /// When fewer than two vectors have been seen.
    pub fn statistics(&self) -> Result<Statistics, MetricError> {
        if self.n < 2 {
            let (found, why) = (self.n as usize, "a covariance".into());
            return Err(MetricError::TooFew { set: "summarised", found, needed: 2, why });
        }
        let scale = 1.0 / (self.n - 1) as f64;
        let covariance = self.scatter.iter().map(|c| c * scale).collect();
        Ok(Statistics { mean: self.mean.clone(), covariance, count: Some(self.n), space: None })
    }
}

/// A mean `[D]` and a covariance `[D, D]` (divided by `n − 1`), with the number of samples and the name of the features where they are known.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    mean: Vec<f64>,
    covariance: Vec<f64>,
    count: Option<u64>,
    space: Option<String>,
}

impl Statistics {
    /// A law with this mean and covariance, row by row.
    ///
    /// # Errors
    /// When the sizes do not fit, a number is not finite, or the covariance is not symmetric.
    pub fn new(mean: Vec<f64>, covariance: Vec<f64>, count: Option<u64>) -> Result<Statistics, MetricError> {
        let width = mean.len();
        let format = |field, found: String, expected: String| Err(MetricError::Format { field, found, expected });
        if width == 0 || covariance.len() != width * width {
            return format("sigma", format!("{} numbers", covariance.len()), format!("{width} × {width}, as mu has {width}"));
        }
        for (field, values) in [("mu", &mean), ("sigma", &covariance)] {
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                return format(field, format!("{} at {at}", values[at]), "finite numbers".into());
            }
        }
        let most = (0..width).fold(0.0, |m: f64, i| m.max(covariance[i * width + i].abs()));
        for i in 0..width {
            for j in 0..i {
                let (a, b) = (covariance[i * width + j], covariance[j * width + i]);
                if (a - b).abs() > 1e-6 * most {
                    return format("sigma", format!("{a} at [{i}, {j}], {b} at [{j}, {i}]"), "a symmetric matrix".into());
                }
            }
        }
        Ok(Statistics { mean, covariance, count, space: None })
    }

    /// The same, known to be of the features of this name, such as a network's with a hash of its weights.
    #[must_use]
    pub fn of_space(self, name: impl Into<String>) -> Statistics {
        Statistics { space: Some(name.into()), ..self }
    }

    /// The mean, `[D]`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The covariance, `[D, D]` row by row.
    pub fn covariance(&self) -> &[f64] {
        &self.covariance
    }

    /// The number of samples, where it is known.
    pub fn count(&self) -> Option<u64> {
        self.count
    }

    /// The name of the features, where it is known.
    pub fn space(&self) -> Option<&str> {
        self.space.as_deref()
    }

    /// Moments that more vectors can be added to or merged into.
    ///
    /// # Errors
    /// When the number of samples is not known (files of other tools do not say), or there are more numbers than [`Moments::MOST`].
    pub fn moments(&self) -> Result<Moments, MetricError> {
        Moments::check(self.mean.len())?;
        let Some(n) = self.count.filter(|&n| n >= 2) else {
            let found = self.count.map_or("missing".to_owned(), |n| n.to_string());
            let expected = "the number of samples, without which statistics cannot be merged".into();
            return Err(MetricError::Format { field: "n", found, expected });
        };
        let scatter = self.covariance.iter().map(|c| c * (n - 1) as f64).collect();
        Ok(Moments { n, mean: self.mean.clone(), scatter })
    }

    /// Writes pytorch-fid's `.npz`: `mu`, `sigma`, and `n` and `space` where known.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn write_npz(&self, writer: impl Write + Seek) -> Result<(), MetricError> {
        let failed = |error: WriteNpzError| MetricError::Io(std::io::Error::other(error));
        let width = self.mean.len();
        let mut npz = NpzWriter::new(writer);
        npz.add_array("mu", &ArrayView1::from(&self.mean)).map_err(failed)?;
        let sigma = ArrayView2::from_shape((width, width), &self.covariance).expect("a square");
        npz.add_array("sigma", &sigma).map_err(failed)?;
        if let Some(n) = self.count {
            npz.add_array("n", &ndarray::arr0(n as i64)).map_err(failed)?;
        }
        if let Some(space) = &self.space {
            npz.add_array("space", &ArrayView1::from(space.as_bytes())).map_err(failed)?;
        }
        npz.finish().map_err(failed)?;
        Ok(())
    }

    /// Reads pytorch-fid's `.npz`: `mu` `[D]`, `sigma` `[D, D]`, `float64` or `float32`, and `n` and `space` if they are there.
    ///
    /// # Errors
    /// When the file is no such archive, an array is missing or of another shape or type, or as [`new`](Self::new).
    pub fn read_npz(reader: impl Read + Seek) -> Result<Statistics, MetricError> {
        let mut npz = NpzReader::new(reader).map_err(|error| {
            let expected = "an .npz archive with mu and sigma".into();
            MetricError::Format { field: "the file", found: error.to_string(), expected }
        })?;
        let mean = floats(&mut npz, "mu", |npz| npz.by_name("mu"), |npz| npz.by_name("mu"))?;
        let (mean, shape): (Vec<f64>, _) = (mean.iter().copied().collect(), mean.shape().to_vec());
        let sigma = floats(&mut npz, "sigma", |npz| npz.by_name("sigma"), |npz| npz.by_name("sigma"))?;
        if shape.len() != 1 || sigma.shape() != [mean.len(), mean.len()] {
            let found = format!("{:?} beside mu of {shape:?}", sigma.shape());
            return Err(MetricError::Format { field: "sigma", found, expected: "[D, D] beside mu of [D]".into() });
        }
        let names = npz.names().map_err(|error| MetricError::Io(std::io::Error::other(error)))?;
        let has = |array: &str| names.iter().any(|name| name == array);
        let count = has("n").then(|| npz.by_name("n"));
        let count = count.transpose().map_err(|error| wrong("n", &error, "one int64"))?;
        let count = count.map(|n: Array0<i64>| u64::try_from(n.into_scalar()));
        let count = count.transpose().map_err(|error| wrong("n", &error, "a number of samples"))?;
        let space = has("space").then(|| npz.by_name("space"));
        let space = space.transpose().map_err(|error| wrong("space", &error, "a name in uint8"))?;
        let space = space.map(|bytes: Array1<u8>| String::from_utf8(bytes.to_vec()));
        let space = space.transpose().map_err(|error| wrong("space", &error, "a name in ASCII"))?;
        Ok(Statistics { space, ..Statistics::new(mean, sigma.iter().copied().collect(), count)? })
    }
}

fn wrong(field: &'static str, found: &dyn std::fmt::Display, expected: &str) -> MetricError {
    MetricError::Format { field, found: found.to_string(), expected: expected.to_owned() }
}

/// An array of `float64` or `float32`.
fn floats<R: Read + Seek>(
    npz: &mut NpzReader<R>,
    field: &'static str,
    wide: impl FnOnce(&mut NpzReader<R>) -> Result<ndarray::ArrayD<f64>, ReadNpzError>,
    narrow: impl FnOnce(&mut NpzReader<R>) -> Result<ndarray::ArrayD<f32>, ReadNpzError>,
) -> Result<ndarray::ArrayD<f64>, MetricError> {
    match wide(npz) {
        Ok(array) => Ok(array),
        Err(error) => match narrow(npz) {
            Ok(array) => Ok(array.mapv(f64::from)),
            Err(_) => Err(wrong(field, &error, "an array of float64 or float32")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;
    use ndarray::Array2;
    use std::io::Cursor;

    fn close(a: &[f64], b: &[f64], tolerance: f64) {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).for_each(|(a, b)| assert!((a - b).abs() <= tolerance, "{a} and {b}"));
    }

    #[test]
    fn streamed_and_merged_moments_are_those_of_the_whole() {
        let x = &normal(2500, 6, 1) + 1e5;
        let whole = Moments::of(&x).unwrap().statistics().unwrap();
        // The definition, by hand.
        let rows: Vec<Vec<f64>> = x.to_vec::<f64>().chunks(6).map(<[f64]>::to_vec).collect();
        let mean: Vec<f64> = (0..6).map(|c| rows.iter().map(|r| r[c] - 1e5).sum::<f64>() / 2500.0 + 1e5).collect();
        let covariance: Vec<f64> = (0..36)
            .map(|k| rows.iter().map(|r| (r[k / 6] - mean[k / 6]) * (r[k % 6] - mean[k % 6])).sum::<f64>() / 2499.0)
            .collect();
        close(whole.mean(), &mean, 1e-9);
        close(whole.covariance(), &covariance, 1e-10);
        let (mut a, mut b) = (Moments::new(6), Moments::new(6));
        a.add(&x.slice(0, 0..1)).unwrap();
        a.add(&x.slice(0, 1..700)).unwrap();
        b.add(&x.slice(0, 700..2500)).unwrap();
        a.merge(&b).unwrap();
        assert_eq!(a.count(), 2500);
        close(a.statistics().unwrap().covariance(), whole.covariance(), 1e-10);
    }

    #[test]
    fn files_come_back_as_they_were_and_can_be_merged() {
        let (x, y) = (normal(50, 3, 1), normal(70, 3, 2));
        let statistics = Moments::of(&x).unwrap().statistics().unwrap();
        let again = |statistics: &Statistics| {
            let mut file = Cursor::new(Vec::new());
            statistics.write_npz(&mut file).unwrap();
            file.set_position(0);
            Statistics::read_npz(&mut file).unwrap()
        };
        let read = again(&statistics);
        assert_eq!(read, statistics);
        let named = statistics.clone().of_space("network-1");
        assert_eq!((again(&named).space(), read.space()), (Some("network-1"), None));
        assert_eq!(again(&named), named);
        let mut moments = read.moments().unwrap();
        moments.add(&y).unwrap();
        let whole = Moments::of(&Tensor::concat(&[&x, &y], 0)).unwrap().statistics().unwrap();
        close(moments.statistics().unwrap().covariance(), whole.covariance(), 1e-13);
    }

    #[test]
    fn bad_files_are_named_by_array() {
        let read = |bytes: Vec<u8>| Statistics::read_npz(Cursor::new(bytes)).unwrap_err().to_string();
        assert!(read(b"no archive".to_vec()).starts_with("statistics: the file is"));
        let file = |mu: &Array1<f64>, sigma: Option<&Array2<f64>>| {
            let mut file = Cursor::new(Vec::new());
            let mut npz = NpzWriter::new(&mut file);
            npz.add_array("mu", mu).unwrap();
            sigma.iter().for_each(|sigma| npz.add_array("sigma", *sigma).unwrap());
            npz.finish().unwrap();
            file.into_inner()
        };
        let mu = Array1::zeros(2);
        assert!(read(file(&mu, None)).starts_with("statistics: sigma is"));
        assert!(read(file(&mu, Some(&Array2::zeros((3, 3))))).contains("[3, 3] beside mu of [2]"));
        let lopsided = ndarray::array![[1.0, 0.5], [0.1, 1.0]];
        assert!(read(file(&mu, Some(&lopsided))).contains("0.1 at [1, 0], 0.5 at [0, 1]"));
        let unknown = Statistics::read_npz(Cursor::new(file(&mu, Some(&Array2::eye(2))))).unwrap();
        assert!(unknown.moments().unwrap_err().to_string().starts_with("statistics: n is missing"));
        assert!(Moments::of(&normal(1, 2, 1)).unwrap().statistics().is_err());
    }

    #[test]
    fn covariances_that_no_memory_holds_are_refused_with_their_size() {
        let error = Moments::of(&Tensor::zeros(&[2, 256, 256, 3], fokker_tensor::Dtype::F32)).unwrap_err().to_string();
        assert!(error.starts_with("196608 features have a covariance of 196608 × 196608 numbers, some 1440 GiB"), "{error}");
        assert!(error.contains("at most 10000 features"), "{error}");
        assert!(Moments::check(Moments::MOST).is_ok());
    }

    #[test]
    #[should_panic(expected = "moments of 10001 numbers, of at most 10000")]
    fn a_width_beyond_the_most_is_a_mistake() {
        Moments::new(10_001);
    }
}

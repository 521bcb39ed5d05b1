//! Animated GIFs, and movies of a sampling trajectory.

use std::io;
use std::path::Path;
use std::time::Duration;

use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, Frame, RgbaImage};

use super::atomic::atomic_write;
use super::picture::{Grid, Picture};
use super::scatter::Scatter;
use crate::error::DataError;
use fokker_tensor::Tensor;

/// How a trajectory is shown.
#[derive(Clone, Debug)]
pub struct Movie {
    /// How long each frame stays; GIF counts in hundredths of a second.
    pub delay: Duration,
    /// How long the last frame stays before the movie starts again.
    pub rest: Duration,
    /// The layout of images.
    pub grid: Grid,
    /// The view of points; `None` fits it to the last frame, which also gives the brightest colour its meaning.
    pub scatter: Option<Scatter>,
}

impl Default for Movie {
    fn default() -> Self {
        Movie { delay: Duration::from_millis(60), rest: Duration::from_millis(1500), grid: Grid::default(), scatter: None }
    }
}

impl Movie {
    /// One picture for each state: a grid for images `[B, H, W, C]`, one image for `[H, W, C]`, a density picture for
    /// points `[N, 2]`, all with the same colours for the same density.
    ///
    /// # Panics
    /// When a state has any other shape.
    #[track_caller]
    pub fn frames(&self, states: &[Tensor]) -> Vec<Picture> {
        let Some(last) = states.last() else { return Vec::new() };
        match last.rank() {
            2 => {
                let mut scatter = self.scatter.clone().unwrap_or_else(|| Scatter::fitted(last));
                scatter.brightest = Some(scatter.brightest.unwrap_or_else(|| scatter.brightest_of(last)));
                states.iter().map(|state| scatter.picture(state)).collect()
            }
            3 => states.iter().map(Picture::from_tensor).collect(),
            4 => states.iter().map(|state| Picture::grid(state, &self.grid)).collect(),
            _ => panic!("a frame is [B, H, W, C], [H, W, C] or [N, 2], not {:?}", last.shape()),
        }
    }

    /// Writes the movie of a trajectory as a GIF that repeats for ever; see [`Movie::frames`] and [`save_gif`].
    ///
    /// # Errors
    /// As [`save_gif`].
    ///
    /// # Panics
    /// As [`Movie::frames`].
    #[track_caller]
    pub fn save(&self, path: impl AsRef<Path>, states: &[Tensor]) -> Result<(), DataError> {
        save_gif(path, &self.frames(states), self.delay, self.rest)
    }
}

/// Writes pictures as a GIF that repeats for ever, [atomically](atomic_write).
///
/// A picture of up to 256 colours (grey ones, density pictures) keeps them exactly; others get a palette of 256.
///
/// # Errors
/// When there is no picture, they differ in size, one is larger than 65535 pixels a side, or the file cannot be
/// written.
pub fn save_gif(path: impl AsRef<Path>, frames: &[Picture], delay: Duration, rest: Duration) -> Result<(), DataError> {
    let path = path.as_ref();
    let Some(first) = frames.first() else {
        return Err(DataError::config("frames", "empty", "at least one picture"));
    };
    let size = (first.height(), first.width());
    if size.0 == 0 || size.1 == 0 || size.0.max(size.1) > usize::from(u16::MAX) {
        let found = format!("{}x{} pixels", size.0, size.1);
        return Err(DataError::config("frames", found, "1 to 65535 pixels a side"));
    }
    if let Some(odd) = frames.iter().find(|frame| (frame.height(), frame.width()) != size) {
        let found = format!("of {}x{} and {}x{} pixels", size.0, size.1, odd.height(), odd.width());
        return Err(DataError::config("frames", found, "pictures of one size"));
    }
    atomic_write(path, |file| {
        let mut encoder = GifEncoder::new_with_speed(file, 10);
        encoder.set_repeat(Repeat::Infinite).map_err(to_io)?;
        for (i, frame) in frames.iter().enumerate() {
            let image = RgbaImage::from_raw(size.1 as u32, size.0 as u32, frame.to_rgba()).expect("four bytes for each pixel");
            let stays = if i + 1 == frames.len() { rest } else { delay };
            let frame = Frame::from_parts(image, 0, 0, Delay::from_saturating_duration(stays));
            encoder.encode_frame(frame).map_err(to_io)?;
        }
        Ok(())
    })
}

/// Keeps the system's own error (a full disk) where there is one.
fn to_io(error: image::ImageError) -> io::Error {
    match error {
        image::ImageError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::AnimationDecoder;
    use image::codecs::gif::GifDecoder;

    fn decode(path: &Path) -> Vec<Frame> {
        let file = io::BufReader::new(std::fs::File::open(path).unwrap());
        GifDecoder::new(file).unwrap().into_frames().collect_frames().unwrap()
    }

    #[test]
    fn grey_frames_survive_a_gif_exactly_with_their_delays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("movie.gif");
        let states: Vec<Tensor> = (0..3)
            .map(|t| {
                let x = (0..2 * 16 * 8).map(|i| ((i + 31 * t) % 256) as f32 / 127.5 - 1.0).collect();
                Tensor::from_vec(&[2, 16, 8, 1], x)
            })
            .collect();
        let movie = Movie { delay: Duration::from_millis(50), ..Movie::default() };
        movie.save(&path, &states).unwrap();
        let frames = decode(&path);
        assert_eq!(frames.len(), 3);
        for (frame, picture) in frames.iter().zip(movie.frames(&states)) {
            assert_eq!(frame.buffer().as_raw(), &picture.to_rgba());
        }
        let delays: Vec<u32> = frames.iter().map(|frame| frame.delay().numer_denom_ms().0).collect();
        assert_eq!(delays, [50, 50, 1500]);
    }

    #[test]
    fn points_move_through_one_view_in_exact_colours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("points.gif");
        let states = [3.0, 1.0].map(|scale: f64| {
            let x = (0..400).map(|i| scale * (i as f64 * 0.37).sin()).collect();
            Tensor::from_vec(&[200, 2], x)
        });
        let movie = Movie::default();
        movie.save(&path, &states).unwrap();
        let frames = decode(&path);
        for (frame, picture) in frames.iter().zip(movie.frames(&states)) {
            assert_eq!(frame.buffer().as_raw(), &picture.to_rgba());
        }
    }

    #[test]
    fn no_frames_and_mixed_sizes_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none.gif");
        let save = |frames: &[Picture]| save_gif(&path, frames, Duration::ZERO, Duration::ZERO);
        assert!(save(&[]).unwrap_err().to_string().contains("at least one picture"));
        let mixed = [Picture::new(1, 2, 1, vec![0; 2]), Picture::new(2, 2, 1, vec![0; 4])];
        let error = save(&mixed).unwrap_err().to_string();
        assert!(error.contains("1x2 and 2x2"), "{error}");
        assert!(!path.exists());
    }
}

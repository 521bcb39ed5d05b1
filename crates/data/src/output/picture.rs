//! 8-bit pictures: from tensors in network space, as grids, to PNG.

use std::io;
use std::path::Path;

use image::ExtendedColorType;
use image::ImageEncoder;
use image::codecs::png::PngEncoder;

use super::atomic::atomic_write;
use crate::error::DataError;
use fokker_tensor::Tensor;

/// An 8-bit picture, grey or RGB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    height: usize,
    width: usize,
    channels: usize,
    pixels: Vec<u8>,
}

/// How images are laid out in a grid.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Images per row; `None` makes the grid about square.
    pub columns: Option<usize>,
    /// Pixels between images and around the grid.
    pub padding: usize,
    /// The byte of the padding and of cells without an image.
    pub background: u8,
    /// Each pixel becomes a square of this side, so that small images can be looked at; 0 counts as 1.
    pub zoom: usize,
}

impl Default for Grid {
    fn default() -> Self {
        Grid { columns: None, padding: 2, background: 0, zoom: 1 }
    }
}

impl Picture {
    /// A picture from bytes in rows, `channels` 1 (grey) or 3 (RGB).
    ///
    /// # Panics
    /// When the number of bytes is not `height * width * channels`, or `channels` is neither 1 nor 3.
    #[track_caller]
    pub fn new(height: usize, width: usize, channels: usize, pixels: Vec<u8>) -> Picture {
        assert!(matches!(channels, 1 | 3), "a picture has 1 or 3 channels, not {channels}");
        let expected = height * width * channels;
        assert_eq!(pixels.len(), expected, "bytes of a {height}x{width}x{channels} picture");
        Picture { height, width, channels, pixels }
    }

    /// A picture of one image `[H, W, C]` in `[-1, 1]`, `C` 1 or 3.
    ///
    /// Values are rounded to the nearest byte (`127.5 (x + 1)`) and clamped; NaN becomes black.
    ///
    /// # Panics
    /// On any other shape.
    #[track_caller]
    pub fn from_tensor(image: &Tensor) -> Picture {
        let &[height, width, channels] = image.shape() else {
            panic!("an image has shape [H, W, C], not {:?}", image.shape());
        };
        Picture::new(height, width, channels, to_bytes(image))
    }

    /// A grid of images `[B, H, W, C]` in `[-1, 1]`, `C` 1 or 3, in reading order; see [`Picture::from_tensor`].
    ///
    /// # Panics
    /// On any other shape, on an empty batch, or when `columns` is `Some(0)`.
    #[track_caller]
    pub fn grid(images: &Tensor, grid: &Grid) -> Picture {
        let &[count, height, width, channels] = images.shape() else {
            panic!("a grid is made of [B, H, W, C], not {:?}", images.shape());
        };
        assert!(matches!(channels, 1 | 3), "a picture has 1 or 3 channels, not {channels}");
        assert!(count > 0 && grid.columns != Some(0), "a grid has at least one image and one column");
        let columns = grid.columns.unwrap_or_else(|| (count as f64).sqrt().ceil() as usize).min(count);
        let rows = count.div_ceil(columns);
        let (zoom, pad) = (grid.zoom.max(1), grid.padding);
        let (cell_h, cell_w) = (height * zoom + pad, width * zoom + pad);
        let (total_h, total_w) = (rows * cell_h + pad, columns * cell_w + pad);

        let bytes = to_bytes(images);
        let mut pixels = vec![grid.background; total_h * total_w * channels];
        for (index, image) in bytes.chunks_exact((height * width * channels).max(1)).enumerate() {
            let (top, left) = (pad + index / columns * cell_h, pad + index % columns * cell_w);
            for y in 0..height * zoom {
                for x in 0..width * zoom {
                    let from = (y / zoom * width + x / zoom) * channels;
                    let to = ((top + y) * total_w + left + x) * channels;
                    pixels[to..to + channels].copy_from_slice(&image[from..from + channels]);
                }
            }
        }
        Picture::new(total_h, total_w, channels, pixels)
    }

    /// Pictures side by side, with so many dark pixels between them.
    ///
    /// # Panics
    /// When there are none, or they differ in height or channels.
    #[track_caller]
    pub fn row(pictures: &[Picture], gap: usize) -> Picture {
        let first = pictures.first().expect("a row of at least one picture");
        let (height, channels) = (first.height, first.channels);
        let same = pictures.iter().all(|p| p.height == height && p.channels == channels);
        assert!(same, "a row of pictures of {height} rows of pixels and {channels} channels");
        let width = pictures.iter().map(|p| p.width).sum::<usize>() + gap * (pictures.len() - 1);
        let mut pixels = Vec::with_capacity(height * width * channels);
        for row in 0..height {
            for (i, picture) in pictures.iter().enumerate() {
                pixels.resize(pixels.len() + if i > 0 { gap * channels } else { 0 }, 0);
                let line = picture.width * channels;
                pixels.extend(&picture.pixels[row * line..(row + 1) * line]);
            }
        }
        Picture::new(height, width, channels, pixels)
    }

    /// Rows of pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// 1 for grey, 3 for RGB.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The bytes, in rows, channels last.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The picture as a PNG file's bytes.
    ///
    /// # Errors
    /// When the picture is empty or larger than PNG allows.
    pub fn to_png(&self) -> io::Result<Vec<u8>> {
        let colour = if self.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
        let side = |n: usize| u32::try_from(n).map_err(io::Error::other);
        let mut png = Vec::new();
        PngEncoder::new(&mut png)
            .write_image(&self.pixels, side(self.width)?, side(self.height)?, colour)
            .map_err(io::Error::other)?;
        Ok(png)
    }

    /// Writes the picture as PNG, [atomically](atomic_write).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_png(&self, path: impl AsRef<Path>) -> Result<(), DataError> {
        atomic_write(path, |file| file.write_all(&self.to_png()?))
    }

    /// The bytes as RGBA, opaque.
    pub(super) fn to_rgba(&self) -> Vec<u8> {
        let pixel = |p: &[u8]| match *p {
            [grey] => [grey, grey, grey, 255],
            [r, g, b] => [r, g, b, 255],
            _ => unreachable!("pictures have 1 or 3 channels"),
        };
        self.pixels.chunks_exact(self.channels).flat_map(pixel).collect()
    }
}

/// The nearest byte of each value; a cast saturates and takes NaN to 0.
fn to_bytes(x: &Tensor) -> Vec<u8> {
    x.to_vec::<f64>().into_iter().map(|x| (127.5 * (x + 1.0)).round() as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::from_byte;

    #[test]
    fn a_row_has_the_pictures_lines_one_after_the_other() {
        let (a, b) = (Picture::new(2, 1, 1, vec![1, 2]), Picture::new(2, 2, 1, vec![3, 4, 5, 6]));
        let row = Picture::row(&[a, b], 1);
        assert_eq!((row.height(), row.width(), row.pixels()), (2, 4, &[1, 0, 3, 4, 2, 0, 5, 6][..]));
    }

    #[test]
    fn every_byte_survives_network_space() {
        let bytes: Vec<u8> = (0..=255).collect();
        let x = Tensor::from_vec(&[16, 16, 1], bytes.iter().map(|&b| from_byte(b)).collect());
        assert_eq!(Picture::from_tensor(&x).pixels(), bytes);
    }

    #[test]
    fn values_are_rounded_to_nearest_and_clamped() {
        let x = vec![-1.1_f64, 1.2, 0.0, 0.4 / 127.5 - 1.0, 0.6 / 127.5 - 1.0, f64::NAN];
        let picture = Picture::from_tensor(&Tensor::from_vec(&[1, 6, 1], x));
        assert_eq!(picture.pixels(), [0, 255, 128, 0, 1, 0]);
    }

    #[test]
    fn a_grid_puts_images_in_reading_order_with_padding() {
        // Three 1x2 images in two columns: bytes 10, 20 | 30, 40 / 50, 60.
        let x: Vec<f32> = [10, 20, 30, 40, 50, 60].map(from_byte).to_vec();
        let images = Tensor::from_vec(&[3, 1, 2, 1], x);
        let picture = Picture::grid(&images, &Grid { padding: 1, background: 9, ..Grid::default() });
        assert_eq!((picture.height(), picture.width()), (5, 7));
        #[rustfmt::skip]
        let expected = [
            9,  9,  9, 9,  9,  9, 9,
            9, 10, 20, 9, 30, 40, 9,
            9,  9,  9, 9,  9,  9, 9,
            9, 50, 60, 9,  9,  9, 9,
            9,  9,  9, 9,  9,  9, 9,
        ];
        assert_eq!(picture.pixels(), expected);
    }

    #[test]
    fn zoom_repeats_pixels_of_every_channel() {
        let x: Vec<f32> = [1, 2, 3, 4, 5, 6].map(from_byte).to_vec();
        let images = Tensor::from_vec(&[1, 1, 2, 3], x);
        let picture = Picture::grid(&images, &Grid { padding: 0, zoom: 2, ..Grid::default() });
        let row = [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6];
        assert_eq!(picture.pixels(), [row, row].concat());
    }

    #[test]
    fn png_bytes_decode_to_the_picture() {
        for channels in [1, 3] {
            let pixels: Vec<u8> = (0..5 * 7 * channels).map(|i| (i * 37) as u8).collect();
            let picture = Picture::new(5, 7, channels, pixels);
            let decoded = image::load_from_memory(&picture.to_png().unwrap()).unwrap();
            assert_eq!((decoded.height(), decoded.width()), (5, 7));
            assert_eq!(usize::from(decoded.color().channel_count()), channels);
            assert_eq!(decoded.as_bytes(), picture.pixels());
        }
    }

    #[test]
    #[should_panic(expected = "a grid is made of [B, H, W, C], not [2, 3]")]
    fn a_grid_of_vectors_panics_with_the_shape() {
        Picture::grid(&Tensor::from_vec(&[2, 3], vec![0.0_f32; 6]), &Grid::default());
    }
}

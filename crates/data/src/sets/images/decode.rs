//! One PNG or JPEG file to bytes of the wanted size and colour.

use std::io::Cursor;
use std::path::Path;

use image::imageops::FilterType;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use super::{Colour, Images};
use crate::error::DataError;

/// The largest image that memory is taken for, in bytes.
const AT_MOST: u64 = 512 << 20;

/// An image's bytes in rows, channels last.
pub(super) struct Decoded {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    pub(super) pixels: Vec<u8>,
}

pub(super) fn decode(path: &Path, bytes: &[u8], options: &Images) -> Result<Decoded, DataError> {
    let wrong = |found: String, expected: &str| DataError::format(path, "the image", found, expected);
    let mut reader = ImageReader::new(Cursor::new(bytes));
    reader = reader.with_guessed_format().map_err(|source| DataError::read(path, source))?;
    match reader.format() {
        Some(ImageFormat::Png) => {}
        Some(ImageFormat::Jpeg) if jpeg_is_whole(bytes) => {}
        // Decoders fill what is missing with grey.
        Some(ImageFormat::Jpeg) => return Err(wrong("cut off".to_owned(), "a whole JPEG file")),
        _ if bytes.is_empty() => return Err(wrong("an empty file".to_owned(), "a PNG or JPEG file")),
        _ => return Err(wrong("neither PNG nor JPEG".to_owned(), "one of them")),
    }
    let corrupt = |error: image::ImageError| wrong(format!("unreadable ({error})"), "a whole PNG or JPEG file");
    let mut decoder = reader.into_decoder().map_err(corrupt)?;
    let total = decoder.total_bytes();
    if total > AT_MOST {
        let (width, height) = decoder.dimensions();
        return Err(wrong(format!("{height}x{width} pixels"), "at most 512 MiB of pixels"));
    }
    let orientation = decoder.orientation().map_err(corrupt)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(corrupt)?;
    image.apply_orientation(orientation);
    if image.color().has_alpha() {
        image = without_alpha(path, &image, options.background)?;
    }
    if let Some(size) = options.size {
        image = cut_and_resize(image, size.sides());
    }
    let grey = matches!(image.color(), ColorType::L8 | ColorType::L16);
    let colour = options.colour.unwrap_or(if grey { Colour::Grey } else { Colour::Rgb });
    let (height, width) = (image.height() as usize, image.width() as usize);
    let pixels = match colour {
        Colour::Grey => image.into_luma8().into_raw(),
        Colour::Rgb => image.into_rgb8().into_raw(),
    };
    Ok(Decoded { height, width, channels: colour.channels(), pixels })
}

/// The image laid on the background; opaque images need none.
fn without_alpha(path: &Path, image: &DynamicImage, background: Option<[u8; 3]>) -> Result<DynamicImage, DataError> {
    let mut rgba = image.to_rgba8();
    let grey_before = matches!(image.color(), ColorType::La8 | ColorType::La16);
    let mut grey = grey_before;
    if rgba.pixels().any(|pixel| pixel.0[3] != 255) {
        let Some(background) = background else {
            let found = "partly transparent";
            return Err(DataError::format(path, "the image", found, "opaque, or background = [r, g, b] to lay it on"));
        };
        grey = grey_before && background[0] == background[1] && background[1] == background[2];
        for pixel in rgba.pixels_mut() {
            let alpha = u32::from(pixel.0[3]);
            for (value, under) in pixel.0.iter_mut().zip(background) {
                *value = ((u32::from(*value) * alpha + u32::from(under) * (255 - alpha) + 127) / 255) as u8;
            }
            pixel.0[3] = 255;
        }
    }
    let opaque = DynamicImage::ImageRgba8(rgba);
    Ok(if grey { opaque.into_luma8().into() } else { opaque.into_rgb8().into() })
}

/// The largest middle part of the wanted proportions, resized.
fn cut_and_resize(image: DynamicImage, [height, width]: [u32; 2]) -> DynamicImage {
    let (h, w) = (f64::from(image.height()), f64::from(image.width()));
    let scale = (h / f64::from(height)).min(w / f64::from(width));
    let part = |side: u32, whole: u32| ((f64::from(side) * scale).round() as u32).clamp(1, whole);
    let (cut_h, cut_w) = (part(height, image.height()), part(width, image.width()));
    let (top, left) = ((image.height() - cut_h) / 2, (image.width() - cut_w) / 2);
    let cut = image.crop_imm(left, top, cut_w, cut_h);
    if (cut_h, cut_w) == (height, width) { cut } else { cut.resize_exact(width, height, FilterType::Lanczos3) }
}

/// Whether a JPEG's segments run up to its end-of-image marker (ITU T.81, annex B).
///
/// Looking for the marker alone would find that of an embedded thumbnail.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        // A marker is 0xff, perhaps repeated, and a code; in coded data 0xff 0x00 stands for a byte 0xff.
        let Some(offset) = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0xff)) else { return false };
        at += offset + 1;
        match bytes.get(at) {
            None => return false,
            Some(0xd9) => return true,
            Some(0xff) => {}
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(_) => match bytes.get(at + 1..at + 3) {
                Some(&[high, low]) => at += 1 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_jpeg_is_not_that_of_its_thumbnail() {
        let thumbnail = [0xff, 0xd8, 0xff, 0xd9];
        let mut bytes = vec![0xff, 0xd8, 0xff, 0xe1, 0, 6];
        bytes.extend(thumbnail);
        bytes.extend([0xff, 0xda, 0, 2, 1, 2, 0xff, 0x00, 3]);
        assert!(!jpeg_is_whole(&bytes));
        bytes.extend([0xff, 0xff, 0xd9]);
        assert!(jpeg_is_whole(&bytes));
        assert!(!jpeg_is_whole(&bytes[..bytes.len() - 1]));
    }
}

//! `.npy` arrays, written and read.
//!
//! Reading checks the header against the number of bytes there are before anything of the announced size is made.

use std::path::Path;

use ndarray::{ArrayD, ShapeBuilder};
use ndarray_npy::WriteNpyExt;
use ndarray_npy::npy::header::Header;

use super::atomic::atomic_write;
use crate::error::DataError;
use fokker_tensor::{Dtype, Tensor};

/// Writes a tensor of any shape as `.npy`, in its own dtype (`<f4` or `<f8`; `bf16` as `<f4`), [atomically](atomic_write).
///
/// # Errors
/// When the file cannot be written.
pub fn write_npy(path: impl AsRef<Path>, x: &Tensor) -> Result<(), DataError> {
    atomic_write(path, |file| {
        let written = match x.dtype() {
            Dtype::F32 => x.view::<f32>().write_npy(file),
            Dtype::F64 => x.view::<f64>().write_npy(file),
            // The format has no such numbers.
            Dtype::Bf16 => x.to(Dtype::F32).view::<f32>().write_npy(file),
        };
        written.map_err(|error| match error {
            ndarray_npy::WriteNpyError::Io(error) => error,
            other => std::io::Error::other(other),
        })
    })
}

/// Reads an `.npy` file of `float32` or `float64` numbers, of any shape and order, into a tensor of that dtype.
///
/// # Errors
/// When the file is missing, truncated, longer than its header says, or of another dtype.
pub fn read_npy(path: impl AsRef<Path>) -> Result<Tensor, DataError> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|source| DataError::read(path, source))?;
    match parse(path, &bytes)? {
        (shape, Numbers::F32(values)) => Ok(Tensor::from_vec(&shape, values)),
        (shape, Numbers::F64(values)) => Ok(Tensor::from_vec(&shape, values)),
        (_, Numbers::Bytes(_) | Numbers::Integers(_)) => {
            Err(DataError::format(path, "the dtype", "an integer type", "float32 or float64"))
        }
    }
}

/// The elements of an array, in row-major order.
#[derive(Debug, PartialEq)]
pub(crate) enum Numbers {
    Bytes(Vec<u8>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    /// Every other integer type.
    Integers(Vec<i64>),
}

/// The shape and elements of an `.npy` file's bytes; errors name `path`.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<(Vec<usize>, Numbers), DataError> {
    let (header, data) = header(path, bytes)?;
    let descriptor = header.type_descriptor.as_string().cloned().unwrap_or_else(|| "a record type".to_owned());
    let element = match descriptor.trim_start_matches(['<', '>', '|', '=']) {
        "u1" | "i1" | "b1" => 1,
        "u2" | "i2" => 2,
        "f4" | "u4" | "i4" => 4,
        "f8" | "u8" | "i8" => 8,
        _ => {
            let expected = "float32, float64, uint8 or another integer type";
            return Err(DataError::format(path, "the dtype", descriptor, expected));
        }
    };
    let shape = &header.shape;
    let expected = shape.iter().try_fold(element, |product: usize, &n| product.checked_mul(n));
    if expected != Some(data.len()) {
        let says = expected.map_or("more bytes than can be counted".to_owned(), |n| format!("{n} bytes"));
        let expected = format!("{says}, as the header says {descriptor} of shape {shape:?}");
        return Err(DataError::format(path, "the data", format!("{} bytes", data.len()), expected));
    }
    let fortran = header.layout.is_fortran();
    let numbers = numbers(&descriptor, data, shape, fortran)
        .ok_or_else(|| DataError::format(path, "the data", "an integer above 2^63 - 1", "smaller integers"))?;
    Ok((header.shape, numbers))
}

/// The header and the bytes after it.
fn header<'a>(path: &Path, bytes: &'a [u8]) -> Result<(Header, &'a [u8]), DataError> {
    let wrong = |found: String, expected: &str| DataError::format(path, "the .npy header", found, expected);
    if !bytes.starts_with(b"\x93NUMPY") {
        let start = &bytes[..bytes.len().min(6)];
        return Err(DataError::format(path, "the magic", format!("{start:02x?}"), "that of .npy, \\x93NUMPY"));
    }
    // Versions 2 and 3 have a 4-byte header length; it must not decide how much memory is taken.
    let (length_at, length) = match bytes.get(6..12) {
        Some(&[1, _, a, b, ..]) => (8, u32::from(u16::from_le_bytes([a, b]))),
        Some(&[2 | 3, _, a, b, c, d]) => (8, u32::from_le_bytes([a, b, c, d])),
        Some(&[version, ..]) => return Err(wrong(format!("of version {version}"), "version 1, 2 or 3")),
        _ => return Err(wrong("cut off".to_owned(), "the rest of the file")),
    };
    let start = length_at + if bytes[6] == 1 { 2 } else { 4 };
    let end = start as u64 + u64::from(length);
    if end > bytes.len() as u64 {
        return Err(wrong(format!("cut off after {} bytes", bytes.len()), &format!("{end} bytes")));
    }
    let (head, data) = bytes.split_at(end as usize);
    // The parser recurses on nesting, which an array's header hardly has.
    if head[start..].iter().filter(|b| matches!(b, b'(' | b'[' | b'{')).count() > 64 {
        return Err(wrong("nested".to_owned(), "a dictionary of descr, fortran_order and shape"));
    }
    let header = Header::from_reader(&mut &head[..])
        .map_err(|error| wrong(format!("unreadable ({error})"), "a dictionary of descr, fortran_order and shape"))?;
    Ok((header, data))
}

/// The elements of `data`, whose length is known to fit; `None` when an integer does not fit an `i64`.
fn numbers(descriptor: &str, data: &[u8], shape: &[usize], fortran: bool) -> Option<Numbers> {
    let big = descriptor.starts_with('>');
    macro_rules! read {
        ($T:ty) => {{
            let (chunks, _) = data.as_chunks::<{ size_of::<$T>() }>();
            let values = chunks.iter().map(|&b| if big { <$T>::from_be_bytes(b) } else { <$T>::from_le_bytes(b) });
            row_major(values.collect(), shape, fortran)
        }};
    }
    macro_rules! integers {
        ($T:ty) => {{
            let values = read!($T).into_iter().map(|v| i64::try_from(v).ok());
            Numbers::Integers(values.collect::<Option<Vec<i64>>>()?)
        }};
    }
    Some(match descriptor.trim_start_matches(['<', '>', '|', '=']) {
        "u1" => Numbers::Bytes(read!(u8)),
        "f4" => Numbers::F32(read!(f32)),
        "f8" => Numbers::F64(read!(f64)),
        "i1" => integers!(i8),
        "b1" => integers!(u8),
        "u2" => integers!(u16),
        "i2" => integers!(i16),
        "u4" => integers!(u32),
        "i4" => integers!(i32),
        "u8" => integers!(u64),
        "i8" => integers!(i64),
        other => unreachable!("descriptor {other} was let through"),
    })
}

/// Elements in row-major order, from the order of the file.
fn row_major<T: Clone>(values: Vec<T>, shape: &[usize], fortran: bool) -> Vec<T> {
    if !fortran {
        return values;
    }
    let array = ArrayD::from_shape_vec(shape.to_vec().f(), values).expect("as many values as the shape has");
    array.iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
        let order = if fortran { "True" } else { "False" };
        let dict = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((dict.len() as u16).to_le_bytes());
        bytes.extend(dict.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn message(bytes: &[u8]) -> String {
        parse(Path::new("some.npy"), bytes).unwrap_err().to_string()
    }

    #[test]
    fn arrays_are_read_as_written_in_both_dtypes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let x: Vec<f32> = (0..12).map(|i| i as f32 * 0.1).collect();
        write_npy(&path, &Tensor::from_vec(&[3, 2, 2], x.clone())).unwrap();
        let back = read_npy(&path).unwrap();
        assert_eq!((back.shape(), back.as_slice::<f32>()), (&[3, 2, 2][..], &x[..]));
        let x: Vec<f64> = (0..5).map(|i| f64::from(i).sqrt()).collect();
        write_npy(&path, &Tensor::from_vec(&[5], x.clone())).unwrap();
        assert_eq!(read_npy(&path).unwrap().as_slice::<f64>(), x);
    }

    #[test]
    fn byte_and_storage_orders_are_undone() {
        let parse = |bytes: &[u8]| parse(Path::new("x"), bytes).unwrap();
        let columns: Vec<u8> = [1_i16, 4, 2, 5, 3, 6].iter().flat_map(|v| v.to_be_bytes()).collect();
        let (shape, numbers) = parse(&npy(">i2", true, "(2, 3)", &columns));
        assert_eq!((shape, numbers), (vec![2, 3], Numbers::Integers(vec![1, 2, 3, 4, 5, 6])));
        let (_, numbers) = parse(&npy(">f4", false, "(1,)", &1.5_f32.to_be_bytes()));
        assert_eq!(numbers, Numbers::F32(vec![1.5]));
        let (shape, numbers) = parse(&npy("|u1", false, "(2,)", &[7, 8]));
        assert_eq!((shape, numbers), (vec![2], Numbers::Bytes(vec![7, 8])));
    }

    #[test]
    fn damaged_files_are_named_with_what_was_expected() {
        let good = npy("<f4", false, "(2, 2)", &[0; 16]);
        assert!(message(b"").contains("some.npy: the magic is []"));
        assert!(message(b"PK\x03\x04 and so on").contains("the magic"));
        assert!(message(&good[..9]).contains("cut off"));
        assert!(message(&good[..20]).contains("cut off"));
        let cut = message(&good[..good.len() - 1]);
        assert!(cut.contains("15 bytes") && cut.contains("16 bytes") && cut.contains("[2, 2]"), "{cut}");
        assert!(message(&[&good[..], b"x"].concat()).contains("17 bytes"));
        assert!(message(&npy("<f2", false, "(1,)", &[0; 2])).contains("the dtype is <f2"));
        assert!(message(&npy("|O", false, "(1,)", &[0; 2])).contains("the dtype is |O"));
        assert!(message(&npy("<f4", false, "(-1,)", &[0; 4])).contains("header"));
        assert!(message(&npy("<u8", false, "(1,)", &[255; 8])).contains("2^63"));
        let nested = format!("({})", "(".repeat(3000));
        assert!(message(&npy("<f4", false, &nested, &[])).contains("nested"));
    }

    #[test]
    fn announced_sizes_take_no_memory() {
        let huge = npy("<f8", false, "(4611686018427387904, 4)", &[0; 8]);
        assert!(message(&huge).contains("8 bytes"));
        let large = npy("<f8", false, "(1000000000000,)", &[0; 8]);
        assert!(message(&large).contains("8000000000000 bytes"));
        let mut header = b"\x93NUMPY\x02\x00".to_vec();
        header.extend([255; 4]);
        assert!(message(&header).contains("cut off"));
    }
}

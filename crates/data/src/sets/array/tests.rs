use super::*;
use std::io::Write;

use ndarray::{Array1, ArrayD};
use ndarray_npy::{NpzWriter, WritableElement, WriteNpyExt};

fn npy<T: WritableElement + Clone>(shape: &[usize], values: &[T]) -> Vec<u8> {
    let mut bytes = Vec::new();
    ArrayD::from_shape_vec(shape.to_vec(), values.to_vec()).unwrap().write_npy(&mut bytes).unwrap();
    bytes
}

fn open(bytes: &[u8], classes: Option<usize>) -> Result<Box<dyn Dataset>, DataError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), bytes).unwrap();
    Array { path: "file".into(), labels: None, classes }.open(folder.path())
}

fn error(bytes: &[u8]) -> String {
    open(bytes, None).err().expect("an error").to_string()
}

fn npz(data: &str, labels: Option<Array1<i64>>, compressed: bool) -> Vec<u8> {
    let out = std::io::Cursor::new(Vec::new());
    let mut writer = if compressed { NpzWriter::new_compressed(out) } else { NpzWriter::new(out) };
    writer.add_array(data, &ArrayD::from_shape_fn(vec![3, 2], |i| (10 * i[0] + i[1]) as f32)).unwrap();
    if let Some(labels) = labels {
        writer.add_array("labels", &labels).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn floats_of_any_shape_are_taken_as_they_stand() {
    let values: Vec<f32> = (0..24).map(|i| i as f32 * 0.25 - 3.0).collect();
    let doubles: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
    for bytes in [npy(&[4, 3, 2], &values), npy(&[4, 3, 2], &doubles)] {
        let set = open(&bytes, None).unwrap();
        assert_eq!((set.name(), set.len(), set.sample_shape(), set.classes()), ("file", 4, &[3, 2][..], None));
        let batch = set.batch(&[3, 1]).unwrap();
        assert_eq!(batch.x.shape(), [2, 3, 2]);
        assert_eq!(batch.x.as_slice::<f32>(), [&values[18..24], &values[6..12]].concat());
    }
    let vectors = open(&npy(&[5], &[0.5_f64; 5]), None).unwrap();
    assert_eq!((vectors.sample_shape(), vectors.levels()), (&[1][..], None));
}

#[test]
fn bytes_are_images() {
    let set = open(&npy(&[2, 2, 3], &(0..12).map(|i| i * 23).collect::<Vec<u8>>()), None).unwrap();
    assert_eq!((set.sample_shape(), set.levels()), (&[2, 3, 1][..], Some(256)));
    let expected: Vec<f32> = (6..12).map(|i| (i * 23) as f32 / 127.5 - 1.0).collect();
    assert_eq!(set.batch(&[1]).unwrap().x.as_slice::<f32>(), expected);
    assert_eq!(open(&npy(&[2, 2, 3, 3], &[7_u8; 36]), None).unwrap().sample_shape(), [2, 3, 3]);
}

#[test]
fn archives_open_with_their_labels() {
    for name in ["x", "images", "arr_0"] {
        for compressed in [false, true] {
            let set = open(&npz(name, Some(vec![4, 0, 2].into()), compressed), None).unwrap();
            assert_eq!((set.len(), set.classes()), (3, Some(5)));
            let batch = set.batch(&[2, 0]).unwrap();
            assert_eq!((batch.x.as_slice::<f32>(), batch.labels), (&[20.0, 21.0, 0.0, 1.0][..], Some(vec![2, 4])));
        }
    }
    assert_eq!(open(&npz("x", None, true), None).unwrap().classes(), None);
    assert_eq!(open(&npz("x", Some(vec![0, 0, 2].into()), true), Some(10)).unwrap().classes(), Some(10));
}

#[test]
fn labels_may_stand_in_their_own_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.npy"), npy(&[2, 1], &[1.0_f32, 2.0])).unwrap();
    let open = |labels: &[u8]| {
        std::fs::write(folder.path().join("y.npy"), labels).unwrap();
        Array { path: "x.npy".into(), labels: Some("y.npy".into()), classes: None }.open(folder.path())
    };
    assert_eq!(open(&npy(&[2], &[1_u8, 0])).unwrap().batch(&[0]).unwrap().labels, Some(vec![1]));
    let error = |labels: &[u8]| open(labels).err().expect("an error").to_string();
    assert!(error(&npy(&[3], &[1_i32, 0, 1])).contains("y.npy: the shape of the labels is [3], expected [2]"));
    assert!(error(&npy(&[2], &[0.0_f32, 1.0])).contains("the dtype of the labels is a float type"));
    let negative = error(&npy(&[2], &[1_i64, -1]));
    assert!(negative.contains("y.npy: the label of row 1 is -1, expected a class from 0"), "{negative}");
}

#[test]
fn numbers_that_are_not_finite_are_named_by_row() {
    let mut values = vec![0.5_f32; 12];
    values[7] = f32::NAN;
    let message = error(&npy(&[4, 3], &values));
    assert!(message.contains("file: row 2 (value 1 of 3) is NaN, expected a finite float32"), "{message}");
    let mut values = vec![0.5_f64; 12];
    values[11] = f64::NEG_INFINITY;
    assert!(error(&npy(&[4, 3], &values)).contains("row 3 (value 2 of 3) is -inf"));
    values[11] = 1e300;
    assert!(error(&npy(&[4, 3], &values)).contains("row 3 (value 2 of 3) is inf"));
}

#[test]
fn empty_and_shapeless_arrays_and_integers_are_errors() {
    assert!(error(&npy::<f32>(&[0, 2], &[])).contains("the data is empty"));
    assert!(error(&npy::<f32>(&[2, 0], &[])).contains("the data is empty"));
    assert!(error(&npy::<f32>(&[], &[1.0])).contains("the shape is [], expected [N, ...]"));
    assert!(error(&npy(&[2, 1], &[1_i32, 2])).contains("the dtype is an integer type"));
    assert!(error(b"").contains("the magic is []"));
    let whole = npy(&[2, 2], &[0.0_f32; 4]);
    assert!(error(&whole[..whole.len() - 2]).contains("the data is 14 bytes, expected 16 bytes"));
}

#[test]
fn damaged_archives_are_errors_that_name_the_member() {
    let whole = npz("x", Some(vec![0, 1, 2].into()), false);
    assert!(error(&whole[..whole.len() / 2]).contains("the zip archive is unreadable"));
    assert!(error(&whole[..10]).contains("the zip archive is unreadable"));
    let other = error(&npz("weights", None, false));
    assert!(other.contains("weights.npy") && other.contains("x, images or arr_0"), "{other}");
    // A flipped bit in the stored numbers of x fails its checksum.
    let mut corrupt = whole.clone();
    let at = corrupt.windows(4).position(|w| w == 21.0_f32.to_le_bytes()).unwrap();
    corrupt[at] ^= 1;
    let message = error(&corrupt);
    assert!(message.starts_with("cannot read") && message.contains("x.npy"), "{message}");
    let few = open(&npz("x", Some(vec![0, 1].into()), true), None).err().expect("an error").to_string();
    assert!(few.contains("labels.npy: the shape of the labels is [2], expected [3]"), "{few}");
    let high = open(&npz("x", Some(vec![0, 1, 3].into()), true), Some(3)).err().expect("an error").to_string();
    assert!(high.contains("labels.npy: the label of row 2 is 3, expected a class from 0 to 2"), "{high}");
}

#[test]
fn a_member_that_is_no_array_is_named() {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("x.npy", zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(b"hello").unwrap();
    let message = error(&writer.finish().unwrap().into_inner());
    assert!(message.contains("x.npy: the magic is"), "{message}");
}

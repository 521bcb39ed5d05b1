use super::*;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

fn idx(shape: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, shape.len() as u8];
    bytes.extend(shape.iter().flat_map(|n| n.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Three images of 2x4 pixels with the bytes 0 to 23.
fn images() -> Vec<u8> {
    idx(&[3, 2, 4], &(0..24).collect::<Vec<u8>>())
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn with(self, name: &str, bytes: &[u8]) -> Files {
        std::fs::write(self.0.path().join(name), bytes).unwrap();
        self
    }

    fn open(&self, config: Idx) -> Result<Box<dyn Dataset>, DataError> {
        config.open(self.0.path())
    }

    /// Opens the files `x` and, if there is one, `y`.
    fn error(&self) -> String {
        let labels = self.0.path().join("y").exists().then(|| PathBuf::from("y"));
        let config = Idx { images: Some("x".into()), labels, ..Idx::default() };
        self.open(config).err().expect("an error").to_string()
    }
}

fn folder() -> Idx {
    Idx { path: Some(".".into()), ..Idx::default() }
}

#[test]
fn a_folder_with_the_usual_names_opens_gzipped_or_not() {
    let labels = idx(&[3], &[7, 0, 4]);
    let layouts = [
        ("train-images-idx3-ubyte", images(), "train-labels-idx1-ubyte", labels.clone()),
        ("train-images-idx3-ubyte.gz", gz(&images()), "train-labels-idx1-ubyte.gz", gz(&labels)),
        ("train-images.idx3-ubyte", images(), "train-labels.idx1-ubyte", labels.clone()),
        // The content counts, not the name.
        ("train-images-idx3-ubyte.gz", images(), "train-labels-idx1-ubyte", gz(&labels)),
    ];
    for (x, x_bytes, y, y_bytes) in layouts {
        let files = Files::new().with(x, &x_bytes).with(y, &y_bytes);
        let set = files.open(folder()).unwrap();
        assert_eq!((set.len(), set.sample_shape(), set.classes()), (3, &[2, 4, 1][..], Some(8)));
        let batch = set.batch(&[2, 0]).unwrap();
        assert_eq!(batch.labels, Some(vec![4, 7]));
        let expected: Vec<f32> = (16..24).chain(0..8).map(|b| b as f32 / 127.5 - 1.0).collect();
        assert_eq!(batch.x.as_slice::<f32>(), expected);
    }
}

#[test]
fn the_split_chooses_the_files_and_labels_may_be_missing() {
    let files = Files::new().with("train-images-idx3-ubyte", &images()).with("t10k-images-idx3-ubyte", &idx(&[1, 1, 1], &[9]));
    assert_eq!(files.open(folder()).unwrap().classes(), None);
    assert_eq!(files.open(Idx { split: Split::Test, ..folder() }).unwrap().len(), 1);
}

#[test]
fn a_folder_without_the_files_says_which() {
    let error = Files::new().open(folder()).err().expect("an error").to_string();
    assert!(error.contains("train-images-idx3-ubyte.gz"), "{error}");
}

#[test]
fn damaged_images_are_named_with_what_was_expected() {
    let error = |bytes: &[u8]| Files::new().with("x", bytes).error();
    assert!(error(b"").contains("x: the IDX header is cut off after 0 bytes, expected 16 bytes"));
    assert!(error(b"\x89PNG and so on, long enough").contains("the IDX magic is [89, 50, 4e, 47], expected [00, 00, 08, 03]"));
    assert!(error(&idx(&[3], &[1, 2, 3])).contains("the IDX magic is [00, 00, 08, 01]"));
    assert!(error(&images()[..11]).contains("cut off after 11 bytes"));
    // A stored file is shorter than its header says: caught before anything is read.
    assert!(error(&idx(&[100, 2, 4], &[0; 24])).contains("the size in the IDX header is [100, 2, 4]"));
    let cut = error(&images()[..images().len() - 1]);
    assert!(cut.contains("the number of values is 23, expected 24, as the header says [3, 2, 4]"), "{cut}");
    let long = error(&[&images()[..], b"zz"].concat());
    assert!(long.contains("the number of values is 26, expected 24"), "{long}");
    assert!(error(&idx(&[0, 28, 28], &[])).contains("[0, 28, 28], expected at least one pixel"));
}

#[test]
fn announced_sizes_take_no_memory() {
    let error = |bytes: &[u8]| Files::new().with("x", bytes).error();
    let huge = idx(&[u32::MAX; 3], &[0; 24]);
    assert!(error(&huge).contains("the size in the IDX header"));
    assert!(error(&gz(&huge)).contains("the size in the IDX header"));
    // Within deflate's largest ratio, so found by reading what there is.
    let some = gz(&idx(&[500, 2, 4], &[0; 24]));
    assert!(error(&some).contains("the number of values is 24, expected 4000"), "{}", error(&some));
}

#[test]
fn damaged_gzip_is_an_error_that_names_the_file() {
    let values: Vec<u8> = (0..4000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let whole = gz(&idx(&[10, 20, 20], &values));
    let error = |bytes: &[u8]| Files::new().with("x", bytes).error();
    for keep in [12, whole.len() / 2, whole.len() - 9, whole.len() - 4] {
        let message = error(&whole[..keep]);
        assert!(message.starts_with("cannot read") && message.contains("/x"), "{keep}: {message}");
    }
    let mut corrupt = whole.clone();
    let at = corrupt.len() - 6;
    corrupt[at] ^= 1;
    assert!(error(&corrupt).starts_with("cannot read"), "{}", error(&corrupt));
}

#[test]
fn labels_must_fit_the_images() {
    let error = |labels: &[u8]| Files::new().with("x", &images()).with("y", labels).error();
    let few = error(&idx(&[2], &[1, 2]));
    assert!(few.contains("y: the number of labels is 2, expected 3, as in"), "{few}");
    assert!(error(&images()).contains("unsigned bytes of rank 1 (labels)"));
    assert!(error(&idx(&[3], &[1, 2])).contains("the number of values is 2, expected 3"));
    let files = Files::new().with("x", &images()).with("y", &idx(&[3], &[1, 9, 10]));
    let config = Idx { images: Some("x".into()), labels: Some("y".into()), classes: Some(10), ..Idx::default() };
    let message = files.open(config).err().expect("an error").to_string();
    assert!(message.contains("y: the label of row 2 is 10, expected a class below 10"), "{message}");
}

#[test]
fn classes_without_labels_are_an_error() {
    let files = Files::new().with("x", &images());
    let config = Idx { images: Some("x".into()), classes: Some(10), ..Idx::default() };
    assert!(files.open(config).err().expect("an error").to_string().starts_with("classes is 10"));
}

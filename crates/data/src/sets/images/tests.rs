use super::*;
use std::io::{Cursor, Write};

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, GrayImage, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba, RgbaImage};

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A PNG of `height` x `width` pixels, `first` in the corner and one more in each pixel.
fn grey(height: u32, width: u32, first: u8) -> Vec<u8> {
    encode(GrayImage::from_fn(width, height, |x, y| Luma([first + (y * width + x) as u8])), ImageFormat::Png)
}

fn rgb(height: u32, width: u32, first: u8) -> Vec<u8> {
    let pixel = |x, y| {
        let value = first + (y * width + x) as u8;
        Rgb([value, value / 2, 255 - value])
    };
    encode(RgbImage::from_fn(width, height, pixel), ImageFormat::Png)
}

fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    folder
}

fn zipped(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn plain(path: impl Into<PathBuf>) -> Images {
    let path = path.into();
    Images { path, labels: LabelSource::Auto, classes: None, size: None, colour: None, background: None }
}

fn open(config: &Images) -> Result<Box<dyn Dataset>, DataError> {
    config.open(Path::new(""))
}

fn error(config: &Images) -> String {
    open(config).err().expect("an error").to_string()
}

fn error_of(files: &[(&str, Vec<u8>)]) -> String {
    error(&plain(folder(files).path()))
}

/// The bytes and labels of all rows.
fn content(set: &dyn Dataset) -> (Vec<u8>, Option<Vec<u32>>) {
    let batch = set.batch(&(0..set.len()).collect::<Vec<_>>()).unwrap();
    let bytes = batch.x.as_slice::<f32>().iter().map(|v| ((v + 1.0) * 127.5).round() as u8).collect();
    (bytes, batch.labels)
}

#[test]
fn a_folder_and_a_zip_of_it_open_alike_with_classes_from_sub_folders() {
    let files = [
        ("dog/b.png", grey(2, 2, 10)),
        ("cat/deep/a.PNG", grey(2, 2, 20)),
        ("cat/z.png", grey(2, 2, 30)),
        ("dog/notes.txt", b"not an image".to_vec()),
        ("dog/.hidden.png", b"not an image".to_vec()),
        ("__MACOSX/cat/._z.png", b"not an image".to_vec()),
    ];
    let folder = folder(&files);
    let archive = folder.path().join(".archive.zip");
    let wrapped: Vec<(String, Vec<u8>)> = files.iter().map(|(n, b)| (format!("all/of/it/{n}"), b.clone())).collect();
    let wrapped: Vec<(&str, Vec<u8>)> = wrapped.iter().map(|(n, b)| (&n[..], b.clone())).collect();
    for bytes in [zipped(&files), zipped(&wrapped)] {
        std::fs::write(&archive, bytes).unwrap();
        for path in [folder.path(), &archive] {
            let set = open(&plain(path)).unwrap();
            assert_eq!((set.len(), set.sample_shape(), set.classes()), (3, &[2, 2, 1][..], Some(2)));
            let (bytes, labels) = content(&*set);
            assert_eq!(labels, Some(vec![0, 0, 1]));
            assert_eq!(bytes, [20, 21, 22, 23, 30, 31, 32, 33, 10, 11, 12, 13]);
        }
    }
}

#[test]
fn class_folders_that_are_numbers_are_ordered_as_numbers() {
    let folder = folder(&[("10/a.png", grey(1, 1, 0)), ("9/a.png", grey(1, 1, 1)), ("0/a.png", grey(1, 1, 2))]);
    let (bytes, labels) = content(&*open(&plain(folder.path())).unwrap());
    // Files are in the order of their paths: 0, 10, 9.
    assert_eq!((bytes, labels), (vec![2, 0, 1], Some(vec![0, 2, 1])));
}

#[test]
fn images_in_one_folder_have_no_classes() {
    let folder = folder(&[("only/a.png", rgb(2, 3, 0)), ("only/b.png", rgb(2, 3, 50))]);
    let set = open(&plain(folder.path())).unwrap();
    assert_eq!((set.sample_shape(), set.classes()), (&[2, 3, 3][..], None));
    assert_eq!(content(&*set).0[18..21], [50, 25, 205]);
    let message = error(&Images { labels: LabelSource::Folders, ..plain(folder.path()) });
    assert!(message.contains("the number of class folders"), "{message}");
}

#[test]
fn an_image_beside_class_folders_is_an_error() {
    let files = [("a/a.png", grey(1, 1, 0)), ("b/b.png", grey(1, 1, 1)), ("stray.png", grey(1, 1, 2))];
    let message = error_of(&files);
    assert!(message.contains("stray.png") && message.contains("labels = \"none\""), "{message}");
    let folder = folder(&files);
    let set = open(&Images { labels: LabelSource::None, ..plain(folder.path()) }).unwrap();
    assert_eq!((set.len(), set.classes()), (3, None));
}

#[test]
fn dataset_json_gives_the_classes() {
    let with = |json: &str| {
        let json = json.as_bytes().to_vec();
        [("00000/a.png", grey(1, 1, 1)), ("00001/b.png", grey(1, 1, 2)), ("dataset.json", json)]
    };
    let both = with(r#"{"labels": [["00001/b.png", 7], ["00000\\a.png", 2]]}"#);
    let root = folder(&both);
    let archive = root.path().join("some.zip");
    std::fs::write(&archive, zipped(&both)).unwrap();
    for path in [root.path(), &archive] {
        let set = open(&plain(path)).unwrap();
        assert_eq!((set.classes(), content(&*set).1), (Some(8), Some(vec![2, 7])));
        let by_folder = open(&Images { labels: LabelSource::Folders, ..plain(path) }).unwrap();
        assert_eq!(content(&*by_folder).1, Some(vec![0, 1]));
    }
    assert_eq!(open(&Images { classes: Some(10), ..plain(root.path()) }).unwrap().classes(), Some(10));
    let high = error(&Images { classes: Some(7), ..plain(root.path()) });
    assert!(high.contains("dataset.json: labels[0] is 7, expected a class from 0 to 6"), "{high}");

    let null = folder(&with(r#"{"labels": null}"#));
    assert_eq!(open(&plain(null.path())).unwrap().classes(), None);

    let cases = [
        ("{", "dataset.json: the content is not JSON"),
        ("{}", "dataset.json: labels is missing"),
        (r#"{"labels": 3}"#, "labels is 3, expected a list"),
        (r#"{"labels": [["00000/a.png"]]}"#, "labels[0] is [\"00000/a.png\"], expected [\"file\", class]"),
        (r#"{"labels": [["00000/a.png", 0.5]]}"#, "labels[0] is [\"00000/a.png\",0.5]"),
        (r#"{"labels": [["00000/a.png", -1]]}"#, "labels[0] is -1, expected a class from 0"),
        (r#"{"labels": [["00000/a.png", 1]]}"#, "labels is without an entry for \"00001/b.png\""),
        (r#"{"labels": [["00000/a.png", 1], ["00001/b.png", 1], ["c.png", 1]]}"#, "naming \"c.png\", which is not there"),
        (r#"{"labels": [["00000/a.png", 1], ["00000/a.png", 1]]}"#, "labels[1] is a second entry"),
    ];
    for (json, expected) in cases {
        let message = error_of(&with(json));
        assert!(message.contains(expected), "{json}: {message}");
    }
    let none = folder(&[("a.png", grey(1, 1, 0))]);
    let message = error(&Images { labels: LabelSource::Json, ..plain(none.path()) });
    assert!(message.contains("without dataset.json"), "{message}");
}

#[test]
fn mixed_sizes_are_an_error_unless_a_size_is_asked_for() {
    let files = [("a.png", grey(2, 2, 0)), ("b.png", grey(2, 2, 9)), ("c.png", grey(2, 3, 0))];
    let message = error_of(&files);
    for part in ["mixed size", "a.png is 2x2", "c.png is 2x3", "set size"] {
        assert!(message.contains(part), "{message}");
    }
    let folder = folder(&files);
    let set = open(&Images { size: Some(Size::Square(2)), ..plain(folder.path()) }).unwrap();
    assert_eq!(set.sample_shape(), [2, 2, 1]);
    // The middle of three columns, rounded to the left; nothing else is touched.
    assert_eq!(content(&*set).0[8..], [0, 1, 3, 4]);
}

#[test]
fn resizing_cuts_the_middle_and_averages() {
    // Left and right quarters black, the middle half white.
    let image = GrayImage::from_fn(16, 8, |x, _| Luma([if (4..12).contains(&x) { 255 } else { 0 }]));
    let folder = folder(&[("a.png", encode(image, ImageFormat::Png))]);
    let resized = |size| {
        let set = open(&Images { size: Some(size), ..plain(folder.path()) }).unwrap();
        (set.sample_shape().to_vec(), content(&*set).0)
    };
    assert_eq!(resized(Size::Square(4)), (vec![4, 4, 1], vec![255; 16]));
    let (shape, bytes) = resized(Size::Rectangle([2, 4]));
    assert_eq!(shape, [2, 4, 1]);
    assert!(bytes.chunks_exact(4).all(|row| row[0] < 20 && row[1] > 235 && row[2] > 235 && row[3] < 20), "{bytes:?}");
}

#[test]
fn mixed_colours_are_an_error_unless_one_is_asked_for() {
    let files = [("a.png", grey(2, 2, 0)), ("b.png", rgb(2, 2, 100))];
    let message = error_of(&files);
    for part in ["mixed colour", "a.png is grey", "b.png is RGB", "set colour"] {
        assert!(message.contains(part), "{message}");
    }
    let folder = folder(&files);
    let set = open(&Images { colour: Some(Colour::Rgb), ..plain(folder.path()) }).unwrap();
    let bytes = content(&*set).0;
    assert_eq!((&bytes[..6], &bytes[12..15]), (&[0, 0, 0, 1, 1, 1][..], &[100, 50, 155][..]));
    let set = open(&Images { colour: Some(Colour::Grey), ..plain(folder.path()) }).unwrap();
    let luma = 0.2126 * 100.0 + 0.7152 * 50.0 + 0.0722 * 155.0;
    assert!((f64::from(content(&*set).0[4]) - luma).abs() < 1.0);
}

#[test]
fn transparent_images_need_a_background_and_opaque_ones_do_not() {
    let opaque = RgbaImage::from_pixel(1, 1, Rgba([10, 20, 30, 255]));
    let opaque_folder = folder(&[("a.png", encode(opaque, ImageFormat::Png))]);
    assert_eq!(content(&*open(&plain(opaque_folder.path())).unwrap()).0, [10, 20, 30]);

    let half = RgbaImage::from_pixel(1, 1, Rgba([200, 100, 0, 51]));
    let half = folder(&[("a.png", encode(half, ImageFormat::Png))]);
    let message = error(&plain(half.path()));
    assert!(message.contains("a.png: the image is partly transparent"), "{message}");
    let set = open(&Images { background: Some([100, 200, 50]), ..plain(half.path()) }).unwrap();
    assert_eq!(content(&*set).0, [120, 180, 40]);

    let grey = image::GrayAlphaImage::from_pixel(1, 1, LumaA([200, 51]));
    let grey = folder(&[("a.png", encode(grey, ImageFormat::Png))]);
    let set = open(&Images { background: Some([100; 3]), ..plain(grey.path()) }).unwrap();
    assert_eq!((set.sample_shape(), content(&*set).0), (&[1, 1, 1][..], vec![120]));
}

#[test]
fn sixteen_bit_files_become_bytes() {
    let image = image::ImageBuffer::from_fn(2, 1, |x, _| Luma([257 * (40 + x as u16)]));
    let folder = folder(&[("a.png", encode(DynamicImage::ImageLuma16(image), ImageFormat::Png))]);
    assert_eq!(content(&*open(&plain(folder.path())).unwrap()).0, [40, 41]);
}

/// A JPEG with an EXIF block that says how to turn it.
fn turned_jpeg(orientation: u8) -> Vec<u8> {
    // Left half black, right half white, 16 pixels wide and 8 high.
    let image = GrayImage::from_fn(16, 8, |x, _| Luma([if x < 8 { 0 } else { 255 }]));
    let mut exif = b"Exif\0\0II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    let plain = encode(image, ImageFormat::Jpeg);
    let mut bytes = plain[..2].to_vec();
    bytes.extend([0xff, 0xe1]);
    bytes.extend((exif.len() as u16 + 2).to_be_bytes());
    bytes.extend(exif);
    bytes.extend(&plain[2..]);
    bytes
}

#[test]
fn photographs_are_turned_as_their_exif_says() {
    let open_one = |orientation| {
        let folder = folder(&[("a.jpg", turned_jpeg(orientation))]);
        let set = open(&plain(folder.path())).unwrap();
        (set.sample_shape().to_vec(), content(&*set).0)
    };
    let (shape, bytes) = open_one(1);
    assert_eq!(shape, [8, 16, 1]);
    assert!(bytes[0] < 10 && bytes[15] > 245);
    // 6: turn by 90 degrees clockwise, which puts the left half on top.
    let (shape, bytes) = open_one(6);
    assert_eq!(shape, [16, 8, 1]);
    assert!(bytes[0] < 10 && bytes[7] < 10 && bytes[15 * 8] > 245);
}

#[test]
fn damaged_images_are_errors_that_name_the_file() {
    let picture = RgbImage::from_fn(40, 40, |x, y| Rgb([(x * y) as u8, (x * 5) as u8, (y * 3) as u8]));
    let png = encode(picture.clone(), ImageFormat::Png);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 90).encode_image(&picture).unwrap();
    for (name, whole) in [("b.png", &png), ("b.jpg", &jpeg)] {
        for keep in [0, 3, 20, whole.len() / 2, whole.len() * 9 / 10] {
            let message = error_of(&[("a.png", png.clone()), (name, whole[..keep].to_vec())]);
            assert!(message.contains(&format!("{name}: the image is")), "{name} {keep}: {message}");
        }
    }
    let mut corrupt = png.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 0x55;
    assert!(error_of(&[("b.png", corrupt)]).contains("b.png: the image is unreadable"));
    let gif = encode(RgbaImage::new(2, 2), ImageFormat::Gif);
    assert!(error_of(&[("b.png", gif)]).contains("b.png: the image is neither PNG nor JPEG"));
    // A wrong ending does no harm where the content is known.
    let folder = folder(&[("a.jpg", grey(2, 2, 5))]);
    assert_eq!(content(&*open(&plain(folder.path())).unwrap()).0, [5, 6, 7, 8]);
}

#[test]
fn an_announced_size_takes_no_memory() {
    let mut bytes = grey(2, 2, 0);
    // The header chunk's width and height, then its checksum.
    bytes[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let mut checksum = flate2::Crc::new();
    checksum.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
    let message = error_of(&[("a.png", bytes)]);
    assert!(message.contains("a.png: the image is 65536x65536 pixels, expected at most"), "{message}");
}

#[test]
fn empty_folders_and_bad_archives_are_errors() {
    let empty = error_of(&[("readme.txt", b"nothing here".to_vec())]);
    assert!(empty.contains("without images, expected files ending in .png, .jpg or .jpeg"), "{empty}");
    let folder = folder(&[]);
    let archive = folder.path().join("bad.zip");
    let write = |bytes: &[u8]| {
        std::fs::write(&archive, bytes).unwrap();
        error(&plain(&archive))
    };
    let whole = zipped(&[("a.png", grey(20, 10, 0)), ("b.png", grey(20, 10, 7))]);
    assert!(write(b"").contains("bad.zip: the zip archive is unreadable"));
    assert!(write(b"not a zip at all").contains("bad.zip: the zip archive is unreadable"));
    assert!(write(&whole[..whole.len() - 30]).contains("bad.zip: the zip archive is unreadable"));
    assert!(write(&zipped(&[])).contains("without images"));
    // The first member starts after a header of 30 bytes and its name.
    let mut corrupt = whole.clone();
    corrupt[30 + 5 + 20] ^= 0xff;
    let message = write(&corrupt);
    assert!(message.contains("bad.zip/a.png"), "{message}");
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_never_in_a_circle() {
    let target = folder(&[("x.png", grey(1, 1, 3))]);
    let folder = folder(&[("a/y.png", grey(1, 1, 4))]);
    std::os::unix::fs::symlink(target.path(), folder.path().join("b")).unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("a/again")).unwrap();
    let (bytes, labels) = content(&*open(&plain(folder.path())).unwrap());
    assert_eq!((bytes, labels), (vec![4, 3], Some(vec![0, 1])));
}

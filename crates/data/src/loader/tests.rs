use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::DataConfig;

/// Rows `i` hold `i` (as `[H, W, C]`, counting on from `100 i`); keeps count of what was asked.
struct Counting {
    len: usize,
    shape: Vec<usize>,
    made: Arc<AtomicUsize>,
    /// The call that fails once.
    fails: Mutex<Option<usize>>,
    panics: AtomicBool,
    rows: Mutex<Vec<usize>>,
}

impl Counting {
    fn new(len: usize, shape: &[usize]) -> Counting {
        Counting {
            len,
            shape: shape.to_vec(),
            made: Arc::default(),
            fails: Mutex::default(),
            panics: AtomicBool::default(),
            rows: Mutex::default(),
        }
    }
}

impl Dataset for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    fn len(&self) -> usize {
        self.len
    }

    fn sample_shape(&self) -> &[usize] {
        &self.shape
    }

    fn classes(&self) -> Option<usize> {
        Some(self.len)
    }

    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError> {
        assert!(!self.panics.load(Ordering::SeqCst), "the disk is on fire");
        let call = self.made.fetch_add(1, Ordering::SeqCst);
        let mut fails = self.fails.lock().unwrap();
        if *fails == Some(call) {
            *fails = None;
            return Err(DataError::read("row.png", std::io::ErrorKind::UnexpectedEof.into()));
        }
        self.rows.lock().unwrap().extend(rows);
        let each: usize = self.shape.iter().product();
        let x = rows.iter().flat_map(|&row| (0..each).map(move |j| (100 * row + j) as f32)).collect();
        let shape: Vec<usize> = std::iter::once(rows.len()).chain(self.shape.iter().copied()).collect();
        Ok(Batch { x: Tensor::from_vec(&shape, x), labels: Some(rows.iter().map(|&row| row as u32).collect()) })
    }
}

fn config(batch: usize, prefetch: usize) -> LoaderConfig {
    LoaderConfig { batch, prefetch, seed: 3, ..LoaderConfig::default() }
}

fn loader(dataset: Counting, config: LoaderConfig, position: u64) -> Loader {
    Loader::new(Arc::new(dataset) as Arc<dyn Dataset>, config, Cursor { position }).unwrap()
}

fn take(loader: &mut Loader, batches: usize) -> Vec<(Vec<f32>, Vec<u32>)> {
    (0..batches)
        .map(|_| {
            let batch = loader.next_batch().unwrap();
            (batch.x.to_vec(), batch.labels.unwrap())
        })
        .collect()
}

#[test]
fn the_bits_do_not_depend_on_the_thread_or_on_where_it_was_resumed() {
    for flip in [false, true] {
        let config = |prefetch| LoaderConfig { flip, ..config(4, prefetch) };
        let set = || Counting::new(10, &[2, 3, 1]);
        let all = take(&mut loader(set(), config(0), 0), 12);
        for prefetch in [1, 3] {
            assert_eq!(take(&mut loader(set(), config(prefetch), 0), 12), all);
        }
        for k in [1, 2, 5, 11] {
            let mut first = loader(set(), config(2), 0);
            take(&mut first, k);
            assert_eq!(first.cursor(), Cursor { position: 4 * k as u64 });
            for prefetch in [0, 2] {
                let mut resumed = loader(set(), config(prefetch), first.cursor().position);
                assert_eq!(take(&mut resumed, 12 - k), all[k..]);
            }
        }
    }
}

#[test]
fn batches_span_epochs_and_lose_no_row() {
    let mut loader = loader(Counting::new(10, &[1]), config(4, 2), 0);
    let rows: Vec<u32> = take(&mut loader, 5).into_iter().flat_map(|(_, labels)| labels).collect();
    for epoch in rows.chunks(10) {
        let mut epoch = epoch.to_vec();
        epoch.sort_unstable();
        assert_eq!(epoch, (0..10).collect::<Vec<u32>>());
    }
    assert_ne!(rows[..10], rows[10..]);
    assert_eq!(loader.epoch(), 2.0);
}

#[test]
fn a_batch_may_be_larger_than_the_set() {
    let rows = take(&mut loader(Counting::new(3, &[1]), config(10, 1), 0), 1)[0].1.clone();
    let count = |row| rows.iter().filter(|&&r| r == row).count();
    assert_eq!(rows.len(), 10);
    assert!((0..3).all(|row| (3..=4).contains(&count(row))));
}

#[test]
fn flips_mirror_about_half_of_the_images_and_nothing_else() {
    let mut loader = loader(Counting::new(20, &[2, 3, 2]), LoaderConfig { flip: true, ..config(100, 0) }, 0);
    let (x, labels) = take(&mut loader, 1).remove(0);
    let mut flipped = [0; 2];
    for (image, label) in x.chunks_exact(12).zip(labels) {
        let from = |order: [usize; 12]| order.map(|j| (100 * label as usize + j) as f32);
        let plain = from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        let mirrored = from([4, 5, 2, 3, 0, 1, 10, 11, 8, 9, 6, 7]);
        assert!(image == plain || image == mirrored, "{image:?}");
        flipped[usize::from(image == mirrored)] += 1;
    }
    assert!(flipped[0] > 30 && flipped[1] > 30, "{flipped:?}");
}

#[test]
fn an_error_in_the_thread_reaches_the_caller_in_its_place_and_the_batch_can_be_tried_again() {
    for prefetch in [0, 2] {
        let expected = take(&mut loader(Counting::new(10, &[1]), config(4, 0), 0), 5);
        let set = Counting::new(10, &[1]);
        *set.fails.lock().unwrap() = Some(2);
        let mut loader = loader(set, config(4, prefetch), 0);
        assert_eq!(take(&mut loader, 2), expected[..2]);
        let error = loader.next_batch().unwrap_err().to_string();
        assert!(error.contains("cannot read row.png"), "{error}");
        assert_eq!(loader.cursor(), Cursor { position: 8 });
        assert_eq!(take(&mut loader, 3), expected[2..]);
    }
}

#[test]
#[should_panic(expected = "the disk is on fire")]
fn a_panic_in_the_thread_reaches_the_caller() {
    let set = Counting::new(10, &[1]);
    set.panics.store(true, Ordering::SeqCst);
    let _: Result<_, _> = loader(set, config(4, 2), 0).next_batch();
}

#[test]
fn prefetching_is_bounded_and_ends_when_the_loader_is_dropped() {
    let set = Counting::new(10, &[1]);
    let made = set.made.clone();
    let mut loader = loader(set, config(2, 3), 0);
    take(&mut loader, 1);
    // The thread holds three in the channel and one in its hand; give it time to make too many.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let ahead = made.load(Ordering::SeqCst);
    assert!((2..=5).contains(&ahead), "{ahead} batches made");
    drop(loader);
    let after = made.load(Ordering::SeqCst);
    // The data set is gone with the thread: nobody else holds the counter.
    assert_eq!(Arc::strong_count(&made), 1);
    assert!(after <= 6, "{after} batches made");
}

#[test]
fn unlimited_sets_never_repeat_a_row() {
    let moons = DataConfig::with_defaults("moons").unwrap();
    let DataConfig::Moons(inner) = &moons else { panic!() };
    let small = DataConfig::Moons(crate::sets::Moons { len: 10, ..inner.clone() });
    let mut loader = Loader::new(small.open("".as_ref()).unwrap(), config(16, 1), Cursor::default()).unwrap();
    let mut seen = std::collections::HashSet::new();
    for batch in loader.by_ref().take(4) {
        for point in batch.unwrap().x.to_vec::<f32>().chunks_exact(2) {
            assert!(seen.insert([point[0].to_bits(), point[1].to_bits()]));
        }
    }
    assert_eq!(loader.epoch(), 6.4);
}

#[test]
fn impossible_configurations_are_errors() {
    let error = |set: Counting, config: LoaderConfig| {
        Loader::new(Arc::new(set) as Arc<dyn Dataset>, config, Cursor::default()).err().expect("an error").to_string()
    };
    assert_eq!(error(Counting::new(1, &[1]), config(0, 1)), "batch is 0, expected at least 1");
    let flip = error(Counting::new(1, &[2]), LoaderConfig { flip: true, ..config(1, 1) });
    assert!(flip.contains("flip is true for samples of shape [2]"), "{flip}");
    assert!(error(Counting::new(0, &[1]), config(1, 1)).contains("empty"));
}

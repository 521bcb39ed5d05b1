//! Batches in a keyed order, prefetched, resumable.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use crate::dataset::{Batch, Dataset};
use crate::draws::Draws;
use crate::error::DataError;
use crate::order::Order;
use fokker_tensor::Tensor;
use fokker_tensor::noise::stream;

/// How a data set is loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderConfig {
    /// Samples in a batch.
    pub batch: usize,
    /// The seed of the order and of the flips.
    pub seed: u64,
    /// Whether each epoch goes through the rows in its own order; otherwise as they are. Unlimited sets are read on
    /// and on either way, no row twice.
    pub shuffle: bool,
    /// Whether each image is mirrored left to right with probability ½, anew in each epoch.
    pub flip: bool,
    /// How many batches a background thread makes ahead; 0 makes them on the caller's thread.
    pub prefetch: usize,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        LoaderConfig { batch: 64, seed: 0, shuffle: true, flip: false, prefetch: 2 }
    }
}

/// Where a loader stands; all there is to save for resuming it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Samples handed out so far.
    pub position: u64,
}

/// An endless sequence of batches.
///
/// Batch `k` holds the samples at positions `k·batch … (k + 1)·batch − 1` of an endless pass over the data: its
/// content is a pure function of the data set, the configuration and `k`. Batches are always full: one may hold the
/// last rows of an epoch and the first of the next, so that no row is dropped. The bits are the same with and without
/// the background thread, and for a loader made at another's [`cursor`](Loader::cursor).
///
/// ```
/// use fokker_data::{Cursor, DataConfig, Loader, LoaderConfig};
///
/// let moons = || DataConfig::with_defaults("moons")?.open(".".as_ref());
/// let config = LoaderConfig { batch: 128, ..LoaderConfig::default() };
/// let mut loader = Loader::new(moons()?, config.clone(), Cursor::default())?;
/// loader.next_batch()?;
/// let mut resumed = Loader::new(moons()?, config, loader.cursor())?;
/// let (a, b) = (loader.next_batch()?, resumed.next_batch()?);
/// assert_eq!(a.x.shape(), [128, 2]);
/// assert_eq!(a.x.as_slice::<f32>(), b.x.as_slice::<f32>());
/// # Ok::<(), fokker_data::DataError>(())
/// ```
pub struct Loader {
    dataset: Arc<dyn Dataset>,
    config: LoaderConfig,
    cursor: Cursor,
    maker: Maker,
}

/// Who makes the next batch.
enum Maker {
    /// The caller's thread.
    Here(Order),
    /// A background thread, started when the first batch is asked for.
    Thread(Option<Worker>),
}

impl Loader {
    /// A loader that starts at `cursor` ([`Cursor::default`] for the beginning).
    ///
    /// # Errors
    /// When `batch` is 0, when flips are asked for samples that are not images `[H, W, C]`, or when the set is empty.
    pub fn new(dataset: impl Into<Arc<dyn Dataset>>, config: LoaderConfig, cursor: Cursor) -> Result<Loader, DataError> {
        let dataset = dataset.into();
        if config.batch == 0 {
            return Err(DataError::config("batch", 0, "at least 1"));
        }
        if config.flip && dataset.sample_shape().len() != 3 {
            let found = format!("true for samples of shape {:?}", dataset.sample_shape());
            return Err(DataError::config("flip", found, "false, as only images [H, W, C] can be flipped"));
        }
        if dataset.is_empty() {
            return Err(DataError::config("the data set", "empty", "at least one sample"));
        }
        let maker = if config.prefetch == 0 { Maker::Here(order(&*dataset, &config)) } else { Maker::Thread(None) };
        Ok(Loader { dataset, config, cursor, maker })
    }

    /// The next batch, `x` `[batch, ...]`; waits for the background thread where there is one.
    ///
    /// # Errors
    /// When the data set cannot read a row. The cursor then stays, and the next call tries that batch again.
    ///
    /// # Panics
    /// With the background thread's message, if the data set panicked there.
    pub fn next_batch(&mut self) -> Result<Batch, DataError> {
        let batch = match &mut self.maker {
            Maker::Here(order) => make(&*self.dataset, &self.config, order, self.cursor.position),
            Maker::Thread(worker) => {
                let running =
                    worker.get_or_insert_with(|| Worker::start(self.dataset.clone(), self.config.clone(), self.cursor.position));
                match running.batches.recv() {
                    Ok(Ok(batch)) => Ok(batch),
                    Ok(Err(error)) => {
                        *worker = None;
                        Err(error)
                    }
                    // The thread ends before its channel only by a panic.
                    Err(_) => {
                        let panicked = worker.take().and_then(|worker| worker.join().err());
                        std::panic::resume_unwind(panicked.expect("a thread that sends on ends by a panic"));
                    }
                }
            }
        }?;
        self.cursor.position += self.config.batch as u64;
        Ok(batch)
    }

    /// Where the loader stands: what [`Loader::new`] needs to go on from here. Batches made ahead do not count.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Passes over the data so far; the fraction is that of the current one.
    pub fn epoch(&self) -> f64 {
        self.cursor.position as f64 / self.dataset.len() as f64
    }

    /// The data set.
    pub fn dataset(&self) -> &dyn Dataset {
        &*self.dataset
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    /// [`Loader::next_batch`]; never `None`.
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_batch())
    }
}

/// The background thread. Dropping it ends the thread: at once if it waits, after the batch it is making otherwise.
struct Worker {
    batches: Receiver<Result<Batch, DataError>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(dataset: Arc<dyn Dataset>, config: LoaderConfig, position: u64) -> Worker {
        let (sender, batches) = sync_channel(config.prefetch);
        // A pool of its own: with the global one, a caller that waits for a batch on the pool's only thread would wait for ever
        // for work that a data set hands to that thread.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "fokker-loader".to_owned()).build();
        let pool = pool.expect("the system has room for one more thread");
        let body = move || pool.install(|| run(&*dataset, &config, position, &sender));
        let thread = std::thread::Builder::new().name("fokker-loader".to_owned()).spawn(body);
        Worker { batches, thread: Some(thread.expect("the system has room for one more thread")) }
    }

    /// Waits for the thread, with what it panicked with.
    fn join(mut self) -> std::thread::Result<()> {
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A send fails once the receiver is gone, which is what ends the thread.
        let (_, nothing) = sync_channel(0);
        drop(std::mem::replace(&mut self.batches, nothing));
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported on its own, and dropping must not panic.
            let _ = thread.join();
        }
    }
}

/// The thread's work: batches from `position` on, until one fails or nobody takes them.
fn run(dataset: &dyn Dataset, config: &LoaderConfig, position: u64, sender: &SyncSender<Result<Batch, DataError>>) {
    let mut order = order(dataset, config);
    for position in (position..).step_by(config.batch) {
        let batch = make(dataset, config, &mut order, position);
        let failed = batch.is_err();
        if sender.send(batch).is_err() || failed {
            return;
        }
    }
}

fn order(dataset: &dyn Dataset, config: &LoaderConfig) -> Order {
    Order::new(dataset.len(), dataset.is_unlimited(), config.shuffle, config.seed)
}

/// The batch that starts at `position`.
fn make(dataset: &dyn Dataset, config: &LoaderConfig, order: &mut Order, position: u64) -> Result<Batch, DataError> {
    let positions = position..position + config.batch as u64;
    let rows: Vec<usize> = positions.clone().map(|position| order.row(position)).collect();
    let batch = dataset.batch(&rows)?;
    if !config.flip {
        return Ok(batch);
    }
    let flipped = |position| Draws::new(config.seed, stream("flip"), position).below(2) == 1;
    let x = flip(batch.x, &positions.map(flipped).collect::<Vec<_>>());
    Ok(Batch { x, labels: batch.labels })
}

/// Images `[B, H, W, C]` with those that are marked mirrored left to right.
fn flip(images: Tensor, marked: &[bool]) -> Tensor {
    let &[_, height, width, channels] = images.shape() else {
        panic!("images to flip have shape [B, H, W, C], not {:?}", images.shape());
    };
    let shape = images.shape().to_vec();
    let mut x = images.into_vec::<f32>();
    let size = height * width * channels;
    for (image, _) in x.chunks_exact_mut(size).zip(marked).filter(|&(_, &marked)| marked) {
        for row in image.chunks_exact_mut(width * channels) {
            for left in 0..width / 2 {
                for c in 0..channels {
                    row.swap(left * channels + c, (width - 1 - left) * channels + c);
                }
            }
        }
    }
    Tensor::from_vec(&shape, x)
}

#[cfg(test)]
mod tests;

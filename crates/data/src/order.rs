//! The order in which rows are visited.

use fokker_tensor::noise::stream;

use crate::draws::Draws;

/// The row at each position of an endless pass over a data set: epoch after epoch, each in its own order.
///
/// Epoch `e` is a Fisher–Yates shuffle of all rows with numbers keyed by `(seed, e)`, so every row comes once in each
/// epoch and any position can be asked for at once.
#[derive(Debug)]
pub(crate) struct Order {
    len: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Rows are drawn anew anyway: position is row, and none comes twice.
    Unlimited,
    Sequential,
    Shuffled {
        seed: u64,
        /// The epoch made last, and its order.
        cached: Option<(u64, Vec<usize>)>,
    },
}

impl Order {
    pub(crate) fn new(len: usize, unlimited: bool, shuffle: bool, seed: u64) -> Order {
        let kind = match (unlimited, shuffle) {
            (true, _) => Kind::Unlimited,
            (false, false) => Kind::Sequential,
            (false, true) => Kind::Shuffled { seed, cached: None },
        };
        Order { len, kind }
    }

    /// The row at `position`, counted in samples from the start of training.
    pub(crate) fn row(&mut self, position: u64) -> usize {
        let len = self.len as u64;
        match &mut self.kind {
            Kind::Unlimited => position as usize,
            Kind::Sequential => (position % len) as usize,
            Kind::Shuffled { seed, cached } => {
                let (epoch, index) = (position / len, (position % len) as usize);
                if cached.as_ref().is_none_or(|(made, _)| *made != epoch) {
                    *cached = Some((epoch, permutation(*seed, epoch, self.len)));
                }
                cached.as_ref().expect("made just now").1[index]
            }
        }
    }
}

fn permutation(seed: u64, epoch: u64, len: usize) -> Vec<usize> {
    let mut draws = Draws::new(seed, stream("order"), epoch);
    let mut rows: Vec<usize> = (0..len).collect();
    for i in (1..len).rev() {
        rows.swap(i, draws.below(i + 1));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_epoch_visits_every_row_once(seed: u64, len in 1_usize..200, epoch in 0_u64..5) {
            let mut order = Order::new(len, false, true, seed);
            let mut rows: Vec<usize> = (0..len as u64).map(|i| order.row(epoch * len as u64 + i)).collect();
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..len).collect::<Vec<_>>());
        }

        #[test]
        fn a_position_has_one_row_whatever_was_asked_before(seed: u64, positions in prop::collection::vec(0_u64..90, 1..20)) {
            let mut asked = Order::new(30, false, true, seed);
            for position in positions {
                prop_assert_eq!(asked.row(position), Order::new(30, false, true, seed).row(position));
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let rows = |seed: u64, epoch: u64| permutation(seed, epoch, 100);
        assert_ne!(rows(1, 0), rows(1, 1));
        assert_ne!(rows(1, 0), rows(2, 0));
        assert_ne!(rows(1, 0), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn all_orders_of_three_rows_are_equally_likely() {
        let mut counts = std::collections::HashMap::new();
        for epoch in 0..6000 {
            *counts.entry(permutation(9, epoch, 3)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        // The standard deviation of each count is 29.
        assert!(counts.values().all(|&n: &i32| (n - 1000).abs() < 150), "{counts:?}");
    }

    #[test]
    fn unlimited_and_sequential_sets_go_in_order() {
        assert_eq!(Order::new(10, true, true, 1).row(1 << 40), 1 << 40);
        assert_eq!(Order::new(10, false, false, 1).row(23), 3);
    }
}

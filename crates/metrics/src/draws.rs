//! Keyed draws of rows: every permutation and subset is a function of (seed, stream, number).

use fokker_tensor::Noise;
use ndarray_rand::rand::RngCore;

/// The stream of a metric's random numbers: the first eight bytes of its name.
pub(crate) const fn stream(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut key = 0;
    let mut i = 0;
    while i < 8 {
        key = (key << 8) | if i < bytes.len() { bytes[i] as u64 } else { 0 };
        i += 1;
    }
    key
}

/// `count` different numbers of `0..n` in random order, the draw of this number: the first steps of a Fisher–Yates shuffle.
pub(crate) fn subset(noise: Noise, number: u64, n: usize, count: usize) -> Vec<usize> {
    assert!(count <= n, "{count} of {n} rows");
    let mut rng = noise.rng(number, 0);
    let mut all: Vec<usize> = (0..n).collect();
    for i in 0..count {
        // The high half of a 64×64-bit product: its bias is below n / 2^64.
        let below = ((u128::from(rng.next_u64()) * (n - i) as u128) >> 64) as usize;
        all.swap(i, i + below);
    }
    all.truncate(count);
    all
}

/// All of `0..n` in random order.
pub(crate) fn permutation(noise: Noise, number: u64, n: usize) -> Vec<usize> {
    subset(noise, number, n, n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_have_no_repeats_and_every_row_is_as_likely() {
        let mut counts = [0.0; 10];
        let draws = 20_000;
        for number in 0..draws {
            let mut drawn = subset(Noise::new(1, 2), number, 10, 3);
            drawn.iter().for_each(|&i| counts[i] += 1.0);
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn.len(), 3);
        }
        let (expected, error) = (0.3 * draws as f64, (draws as f64 * 0.21).sqrt());
        assert!(counts.iter().all(|c| (c - expected).abs() < 5.0 * error), "{counts:?}");
        assert_eq!(subset(Noise::new(1, 2), 0, 10, 3), subset(Noise::new(1, 2), 0, 10, 10)[..3]);
    }
}

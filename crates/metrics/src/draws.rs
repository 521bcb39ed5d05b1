//! Keyed draws of rows: every permutation and subset is a function of (seed, stream, number).

use fokker_tensor::Noise;

/// `count` different numbers of `0..n` in random order, the draw of this number: the first steps of a Fisher–Yates shuffle.
pub(crate) fn subset(noise: Noise, number: u64, n: usize, count: usize) -> Vec<usize> {
    assert!(count <= n, "{count} of {n} rows");
    let mut rng = noise.rng(number, 0);
    let mut all: Vec<usize> = (0..n).collect();
    for i in 0..count {
        all.swap(i, i + rng.below(n - i));
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

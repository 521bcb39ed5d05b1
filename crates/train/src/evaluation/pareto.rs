//! Pareto optimality.
//!
//! ```text
//! a dominates b:  a_i ≤ b_i for all i, and a_i < b_i for one      (every objective is to be small)
//! ```

/// Which points are dominated by no other. A point without a value, or with one that is no number, is never optimal and dominates nothing;
/// equal points are optimal together.
pub fn pareto<const K: usize>(points: &[Option<[f64; K]>]) -> Vec<bool> {
    let valid = |point: &Option<[f64; K]>| point.filter(|p| p.iter().all(|v| !v.is_nan()));
    let dominates = |a: &[f64; K], b: &[f64; K]| a.iter().zip(b).all(|(a, b)| a <= b) && a != b;
    let all: Vec<[f64; K]> = points.iter().filter_map(valid).collect();
    points.iter().map(|point| valid(point).is_some_and(|b| !all.iter().any(|a| dominates(a, &b)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_optimal_unless_another_is_nowhere_worse_and_somewhere_better() {
        let points = [[1.0, 5.0], [2.0, 3.0], [2.0, 4.0], [4.0, 1.0], [4.0, 1.0], [5.0, 0.5], [3.0, 3.0]];
        let found = pareto(&points.map(Some));
        assert_eq!(found, [true, true, false, true, true, true, false]);
    }

    #[test]
    fn three_objectives_keep_what_is_best_in_any() {
        let points = [Some([1.0, 9.0, 9.0]), Some([9.0, 1.0, 9.0]), Some([9.0, 9.0, 1.0]), Some([9.0, 9.0, 9.0]), None];
        assert_eq!(pareto(&points), [true, true, true, false, false]);
    }

    #[test]
    fn what_is_no_number_is_not_optimal_and_hides_nothing() {
        assert_eq!(pareto(&[Some([f64::NAN, 0.0]), Some([1.0, 1.0])]), [false, true]);
        assert_eq!(pareto::<2>(&[]), [false; 0]);
    }
}

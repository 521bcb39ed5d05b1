//! Weights of exponential multistep methods of any order, from moments and a small linear system in `f64`.
//!
//! With time `ρ` from 0 to 1 during a step and a polynomial `D` through the nodes `(ρ_j, D_j)`,
//!
//! ```text
//! ∫₀¹ K e^(−K(1−ρ)) D(ρ) dρ = Σ_j b_j D_j        Σ_j b_j ρ_j^n = m_n = ∫₀¹ K e^(−K(1−ρ)) ρ^n dρ
//! m_0 = 1 − e^(−K)        m_n = 1 − (n/K) m_{n−1}
//! ```
//!
//! The recurrence loses digits where `K` is small; there `m_n = K Σ_j (−K)^j n!/(n+j+1)!`.

/// `b_j` for the distinct nodes `ρ_j`, as many as the order.
pub(super) fn weights(nodes: &[f64], k: f64) -> Vec<f64> {
    let order = nodes.len();
    let mut rows: Vec<Vec<f64>> =
        (0..order).map(|n| nodes.iter().map(|r| r.powi(n as i32)).chain([moment(n, k)]).collect()).collect();
    for i in 0..order {
        let pivot = (i..order).max_by(|&a, &b| rows[a][i].abs().total_cmp(&rows[b][i].abs())).expect("a row is left");
        rows.swap(i, pivot);
        let chosen = rows[i].clone();
        for (j, row) in rows.iter_mut().enumerate() {
            if j != i {
                let factor = row[i] / chosen[i];
                row.iter_mut().zip(&chosen).for_each(|(x, p)| *x -= factor * p);
            }
        }
    }
    (0..order).map(|i| rows[i][order] / rows[i][i]).collect()
}

fn moment(n: usize, k: f64) -> f64 {
    if k > 2.0 {
        return (1..=n).fold(-(-k).exp_m1(), |before, n| 1.0 - n as f64 / k * before);
    }
    // The first term is k n!/(n+1)!.
    let mut term = k / (n + 1) as f64;
    let mut sum = 0.0;
    for j in 1..60 {
        sum += term;
        term *= -k / (n + j + 1) as f64;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_agree_with_quadrature_for_short_and_long_steps() {
        for k in [1e-6, 0.3, 1.99, 2.01, 9.0, 40.0] {
            for n in 0..5 {
                // Simpson's rule with 20 000 intervals.
                let f = |r: f64| k * (-k * (1.0 - r)).exp() * r.powi(n);
                let h = 1.0 / 20_000.0;
                let sum: f64 = (0..10_000)
                    .map(|i| {
                        f(2.0 * f64::from(i) * h) + 4.0 * f((2.0 * f64::from(i) + 1.0) * h) + f((2.0 * f64::from(i) + 2.0) * h)
                    })
                    .sum();
                let expected = sum * h / 3.0;
                let found = moment(n as usize, k);
                assert!((found / expected - 1.0).abs() < 1e-9, "m_{n} at K = {k}: {found} and {expected}");
            }
        }
        assert_eq!(moment(0, f64::INFINITY), 1.0);
    }

    #[test]
    fn weights_integrate_polynomials_exactly() {
        let nodes = [0.0, -0.7, -1.9, 1.0];
        for k in [0.01, 1.0, 5.0] {
            for order in 1..=4 {
                let weights = weights(&nodes[..order], k);
                for n in 0..order {
                    let sum: f64 = weights.iter().zip(nodes).map(|(b, r)| b * r.powi(n as i32)).sum();
                    assert!((sum - moment(n, k)).abs() < 1e-12, "order {order}, degree {n}, K = {k}");
                }
            }
        }
    }
}

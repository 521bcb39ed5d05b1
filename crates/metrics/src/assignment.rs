//! The assignment problem: which column belongs to which row, so that the costs sum to the least.
//!
//! ```text
//! min_π Σ_i C[i, π(i)]  =  max_{u, v} Σ_i u_i + Σ_j v_j     subject to  u_i + v_j ≤ C[i, j]
//! ```
//!
//! Shortest augmenting paths (Jonker & Volgenant 1987, "A shortest augmenting path algorithm for dense and sparse linear assignment
//! problems"): prices `u`, `v` from the minima of rows and columns, a greedy assignment along edges where `u_i + v_j = C`, then for each row
//! that is left a shortest path by reduced costs `C − u − v ≥ 0` to a free column, Dijkstra's algorithm on a dense graph, after which the
//! prices are raised so that they stay feasible. `O(n³)`, typically far less.

/// An optimal assignment with the prices that prove it.
pub(crate) struct Assignment {
    /// The column of each row.
    pub(crate) columns: Vec<usize>,
    /// `u`, of rows.
    pub(crate) row_prices: Vec<f64>,
    /// `v`, of columns.
    pub(crate) column_prices: Vec<f64>,
}

const NONE: usize = usize::MAX;

/// Solves the problem for finite costs `[n, n]`.
pub(crate) fn assign(cost: &[f64], n: usize) -> Assignment {
    assert_eq!(cost.len(), n * n, "a square of costs");
    let mut problem = Problem::start(cost, n);
    for row in 0..n {
        if problem.column_of[row] == NONE {
            problem.augment(row);
        }
    }
    Assignment { columns: problem.column_of, row_prices: problem.u, column_prices: problem.v }
}

struct Problem<'a> {
    cost: &'a [f64],
    n: usize,
    u: Vec<f64>,
    v: Vec<f64>,
    column_of: Vec<usize>,
    row_of: Vec<usize>,
    /// The length of the shortest path to each column, the row before it, and whether it is final.
    length: Vec<f64>,
    before: Vec<usize>,
    open: Vec<usize>,
}

impl<'a> Problem<'a> {
    fn start(cost: &'a [f64], n: usize) -> Self {
        let rows = || cost.chunks_exact(n);
        let mut v = vec![f64::INFINITY; n];
        for row in rows() {
            v.iter_mut().zip(row).for_each(|(v, &c)| *v = v.min(c));
        }
        let (mut u, mut column_of, mut row_of) = (vec![0.0; n], vec![NONE; n], vec![NONE; n]);
        for (i, row) in rows().enumerate() {
            let mut least = (f64::INFINITY, NONE);
            for (j, (&c, &v)) in row.iter().zip(&v).enumerate() {
                if c - v < least.0 {
                    least = (c - v, j);
                }
            }
            u[i] = least.0;
            if row_of[least.1] == NONE {
                row_of[least.1] = i;
                column_of[i] = least.1;
            }
        }
        Problem { cost, n, u, v, column_of, row_of, length: vec![0.0; n], before: vec![NONE; n], open: Vec::with_capacity(n) }
    }

    /// Assigns a free row, along the shortest path to a free column.
    fn augment(&mut self, start: usize) {
        let n = self.n;
        self.length.fill(f64::INFINITY);
        self.open.clear();
        self.open.extend(0..n);
        let mut done = Vec::new();
        let (mut row, mut reached) = (start, 0.0);
        let end = loop {
            let costs = &self.cost[row * n..(row + 1) * n];
            let base = reached - self.u[row];
            let mut least = (f64::INFINITY, NONE);
            for (at, &j) in self.open.iter().enumerate() {
                let through = base + costs[j] - self.v[j];
                if through < self.length[j] {
                    self.length[j] = through;
                    self.before[j] = row;
                }
                // Of equal paths one that ends.
                let length = self.length[j];
                if length < least.0 || (length == least.0 && self.row_of[j] == NONE) {
                    least = (length, at);
                }
            }
            let column = self.open.swap_remove(least.1);
            reached = least.0;
            if self.row_of[column] == NONE {
                break column;
            }
            done.push(column);
            row = self.row_of[column];
        };
        // Prices: every row and column within reach by what its path is shorter than the one taken.
        self.u[start] += reached;
        for &column in &done {
            let shorter = reached - self.length[column];
            self.v[column] -= shorter;
            self.u[self.row_of[column]] += shorter;
        }
        let mut column = end;
        loop {
            let row = self.before[column];
            self.row_of[column] = row;
            std::mem::swap(&mut self.column_of[row], &mut column);
            if row == start {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    fn total(cost: &[f64], n: usize, columns: &[usize]) -> f64 {
        columns.iter().enumerate().map(|(i, &j)| cost[i * n + j]).sum()
    }

    /// The least over all permutations.
    fn exhaustively(cost: &[f64], n: usize, columns: &mut Vec<usize>) -> f64 {
        if columns.len() == n {
            return total(cost, n, columns);
        }
        let mut least = f64::INFINITY;
        for j in (0..n).filter(|j| !columns.contains(j)).collect::<Vec<_>>() {
            columns.push(j);
            least = least.min(exhaustively(cost, n, columns));
            columns.pop();
        }
        least
    }

    #[test]
    fn small_problems_are_solved_as_by_trying_all() {
        for seed in 0..60 {
            let n = 1 + seed as usize % 7;
            // Half of the problems have many equal costs.
            let cost: Vec<f64> = normal(n, n, seed)
                .to_vec::<f64>()
                .into_iter()
                .map(|c| if seed % 2 == 0 { c } else { (2.0 * c).round() })
                .collect();
            let found = assign(&cost, n);
            let expected = exhaustively(&cost, n, &mut Vec::new());
            assert!((total(&cost, n, &found.columns) - expected).abs() < 1e-12, "seed {seed}");
        }
    }

    #[test]
    fn prices_prove_that_a_large_solution_is_the_best() {
        let n = 400;
        let (x, y) = (normal(n, 2, 1).to_vec::<f64>(), normal(n, 2, 2).to_vec::<f64>());
        let cost: Vec<f64> = (0..n * n).map(|k| (0..2).map(|c| (x[k / n * 2 + c] - y[k % n * 2 + c]).powi(2)).sum()).collect();
        let found = assign(&cost, n);
        let mut seen = vec![false; n];
        found.columns.iter().for_each(|&j| assert!(!std::mem::replace(&mut seen[j], true)));
        for i in 0..n {
            for j in 0..n {
                assert!(found.row_prices[i] + found.column_prices[j] <= cost[i * n + j] + 1e-12);
            }
        }
        let dual = found.row_prices.iter().sum::<f64>() + found.column_prices.iter().sum::<f64>();
        let primal = total(&cost, n, &found.columns);
        assert!((dual / primal - 1.0).abs() < 1e-12, "{primal} and {dual}");
    }
}

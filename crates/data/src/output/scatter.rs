//! Pictures of point sets: a smoothed density on a dark ground.

use super::picture::Picture;
use fokker_tensor::Tensor;

/// How points of the plane become a picture.
///
/// The picture is square and shows `[-half_width, half_width]²` around `centre`, with the second coordinate upwards.
/// Points are counted in pixels, the counts smoothed with a Gaussian and coloured by density. Points outside the square, or
/// not finite, are left out.
#[derive(Clone, Debug)]
pub struct Scatter {
    /// Pixels in a row and in a column; at least 2.
    pub side: usize,
    /// The middle of the picture.
    pub centre: [f64; 2],
    /// Half the width of the square shown.
    pub half_width: f64,
    /// Standard deviation of the smoothing in pixels; 0 leaves the plain counts.
    pub blur: f64,
    /// The smoothed count that gets the brightest colour; `None` for the picture's own
    /// [`brightest`](Scatter::brightest_of).
    pub brightest: Option<f64>,
}

impl Default for Scatter {
    /// 512 pixels over `[-2.5, 2.5]²`, which holds this crate's densities but for strays.
    fn default() -> Self {
        Scatter { side: 512, centre: [0.0, 0.0], half_width: 2.5, blur: 2.0, brightest: None }
    }
}

/// Anchor colours from nothing to dense, evenly spaced.
const COLOURS: [[f64; 3]; 7] = [
    [11.0, 11.0, 24.0],
    [44.0, 22.0, 88.0],
    [112.0, 32.0, 124.0],
    [190.0, 54.0, 110.0],
    [240.0, 104.0, 78.0],
    [252.0, 178.0, 96.0],
    [254.0, 246.0, 206.0],
];

impl Scatter {
    /// The default options, with a square that holds the points but for strays: in each coordinate the lowest and the highest
    /// hundredth decide nothing.
    ///
    /// # Panics
    /// When `points` is not `[N, 2]`.
    #[track_caller]
    pub fn fitted(points: &Tensor) -> Scatter {
        let xy = coordinates(points);
        let range = |axis: usize| {
            let mut values: Vec<f64> = xy.iter().skip(axis).step_by(2).copied().filter(|v| v.is_finite()).collect();
            values.sort_by(f64::total_cmp);
            match values.len() {
                0 => (-1.0, 1.0),
                n => (values[n / 100], values[n - 1 - n / 100]),
            }
        };
        let (x, y) = (range(0), range(1));
        let half_width = 0.6 * (x.1 - x.0).max(y.1 - y.0);
        Scatter {
            centre: [(x.0 + x.1) / 2.0, (y.0 + y.1) / 2.0],
            half_width: if half_width > 0.0 { half_width } else { 1.0 },
            ..Scatter::default()
        }
    }

    /// The default options, with a square around all finite points and a seventh of its width on either side.
    ///
    /// # Panics
    /// When `points` is not `[N, 2]`.
    #[track_caller]
    pub fn around(points: &Tensor) -> Scatter {
        let fitted = Scatter::fitted(points);
        let far = |(i, v): (usize, f64)| (v - fitted.centre[i % 2]).abs();
        let farthest = coordinates(points).into_iter().enumerate().map(far).filter(|d| d.is_finite()).fold(0.0, f64::max);
        Scatter { half_width: if farthest > 0.0 { 1.4 * farthest } else { 1.0 }, ..fitted }
    }

    /// The middles of `n × n` cells of the square, in rows from the top: `[n n, 2]` in `f64`.
    pub fn cells(&self, n: usize) -> Tensor {
        let at = |i: usize| ((2 * i + 1) as f64 / n as f64 - 1.0) * self.half_width;
        let xy = |i: usize| [self.centre[0] + at(i % n), self.centre[1] - at(i / n)];
        Tensor::from_vec(&[n * n, 2], (0..n * n).flat_map(xy).collect::<Vec<f64>>())
    }

    /// Two RGB pictures whose colours mean the same: of a density, whose values `[n, n]` are those of [`cells`](Self::cells), and of points
    /// `[N, 2]` drawn from it, or from another. `brightest` has no part in it.
    ///
    /// # Panics
    /// When the shapes are others, `side` is no multiple of `n`, or the options are out of range.
    #[track_caller]
    pub fn beside(&self, density: &Tensor, points: &Tensor) -> (Picture, Picture) {
        let &[n, columns] = density.shape() else { panic!("a density on a grid is [n, n], not {:?}", density.shape()) };
        assert!(n == columns && n > 0 && self.side.is_multiple_of(n), "a density {:?} for {} pixels", density.shape(), self.side);
        let values = density.to_vec::<f64>();
        let counts = self.density(&coordinates(points));
        // A smoothed count where the density is 1: points, times a pixel's area, times the weights' sum.
        let radius = (3.0 * self.blur).ceil() as i32;
        let weight = |k: i32| (-0.5 * (f64::from(k) / self.blur).powi(2)).exp();
        let weights = if self.blur == 0.0 { 1.0 } else { (-radius..=radius).map(weight).sum::<f64>() };
        let unit = points.dim(0) as f64 * (2.0 * self.half_width / self.side as f64).powi(2) * weights * weights;
        let most = values.iter().copied().fold(0.0, f64::max);
        let relative: Vec<f64> = values.iter().map(|v| v / most).collect();
        let brightest = most * high_percentile(&relative);
        let shade = |d: f64| colour((d / brightest).powf(0.6));
        let (scale, side) = (self.side / n, self.side);
        let learned = (0..side * side).flat_map(|i| shade(values[i / side / scale * n + i % side / scale])).collect();
        let data = counts.iter().flat_map(|&count| shade(count / unit)).collect();
        (Picture::new(side, side, 3, learned), Picture::new(side, side, 3, data))
    }

    /// An RGB picture of points `[N, 2]`.
    ///
    /// # Panics
    /// When `points` is not `[N, 2]`, or the options are out of range.
    #[track_caller]
    pub fn picture(&self, points: &Tensor) -> Picture {
        let density = self.density(&coordinates(points));
        let brightest = self.brightest.unwrap_or_else(|| high_percentile(&density));
        let pixels = density.iter().flat_map(|&d| colour((d / brightest).powf(0.6))).collect();
        Picture::new(self.side, self.side, 3, pixels)
    }

    /// The 99.5th percentile of the smoothed counts over the pixels that have any, so that one crowded pixel does not
    /// darken the rest. What several pictures share if their colours are to mean the same.
    ///
    /// # Panics
    /// As [`Scatter::picture`].
    #[track_caller]
    pub fn brightest_of(&self, points: &Tensor) -> f64 {
        high_percentile(&self.density(&coordinates(points)))
    }

    /// Smoothed counts, in rows from the top.
    #[track_caller]
    fn density(&self, xy: &[f64]) -> Vec<f64> {
        let side = self.side;
        assert!(side >= 2, "a scatter picture has at least 2 pixels a side, not {side}");
        assert!(self.half_width > 0.0 && self.half_width.is_finite(), "half_width is {}", self.half_width);
        assert!((0.0..=side as f64).contains(&self.blur), "blur is {}", self.blur);
        assert!(self.brightest.is_none_or(|d| d > 0.0), "brightest is {:?}", self.brightest);
        let mut counts = vec![0.0; side * side];
        for point in xy.chunks_exact(2) {
            let scale = side as f64 / (2.0 * self.half_width);
            let column = ((point[0] - self.centre[0] + self.half_width) * scale).floor();
            let row = ((self.centre[1] + self.half_width - point[1]) * scale).floor();
            // False for NaN, too.
            let inside = |v: f64| v >= 0.0 && v < side as f64;
            if inside(column) && inside(row) {
                counts[row as usize * side + column as usize] += 1.0;
            }
        }
        if self.blur == 0.0 {
            return counts;
        }
        let radius = (3.0 * self.blur).ceil() as usize;
        let weights: Vec<f64> = (0..=radius).map(|k| (-0.5 * (k as f64 / self.blur).powi(2)).exp()).collect();
        let across = blur_rows(&counts, side, &weights);
        transpose(&blur_rows(&transpose(&across, side), side, &weights), side)
    }
}

fn high_percentile(density: &[f64]) -> f64 {
    let mut inked: Vec<f64> = density.iter().copied().filter(|&d| d > 1e-3).collect();
    inked.sort_by(f64::total_cmp);
    if inked.is_empty() { 1.0 } else { inked[(inked.len() - 1) * 995 / 1000] }
}

/// The points' coordinates, `x, y` in turn.
#[track_caller]
fn coordinates(points: &Tensor) -> Vec<f64> {
    assert!(matches!(points.shape(), [_, 2]), "points have shape [N, 2], not {:?}", points.shape());
    points.to_vec::<f64>()
}

/// Each row convolved with the symmetric kernel whose right half is `weights`.
fn blur_rows(image: &[f64], side: usize, weights: &[f64]) -> Vec<f64> {
    let mut blurred = vec![0.0; image.len()];
    for (from, to) in image.chunks_exact(side).zip(blurred.chunks_exact_mut(side)) {
        for (i, &value) in from.iter().enumerate().filter(|&(_, &value)| value != 0.0) {
            to[i] += weights[0] * value;
            for (k, weight) in weights.iter().enumerate().skip(1) {
                if i >= k {
                    to[i - k] += weight * value;
                }
                if i + k < side {
                    to[i + k] += weight * value;
                }
            }
        }
    }
    blurred
}

fn transpose(image: &[f64], side: usize) -> Vec<f64> {
    (0..side * side).map(|i| image[i % side * side + i / side]).collect()
}

/// The colour of a density in `[0, 1]`, in 256 steps so that a GIF's palette holds them all.
fn colour(density: f64) -> [u8; 3] {
    let step = (density.clamp(0.0, 1.0) * 255.0).round() / 255.0;
    let position = step * (COLOURS.len() - 1) as f64;
    let low = (position.floor() as usize).min(COLOURS.len() - 2);
    let t = position - low as f64;
    std::array::from_fn(|c| (COLOURS[low][c] + t * (COLOURS[low + 1][c] - COLOURS[low][c])).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brightness(picture: &Picture, row: usize, column: usize) -> u32 {
        let at = (row * picture.width() + column) * 3;
        picture.pixels()[at..at + 3].iter().map(|&b| u32::from(b)).sum()
    }

    #[test]
    fn a_point_lights_its_own_pixel_with_the_second_coordinate_upwards() {
        let scatter = Scatter { side: 8, centre: [1.0, 0.0], half_width: 4.0, blur: 0.0, brightest: None };
        let points = Tensor::from_vec(&[3, 2], vec![-1.5_f32, 2.5, 90.0, 0.0, f32::NAN, 0.0]);
        let picture = scatter.picture(&points);
        let dark = brightness(&picture, 0, 0);
        for row in 0..8 {
            for column in 0..8 {
                let lit = brightness(&picture, row, column) > dark;
                assert_eq!(lit, (row, column) == (1, 1), "row {row} column {column}");
            }
        }
    }

    #[test]
    fn smoothing_is_symmetric_and_denser_is_brighter() {
        let scatter = Scatter { side: 33, half_width: 1.0, blur: 2.0, ..Scatter::default() };
        let picture = scatter.picture(&Tensor::from_vec(&[1, 2], vec![0.0_f64, 0.0]));
        let at = |row, column| brightness(&picture, row, column);
        assert_eq!(at(16, 13), at(16, 19));
        assert_eq!(at(13, 16), at(16, 13));
        assert!(at(16, 16) > at(16, 13) && at(16, 13) > at(16, 11) && at(16, 11) > at(0, 0));
    }

    #[test]
    fn the_fitted_square_holds_the_points() {
        let points = Tensor::from_vec(&[4, 2], vec![10.0_f64, 0.0, 14.0, 1.0, 11.0, -1.0, 12.0, 0.0]);
        let scatter = Scatter::fitted(&points);
        assert_eq!(scatter.centre, [12.0, 0.0]);
        assert!((scatter.half_width - 2.4).abs() < 1e-12);
    }

    #[test]
    fn pictures_with_one_brightest_count_share_their_colours() {
        let scatter = Scatter { side: 8, half_width: 4.0, blur: 0.0, brightest: Some(4.0), ..Scatter::default() };
        let of = |n: usize| scatter.picture(&Tensor::from_vec(&[n, 2], vec![0.5_f64; 2 * n]));
        let at = |n| brightness(&of(n), 3, 4);
        assert!(at(0) < at(1) && at(1) < at(2) && at(2) < at(4) && at(4) == at(9));
        assert_eq!(scatter.brightest_of(&Tensor::from_vec(&[3, 2], vec![0.5_f64; 6])), 3.0);
    }

    #[test]
    fn a_density_and_points_drawn_from_it_have_the_same_colours() {
        // Points on a fine lattice with the density of a plane that rises from left to right.
        let scatter = Scatter { side: 60, centre: [1.0, 2.0], half_width: 3.0, blur: 3.0, brightest: None };
        let cells = scatter.cells(20).to_vec::<f64>();
        let rising: Vec<f64> = cells.chunks(2).map(|p| (p[0] + 2.0) / 3.0 / 36.0).collect();
        assert!((rising.iter().sum::<f64>() * 0.09 - 1.0).abs() < 1e-12);
        let lattice: Vec<f64> = (0..400 * 400)
            .flat_map(|i| {
                // The inverse of the distribution function ((x + 2)/6)².
                let [u, v] = [i % 400, i / 400].map(|k| (f64::from(k) + 0.5) / 400.0);
                [6.0 * u.sqrt() - 2.0, 6.0 * v - 1.0]
            })
            .collect();
        let (learned, data) = scatter.beside(&Tensor::from_vec(&[20, 20], rising), &Tensor::from_vec(&[160_000, 2], lattice));
        for (row, column) in [(30, 15), (30, 31), (20, 45), (40, 49)] {
            let (a, b) = (brightness(&learned, row, column), brightness(&data, row, column));
            assert!(a.abs_diff(b) < 40, "row {row} column {column}: {a} and {b}");
        }
        assert!(brightness(&learned, 30, 5) + 100 < brightness(&learned, 30, 50));
        // The first cell is at the top left.
        assert!((cells[0] + 1.85).abs() < 1e-12 && (cells[1] - 4.85).abs() < 1e-12, "{:?}", &cells[..2]);
    }

    #[test]
    fn a_square_around_points_holds_all_of_them() {
        let mut xy = vec![0.0_f64; 400];
        xy[7] = 5.0;
        let scatter = Scatter::around(&Tensor::from_vec(&[200, 2], xy));
        assert!(scatter.half_width > 5.0 && Scatter::fitted(&Tensor::from_vec(&[1, 2], vec![0.0, 0.0])).half_width == 1.0);
    }

    #[test]
    fn no_points_make_a_dark_picture() {
        let picture = Scatter::default().picture(&Tensor::from_vec(&[0, 2], Vec::<f32>::new()));
        assert!(picture.pixels().chunks_exact(3).all(|p| p == &picture.pixels()[..3]));
    }
}

//! Histograms of likelihoods as SVG, one upon the other: how much of a set each bin has, and its mean with its interval.

use std::fmt::Write as _;

use fokker_train::evaluation::Likelihoods;

use crate::chart::{COLOURS, Scale, short};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
/// Left, right, top and bottom of the plot in the picture.
const FRAME: [f64; 4] = [56.0, 704.0, 30.0, 250.0];

/// Beyond so many quartile distances from the middle half values are counted in the last bins.
const REACH: f64 = 4.0;

/// Equal bins.
struct Bins {
    low: f64,
    width: f64,
    count: usize,
}

impl Bins {
    /// That hold the pooled values but for strays, as wide as Freedman & Diaconis (1981) say for the smallest of the sets.
    fn of(sets: &[Vec<f64>]) -> Bins {
        let mut all: Vec<f64> = sets.iter().flatten().copied().filter(|v| v.is_finite()).collect();
        all.sort_by(f64::total_cmp);
        let (Some(&first), Some(&last)) = (all.first(), all.last()) else { return Bins { low: 0.0, width: 1.0, count: 1 } };
        let quartile = |k: usize| all[(all.len() - 1) * k / 4];
        let middle = quartile(3) - quartile(1);
        let (low, high) = (first.max(quartile(1) - REACH * middle), last.min(quartile(3) + REACH * middle));
        if high <= low {
            let half = 0.5 * low.abs().max(1e-3);
            return Bins { low: low - half, width: 2.0 * half / 9.0, count: 9 };
        }
        let least = sets.iter().map(Vec::len).filter(|n| *n > 0).min().unwrap_or(1) as f64;
        let wanted = (high - low) / (2.0 * middle * least.powf(-1.0 / 3.0)).max(1e-9 * (high - low));
        let count = (wanted.ceil() as usize).clamp(6, 60);
        Bins { low, width: (high - low) / count as f64, count }
    }

    fn high(&self) -> f64 {
        self.low + self.width * self.count as f64
    }

    /// The share of a set's values in each bin; what is beyond is in the last ones.
    fn shares(&self, values: &[f64]) -> Vec<f64> {
        let mut shares = vec![0.0; self.count];
        for v in values {
            let bin = ((v - self.low) / self.width).floor().clamp(0.0, (self.count - 1) as f64);
            shares[bin as usize] += 1.0 / values.len() as f64;
        }
        shares
    }

    /// How many are beyond.
    fn beyond(&self, values: &[f64]) -> usize {
        let slack = 1e-9 * self.width;
        values.iter().filter(|v| **v < self.low - slack || **v > self.high() + slack).count()
    }
}

/// The picture of sets in one unit, and how many values are beyond its ends.
pub(crate) fn svg(sets: &[&Likelihoods]) -> (String, usize) {
    let values: Vec<Vec<f64>> = sets.iter().map(|set| set.values.iter().map(|nats| set.in_unit(*nats)).collect()).collect();
    let bins = Bins::of(&values);
    let beyond = values.iter().map(|values| bins.beyond(values)).sum();
    let shares: Vec<Vec<f64>> = values.iter().map(|values| bins.shares(values)).collect();
    let most = shares.iter().flatten().copied().fold(0.0, f64::max);
    let [left, right, top, bottom] = FRAME;
    let x = Scale::linear(bins.low..bins.high(), left, right);
    let y = Scale::linear(0.0..if most > 0.0 { 1.08 * most } else { 1.0 }, bottom, top);
    let bits = sets.first().is_some_and(|set| set.levels.is_some());
    let title = if bits { "← more likely: bits per dimension" } else { "log-density in nats: more likely →" };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Histogram of likelihoods\" class=\"histogram\">"
    );
    x.draw_ticks(&mut svg, top, bottom);
    for tick in y.ticks() {
        let at = y.at(tick);
        let percent = short(100.0 * tick);
        let _ = write!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{percent}&#8239;%</text>", left - 7.0, at + 4.0);
    }
    for (set, (colour, shares)) in sets.iter().zip(COLOURS.iter().zip(&shares)) {
        let mut path = format!("M{left:.1} {bottom:.1}");
        for (i, share) in shares.iter().enumerate() {
            let _ = write!(path, "V{:.1}H{:.1}", y.at(*share), x.at(bins.low + bins.width * (i + 1) as f64));
        }
        let _ = write!(
            svg,
            "<path d=\"{path}V{bottom:.1}\" fill=\"{colour}\" fill-opacity=\"0.18\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
        );
        let Some(mean) = set.mean() else { continue };
        if let Some(half) = mean.half_width {
            let (from, to) = (x.at(mean.mean - half), x.at(mean.mean + half));
            let _ =
                write!(svg, "<path d=\"M{from:.1} {top}H{to:.1}V{bottom}H{from:.1}Z\" fill=\"{colour}\" fill-opacity=\"0.22\"/>");
        }
        let at = x.at(mean.mean);
        let _ = write!(
            svg,
            "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"{colour}\" stroke-width=\"1.6\" stroke-dasharray=\"5 3\"/>"
        );
    }
    let _ = write!(svg, "<path class=\"axis\" d=\"M{left} {top}V{bottom}H{right}\"/>");
    let middle = (left + right) / 2.0;
    let _ = write!(svg, "<text class=\"title\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{title}</text>", bottom + 40.0);
    let _ = write!(svg, "<text class=\"title\" x=\"8\" y=\"18\">share of the set</text></svg>");
    (svg, beyond)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: Vec<f64>) -> Likelihoods {
        let (key, name) = (String::new(), "data".to_owned());
        let (draws, failed, levels) = (None, None, None);
        Likelihoods { key, name, dimensions: 2, levels, values, solver: 0.0, draws, nfe: 1, products: 1, seconds: 0.0, failed }
    }

    #[test]
    fn shares_sum_to_one_and_strays_are_in_the_last_bins() {
        let mut values: Vec<f64> = (0..200).map(|i| f64::from(i) / 100.0).collect();
        values.push(-1e6);
        let bins = Bins::of(&[values.clone()]);
        assert!(bins.low > -10.0 && bins.high() < 3.0, "{} to {}", bins.low, bins.high());
        let shares = bins.shares(&values);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((shares[0] - 1.0 / 201.0).abs() < 1e-12 && bins.beyond(&values) == 1, "{shares:?}");
    }

    #[test]
    fn every_set_has_its_outline_mean_and_interval() {
        let (a, b) =
            (set((0..50).map(|i| f64::from(i) * 0.1).collect()), set((0..50).map(|i| f64::from(i) * 0.1 + 1.0).collect()));
        let (svg, beyond) = svg(&[&a, &b]);
        assert_eq!((svg.matches("fill-opacity=\"0.18\"").count(), svg.matches("stroke-dasharray").count(), beyond), (2, 2, 0));
        assert!(svg.contains("nats") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn one_value_equal_values_and_none_have_a_picture() {
        for values in [vec![], vec![-3.0], vec![2.0; 40]] {
            let (svg, beyond) = svg(&[&set(values)]);
            assert!(!svg.contains("NaN") && !svg.contains("inf") && beyond == 0, "{svg}");
        }
    }
}

//! Scatter charts as SVG, for pages: one series for each solver, error bars, and the Pareto front.

use std::fmt::Write as _;

use fokker_train::evaluation::pareto;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 340.0;
/// Left, right, top and bottom of the plot in the picture.
const FRAME: [f64; 4] = [64.0, 466.0, 34.0, 288.0];

/// Told apart by people who see colours differently (Okabe & Ito 2008).
pub(crate) const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31"];

/// One row.
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// Half the width of the interval of `y`.
    pub(crate) spread: Option<f64>,
    /// The number of its series.
    pub(crate) series: usize,
    /// What a reader is told who points at it.
    pub(crate) label: String,
    /// Whether it is drawn as one of the best of all.
    pub(crate) optimal: bool,
}

/// An axis.
pub(crate) struct Axis<'a> {
    pub(crate) title: &'a str,
    pub(crate) logarithmic: bool,
    /// Whether large values are better.
    pub(crate) upwards: bool,
    /// Whether values are shares, from 0 to 1.
    pub(crate) share: bool,
}

/// A chart of points.
pub(crate) struct Chart<'a> {
    pub(crate) x: Axis<'a>,
    pub(crate) y: Axis<'a>,
    pub(crate) points: &'a [Point],
    /// A level of `y` to compare with, and its name.
    pub(crate) level: Option<(f64, &'a str)>,
    /// Whether lines join the points of a series, whose `x` then grows along it.
    pub(crate) joined: bool,
}

/// A linear or logarithmic map from values to places.
pub(crate) struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    from: f64,
    to: f64,
}

impl Scale {
    fn over(values: impl Iterator<Item = f64>, axis: &Axis, from: f64, to: f64) -> Scale {
        let mut values: Vec<f64> = values.filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let logarithmic = axis.logarithmic && values.first().is_some_and(|v| *v > 0.0);
        let (low, high) = values.first().zip(values.last()).map_or((0.0, 1.0), |(a, b)| (*a, *b));
        let (low, high) = if logarithmic {
            let margin = (high / low).powf(0.06).max(1.15);
            (low / margin, high * margin)
        } else {
            let margin = if high > low { 0.06 * (high - low) } else { 0.5 * high.abs().max(1e-3) };
            (low - margin, high + margin)
        };
        Scale { low, high, logarithmic, from, to }
    }

    /// A linear map.
    pub(crate) fn linear(values: std::ops::Range<f64>, from: f64, to: f64) -> Scale {
        Scale { low: values.start, high: values.end, logarithmic: false, from, to }
    }

    /// A logarithmic map of positive values, of which only the ticks are wanted.
    pub(crate) fn logarithmic(values: std::ops::Range<f64>) -> Scale {
        Scale { logarithmic: true, ..Scale::linear(values, 0.0, 1.0) }
    }

    pub(crate) fn at(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round values on the axis.
    pub(crate) fn ticks(&self) -> Vec<f64> {
        let round = |x: f64| 10f64.powf(x.log10().floor());
        if self.logarithmic && self.high / self.low > 4.0 {
            let decades = (self.low.log10().floor() as i32)..=(self.high.log10().ceil() as i32);
            let wide = self.high / self.low > 2e3;
            let factors: &[f64] = if wide { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let all = decades.flat_map(|d| factors.iter().map(move |f| f * 10f64.powi(d)));
            return all.filter(|v| (self.low..=self.high).contains(v)).collect();
        }
        let rough = (self.high - self.low) / 5.0;
        let step = [1.0, 2.0, 5.0, 10.0].map(|f| f * round(rough)).into_iter().find(|s| *s >= rough).unwrap_or(rough);
        let first = (self.low / step).ceil() as i64;
        (first..).map(|i| i as f64 * step).take_while(|v| *v <= self.high).collect()
    }

    /// The ticks of a horizontal axis: a line across the plot and a number below it for each.
    pub(crate) fn draw_ticks(&self, svg: &mut String, top: f64, bottom: f64) {
        for tick in self.ticks() {
            let at = self.at(tick);
            let _ = write!(svg, "<path class=\"grid\" d=\"M{at:.1} {top}V{bottom}\"/>");
            let _ = write!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>", bottom + 17.0, short(tick));
        }
    }
}

/// A number on an axis or in a table: four digits at most.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        0.0 => return "0".into(),
        _ if !(1e-3..1e5).contains(&size) => return format!("{value:.1e}"),
        _ if size >= 100.0 => format!("{value:.0}"),
        _ if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Text that stands for itself in HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The mark of a series around a place.
pub(crate) fn mark(series: usize, x: f64, y: f64, filled: bool) -> String {
    let colour = COLOURS[series % COLOURS.len()];
    let fill = if filled { colour } else { "#fff" };
    let style = format!("fill=\"{fill}\" stroke=\"{colour}\" stroke-width=\"1.6\"");
    let (l, r, t, b) = (x - 4.5, x + 4.5, y - 4.5, y + 4.5);
    // Shapes change from one series to the next, and are others when colours come again.
    match (series + series / COLOURS.len()) % 4 {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" {style}/>"),
        1 => format!("<rect x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\" {style}/>", x - 4.0, y - 4.0),
        2 => format!("<path d=\"M{x:.1} {t:.1}L{r:.1} {y:.1}L{x:.1} {b:.1}L{l:.1} {y:.1}Z\" {style}/>"),
        _ => format!("<path d=\"M{x:.1} {t:.1}L{r:.1} {b:.1}L{l:.1} {b:.1}Z\" {style}/>"),
    }
}

impl Chart<'_> {
    /// The picture.
    pub(crate) fn svg(&self) -> String {
        let [left, right, top, bottom] = FRAME;
        let places = self.points.iter().map(|p| p.y).chain(self.level.map(|(y, _)| y));
        let limits = self.limits(places.clone());
        let ends = |p: &Point| self.ends(p).map(|end| end.clamp(limits[0], limits[1]));
        let heights = self.points.iter().flat_map(ends).chain(places);
        // The lower end of a wide interval has no place on a logarithmic axis.
        let heights = heights.filter(|y| !self.y.logarithmic || *y > 0.0);
        let x = Scale::over(self.points.iter().map(|p| p.x), &self.x, left, right);
        let y = Scale::over(heights, &self.y, bottom, top);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} against {}\">",
            escape(self.y.title),
            escape(self.x.title)
        );
        self.axes(&mut svg, &x, &y);
        self.front(&mut svg, &x, &y);
        let series = self.points.iter().map(|p| p.series + 1).max().unwrap_or(0);
        for number in 0..series {
            let mut points: Vec<&Point> = self.points.iter().filter(|p| p.series == number).collect();
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            let colour = COLOURS[number % COLOURS.len()];
            if self.joined {
                let path: Vec<String> = points.iter().map(|p| format!("{:.1},{:.1}", x.at(p.x), y.at(p.y))).collect();
                let _ = write!(
                    svg,
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-opacity=\"0.45\"/>",
                    path.join(" ")
                );
            }
            for p in points {
                let (px, py) = (x.at(p.x), y.at(p.y));
                let _ = write!(svg, "<g><title>{}</title>", escape(&p.label));
                if p.spread.is_some() {
                    let [low, high] = self.ends(p);
                    let low = if y.logarithmic && low <= 0.0 { y.low } else { low };
                    let (low, high) = (y.at(low), y.at(high));
                    let _ = write!(svg, "<path d=\"M{px:.1} {low:.1}V{high:.1}\" stroke=\"{colour}\" stroke-opacity=\"0.6\"/>");
                }
                let _ = write!(svg, "{}</g>", mark(number, px, py, p.optimal));
            }
        }
        svg + "</svg>"
    }

    /// How far intervals may stretch the axis: by half of what its points take on either side. Wider ones are cut at the frame, or few seeds
    /// would leave no room to tell points apart.
    fn limits(&self, places: impl Iterator<Item = f64>) -> [f64; 2] {
        let places: Vec<f64> = places.filter(|y| y.is_finite() && (!self.y.logarithmic || *y > 0.0)).collect();
        let (low, high) = places.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &y| (low.min(y), high.max(y)));
        if high <= low || !low.is_finite() {
            return [f64::NEG_INFINITY, f64::INFINITY];
        }
        if self.y.logarithmic {
            let stretch = (high / low).sqrt();
            return [low / stretch, high * stretch];
        }
        let stretch = 0.5 * (high - low);
        [low - stretch, high + stretch]
    }

    /// The ends of a point's interval.
    fn ends(&self, p: &Point) -> [f64; 2] {
        let spread = p.spread.unwrap_or(0.0);
        [p.y - spread, p.y + spread].map(|y| if self.y.share { y.clamp(0.0, 1.0) } else { y })
    }

    fn axes(&self, svg: &mut String, x: &Scale, y: &Scale) {
        let [left, right, top, bottom] = FRAME;
        x.draw_ticks(svg, top, bottom);
        for tick in y.ticks() {
            let at = y.at(tick);
            let _ = write!(svg, "<path class=\"grid\" d=\"M{left} {at:.1}H{right}\"/>");
            let _ = write!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", left - 7.0, at + 4.0, short(tick));
        }
        let _ = write!(svg, "<path class=\"axis\" d=\"M{left} {top}V{bottom}H{right}\"/>");
        let arrow = |axis: &Axis, high: &str, low: &str| if axis.upwards { high.to_owned() } else { low.to_owned() };
        let below = format!("{} {}", escape(self.x.title), arrow(&self.x, "→ better", "← better"));
        let above = format!("{} {}", escape(self.y.title), arrow(&self.y, "↑ better", "↓ better"));
        let middle = (left + right) / 2.0;
        let _ = write!(svg, "<text class=\"title\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{below}</text>", bottom + 40.0);
        let _ = write!(svg, "<text class=\"title\" x=\"8\" y=\"20\">{above}</text>");
        if let Some((level, name)) = self.level {
            let at = y.at(level);
            let _ = write!(svg, "<path class=\"level\" d=\"M{left} {at:.1}H{right}\"/>");
            // Where lines of a solver come down to the right, there is room to the left.
            let (end, anchor) = if self.joined { (left + 4.0, "start") } else { (right, "end") };
            let (above, name) = (at - 4.0, escape(name));
            let _ = write!(svg, "<text class=\"note\" x=\"{end}\" y=\"{above:.1}\" text-anchor=\"{anchor}\">{name}</text>");
        }
    }

    /// The stairs along the points that no other beats in both.
    fn front(&self, svg: &mut String, x: &Scale, y: &Scale) {
        let small = |axis: &Axis, value: f64| if axis.upwards { -value } else { value };
        let objectives = |p: &Point| Some([small(&self.x, p.x), small(&self.y, p.y)]);
        let kept = pareto(&self.points.iter().map(objectives).collect::<Vec<_>>());
        let mut front: Vec<&Point> = self.points.iter().zip(kept).filter(|(_, kept)| *kept).map(|(p, _)| p).collect();
        front.sort_by(|a, b| small(&self.x, a.x).total_cmp(&small(&self.x, b.x)));
        let Some(first) = front.first() else { return };
        let mut path = format!("M{:.1} {:.1}", x.at(first.x), y.at(first.y));
        for p in &front[1..] {
            let _ = write!(path, "H{:.1}V{:.1}", x.at(p.x), y.at(p.y));
        }
        let _ = write!(svg, "<path class=\"front\" d=\"{path}\"/>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(x: f64, y: f64) -> Point {
        Point { x, y, spread: Some(0.1), series: 0, label: "a < b".into(), optimal: true }
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [(0.0, "0"), (0.25, "0.25"), (12.5, "12.5"), (2000.0, "2000"), (0.00012, "1.2e-4"), (100.0, "100")] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn a_logarithmic_axis_has_round_ticks_however_short_it_is() {
        assert_eq!(Scale::logarithmic(0.02..0.9).ticks(), [0.02, 0.05, 0.1, 0.2, 0.5]);
        let short: Vec<String> = Scale::logarithmic(0.31..0.52).ticks().into_iter().map(short).collect();
        assert_eq!(short, ["0.35", "0.4", "0.45", "0.5"]);
    }

    #[test]
    fn wide_intervals_leave_room_to_tell_points_apart() {
        let spread = |y: f64, spread: f64| Point { spread: Some(spread), ..point(y, y) };
        for logarithmic in [false, true] {
            let height = |wide: f64| {
                let points = [spread(1.0, wide), spread(2.0, 0.1)];
                let x = Axis { title: "calls", logarithmic: false, upwards: false, share: false };
                let y = Axis { title: "distance", logarithmic, upwards: false, share: false };
                let svg = Chart { x, y, points: &points, level: None, joined: true }.svg();
                let of = |part: &str| part.split('"').next().unwrap().parse::<f64>().unwrap();
                let places: Vec<f64> = svg.split("cy=\"").skip(1).map(of).collect();
                places[0] - places[1]
            };
            assert!(height(1000.0) > 0.4 * height(0.1), "{} of {}", height(1000.0), height(0.1));
        }
    }

    #[test]
    fn a_chart_has_its_points_in_the_frame_and_a_front_of_stairs() {
        let points = [point(5.0, 1.0), point(10.0, 0.5), point(50.0, 0.7)];
        let x = Axis { title: "calls", logarithmic: true, upwards: false, share: false };
        let y = Axis { title: "distance", logarithmic: false, upwards: false, share: false };
        let svg = Chart { x, y, points: &points, level: Some((0.2, "data")), joined: true }.svg();
        assert_eq!((svg.matches("<circle").count(), svg.matches("<polyline").count()), (3, 1));
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("inf"));
        let front = svg.split("class=\"front\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!((front.matches('H').count(), front.matches('V').count()), (1, 1), "the third is beaten: {front}");
    }

    #[test]
    fn one_point_and_none_have_axes() {
        for points in [vec![], vec![point(5.0, 0.0)]] {
            let axis = |title| Axis { title, logarithmic: true, upwards: true, share: true };
            let svg = Chart { x: axis("a"), y: axis("b"), points: &points, level: None, joined: false }.svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}

//! The picture of the table: error against evaluations, one panel per mixture.

use std::ops::Range;
use std::sync::Once;

use fokker_solve::Solver;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::page::best_row;
use super::peers::{PeerSection, Peers};
use super::{FITTED, NFE, Section, Table};

/// Width and height in pixels.
pub const SIZE: (u32, u32) = (1080, 640);
const FONT: &str = "sans-serif";
const LEGEND: i32 = 88;

/// A line of the picture.
struct Line {
    name: String,
    color: RGBColor,
    width: u32,
    dashed: bool,
    points: Vec<(f64, f64)>,
}

/// The font of pictures in pixels; an SVG names a family and uses the reader's, but its labels are placed by this one.
fn register_font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The font is part of the program: it is either always accepted or never.
        let accepted = plotters::style::register_font(FONT, FontStyle::Normal, dejavu::sans::regular());
        debug_assert!(accepted.is_ok());
    });
}

/// `docs/images/solvers.svg`.
///
/// # Panics
/// If the peers' file lacks a mixture of the table.
pub fn svg(table: &Table, peers: &Peers) -> String {
    register_font();
    let mut text = String::new();
    draw(&SVGBackend::with_string(&mut text, SIZE).into_drawing_area(), table, peers).expect("a string takes any text");
    text
}

/// The same in pixels, RGB by rows: to look at.
///
/// # Panics
/// If the peers' file lacks a mixture of the table.
pub fn pixels(table: &Table, peers: &Peers) -> Vec<u8> {
    register_font();
    let mut rgb = vec![0u8; (SIZE.0 * SIZE.1 * 3) as usize];
    draw(&BitMapBackend::with_buffer(&mut rgb, SIZE).into_drawing_area(), table, peers).expect("the buffer has this size");
    rgb
}

fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    table: &Table,
    peers: &Peers,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    area.fill(&WHITE)?;
    let (charts, legend) = area.split_vertically(SIZE.1 as i32 - LEGEND);
    let panels: Vec<Vec<Line>> = table
        .sections
        .iter()
        .map(|s| lines(s, peers.oracles.get(s.name).unwrap_or_else(|| panic!("no peers on {}", s.name))))
        .collect();
    let heights = vertical(panels.iter().flatten());
    for ((area, section), lines) in charts.split_evenly((1, panels.len())).iter().zip(&table.sections).zip(&panels) {
        let title = match section.name {
            "2-D" => "Five clusters in 2 dimensions",
            "64-D" => "Six clusters in 64 dimensions",
            other => other,
        };
        panel(area, title, lines, heights.clone())?;
    }
    key(&legend, &panels[0])?;
    area.present()
}

/// What is shown of one mixture: some of our solvers, and the best of each library.
fn lines(section: &Section, peers: &PeerSection) -> Vec<Line> {
    // Colours that are told apart without seeing all of them (Okabe and Ito).
    let shown = [
        ("ddim", "DDIM (Euler)", RGBColor(150, 150, 150)),
        ("heun", "Heun (EDM)", RGBColor(86, 180, 233)),
        ("dpmpp-multistep", "DPM-Solver++ (2M)", RGBColor(0, 158, 115)),
    ];
    let at = |column: usize| NFE[column] as f64;
    let mut lines: Vec<Line> = shown
        .into_iter()
        .filter_map(|(solver, name, color)| {
            let row = section.deterministic.iter().find(|row| row.solver.name() == solver)?;
            let points = row.cells.iter().enumerate().filter_map(|(c, cell)| Some((at(c), (*cell)?.value)));
            Some(Line { name: name.to_owned(), color, width: 2, dashed: false, points: points.collect() })
        })
        .collect();
    let best = |fitted: bool, columns: usize| {
        (0..columns).filter_map(|c| Some((at(c), best_row(&section.deterministic, c, fitted)?.1.value))).collect()
    };
    for (name, color, width, points) in [
        ("fokker's best, usual grids", RGBColor(0, 114, 178), 3, best(false, NFE.len())),
        ("fokker's best, fitted grids", RGBColor(213, 94, 0), 4, best(true, FITTED)),
    ] {
        lines.push(Line { name: name.to_owned(), color, width, dashed: false, points });
    }
    let colors = [RGBColor(204, 121, 167), RGBColor(230, 159, 0), BLACK];
    for (library, color) in peers.libraries().into_iter().zip(colors) {
        let best = (0..NFE.len()).filter_map(|c| Some((at(c), peers.best(c, |peer| peer.library == library)?.value)));
        lines.push(Line { name: format!("best of {library}"), color, width: 2, dashed: true, points: best.collect() });
    }
    lines
}

/// The range of all errors, from power of ten to power of ten.
fn vertical<'a>(lines: impl Iterator<Item = &'a Line>) -> Range<f64> {
    let (low, high) =
        lines.flat_map(|line| &line.points).fold((1.0_f64, 1e-3_f64), |(low, high), (_, e)| (low.min(*e), high.max(*e)));
    10f64.powf(low.log10().floor())..10f64.powf(high.log10().ceil())
}

/// `10` to the power `k`, as one writes it.
fn power_of_ten(value: f64) -> String {
    let digits = ["⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"];
    let k = value.log10().round() as i32;
    let exponent: String = k.unsigned_abs().to_string().bytes().map(|d| digits[usize::from(d - b'0')]).collect();
    match k {
        0 => "1".to_owned(),
        1 => "10".to_owned(),
        _ if k < 0 => format!("10⁻{exponent}"),
        _ => format!("10{exponent}"),
    }
}

fn panel<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    title: &str,
    lines: &[Line],
    heights: Range<f64>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let (low, high) = (heights.start.log10().round() as i32, heights.end.log10().round() as i32);
    let decades = (low..=high).map(|k| 10f64.powi(k)).collect();
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 20))
        .margin(14)
        .margin_right(24)
        .x_label_area_size(48)
        .y_label_area_size(66)
        .build_cartesian_2d(
            (4.5..112.0).log_scale().with_key_points(NFE.map(|n| n as f64).to_vec()),
            heights.log_scale().with_key_points(decades),
        )?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.10))
        .axis_style(BLACK.mix(0.4))
        .x_desc("evaluations of the model, at most")
        .y_desc("error")
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 15))
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| power_of_ten(*y))
        .draw()?;
    for line in lines {
        let style = line.color.stroke_width(line.width);
        if line.dashed {
            chart.draw_series(DashedLineSeries::new(line.points.iter().copied(), 6, 4, style))?;
        } else {
            chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
        }
        let size = if line.width > 2 { 5 } else { 3 };
        chart.draw_series(line.points.iter().map(|point| Circle::new(*point, size, line.color.filled())))?;
    }
    Ok(())
}

/// What the lines are: ours above, the other libraries' below.
fn key<B: DrawingBackend>(area: &DrawingArea<B, Shift>, lines: &[Line]) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let (ours, theirs): (Vec<&Line>, Vec<&Line>) = lines.iter().partition(|line| !line.dashed);
    for (row, lines) in [ours, theirs].into_iter().enumerate() {
        let y = 22 + 30 * row as i32;
        let width = (SIZE.0 as i32 - 60) / 5;
        for (column, line) in lines.into_iter().enumerate() {
            let x = 34 + width * column as i32;
            let ends = [(x, y), (x + 34, y)];
            let style = line.color.stroke_width(line.width);
            if line.dashed {
                for part in 0..4 {
                    let from = x + 9 * part;
                    area.draw(&PathElement::new([(from, y), (from + 6, y)], style))?;
                }
            } else {
                area.draw(&PathElement::new(ends, style))?;
            }
            area.draw(&Circle::new((x + 17, y), if line.width > 2 { 5 } else { 3 }, line.color.filled()))?;
            area.draw(&Text::new(line.name.clone(), (x + 42, y - 8), (FONT, 14).into_font()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_ten_are_written_as_one_writes_them() {
        for (value, text) in [(1.0, "1"), (10.0, "10"), (100.0, "10²"), (1e-3, "10⁻³"), (1e-12, "10⁻¹²")] {
            assert_eq!(power_of_ten(value), text);
        }
    }
}

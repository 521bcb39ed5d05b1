//! The picture: rates against operations per byte, under the roofs.

use plotters::prelude::*;

use super::{Roofline, Row};
use crate::Failure;

const SIZE: (u32, u32) = (900, 560);
const FONT: &str = "sans-serif";

/// Colours that are told apart without seeing all of them (Okabe and Ito), by what the operation's name begins with.
const KINDS: [(&str, &str, RGBColor); 4] = [
    ("products and linear layers", "product linear", RGBColor(0, 114, 178)),
    ("3×3 convolutions", "3×3", RGBColor(213, 94, 0)),
    ("depthwise convolutions", "depthwise", RGBColor(0, 158, 115)),
    ("attention", "attention", RGBColor(204, 121, 167)),
];

fn kind(row: &Row) -> Option<RGBColor> {
    let first = row.operation.split([' ', ',']).next().unwrap_or_default();
    let found = KINDS.iter().find(|(_, names, _)| names.split(' ').any(|name| name == first));
    found.map(|(_, _, color)| *color)
}

/// `docs/images/roofline.svg`.
pub(super) fn svg(roofline: &Roofline) -> Result<String, Failure> {
    plotters::style::register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).map_err(|_| "the font")?;
    let mut text = String::new();
    draw(&mut text, roofline).map_err(|e| e.to_string())?;
    Ok(text)
}

fn draw(text: &mut String, roofline: &Roofline) -> Result<(), Box<dyn std::error::Error>> {
    let machine = &roofline.machine;
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (low, high) = (0.25_f64, 1000.0);
    let mut chart = ChartBuilder::on(&area)
        .caption(super::page::count(machine.threads), (FONT, 20))
        .margin(14)
        .margin_right(24)
        .x_label_area_size(48)
        .y_label_area_size(66)
        .build_cartesian_2d((low..high).log_scale(), (5.0..4.0 * machine.peak / 1e9).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.10))
        .axis_style(BLACK.mix(0.4))
        .x_desc("operations per byte")
        .y_desc("GFLOP/s")
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 15))
        .x_label_formatter(&|x| format!("{x}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    for (i, level) in machine.levels.iter().enumerate() {
        let roof = |x: f64| (x, (x * level.bandwidth).min(machine.peak) / 1e9);
        let points = (0..=100).map(|k| roof(low * (high / low).powf(f64::from(k) / 100.0)));
        chart.draw_series(LineSeries::new(points, BLACK.stroke_width(1)))?;
        let at = roof(0.3 * 1.8_f64.powi(i as i32));
        chart.draw_series([Text::new(level.name.clone(), at, (FONT, 14).into_font())])?;
    }
    let rows = roofline.rows.iter().filter(|row| row.flops > 0.0);
    let points = rows.filter_map(|row| Some((row.intensity(), row.flops / row.seconds / 1e9, kind(row)?)));
    chart.draw_series(points.map(|(x, y, color)| Circle::new((x, y), 4, color.mix(0.8).filled())))?;
    for (i, (name, _, color)) in KINDS.iter().enumerate() {
        let y = 330 + 24 * i as i32;
        area.draw(&Circle::new((620, y + 8), 5, color.filled()))?;
        area.draw(&Text::new(*name, (634, y), (FONT, 14).into_font()))?;
    }
    area.present()?;
    Ok(())
}

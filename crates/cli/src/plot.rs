//! The loss curve, as SVG and PNG.

use std::ops::Range;
use std::sync::Once;

use fokker_train::{Record, RunDirectory};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::chart::{Scale, short};
use crate::failure::Failure;

const SIZE: (u32, u32) = (960, 540);
const FONT: &str = "sans-serif";

/// Writes `loss.svg` and `loss.png` into the run's folder; nothing if there are fewer than two points.
pub(crate) fn loss_curve(run: &RunDirectory, name: &str) -> Result<(), Failure> {
    let records = run.metrics()?;
    if records.len() < 2 {
        return Ok(());
    }
    let failed = |e: String| Failure::failed(format!("{}: cannot draw the loss curve: {e}", run.path().display()));
    let svg = loss_svg(name, &records).map_err(failed)?;
    run.write("loss.svg", svg.as_bytes())?;

    let mut rgb = vec![0u8; (SIZE.0 * SIZE.1 * 3) as usize];
    draw(&BitMapBackend::with_buffer(&mut rgb, SIZE).into_drawing_area(), name, &records).map_err(|e| failed(e.to_string()))?;
    let picture = fokker_data::Picture::new(SIZE.1 as usize, SIZE.0 as usize, 3, rgb);
    picture.save_png(run.file("loss.png"))?;
    Ok(())
}

/// The loss curve of at least two points.
pub(crate) fn loss_svg(name: &str, records: &[Record]) -> Result<String, String> {
    register_font();
    let mut svg = String::new();
    draw(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), name, records).map_err(|e| e.to_string())?;
    Ok(svg)
}

/// The font of the PNG; the SVG names a family and uses the reader's.
fn register_font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The font is part of the program: it is either always accepted or never.
        let accepted = plotters::style::register_font(FONT, FontStyle::Normal, dejavu::sans::regular());
        debug_assert!(accepted.is_ok());
    });
}

/// A moving average over about a fiftieth of the points, centred.
fn smooth(records: &[Record]) -> Vec<(f64, f64)> {
    let half = (records.len() / 100).max(1);
    (0..records.len())
        .map(|i| {
            let window = &records[i.saturating_sub(half)..(i + half + 1).min(records.len())];
            (records[i].step as f64, window.iter().map(|r| r.loss).sum::<f64>() / window.len() as f64)
        })
        .collect()
}

/// The range of the losses without the first steps' outliers, a little wider, on a logarithmic axis.
fn vertical(records: &[Record]) -> Range<f64> {
    let mut losses: Vec<f64> = records.iter().map(|r| r.loss).filter(|l| *l > 0.0).collect();
    losses.sort_by(f64::total_cmp);
    let (Some(&low), Some(&high)) = (losses.first(), losses.get((losses.len() * 99 / 100).min(losses.len().saturating_sub(1))))
    else {
        return 0.1..1.0;
    };
    let margin = (high / low).powf(0.08).max(1.05);
    low / margin..high * margin
}

fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    name: &str,
    records: &[Record],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    area.fill(&WHITE)?;
    let last = records.last().map_or(1.0, |r| r.step as f64);
    let losses = vertical(records);
    // Losses often stay within a decade, where the plot's own ticks would be none.
    let ticks = Scale::logarithmic(losses.clone()).ticks();
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{name}: training loss"), (FONT, 24))
        .margin(18)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..last, losses.log_scale().with_key_points(ticks))?;
    chart
        .configure_mesh()
        .light_line_style(BLACK.mix(0.04))
        .bold_line_style(BLACK.mix(0.12))
        .x_desc("step")
        .y_desc("loss (log scale)")
        .label_style((FONT, 15))
        .axis_desc_style((FONT, 17))
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| short(*y))
        .draw()?;
    let raw = records.iter().map(|r| (r.step as f64, r.loss));
    chart.draw_series(LineSeries::new(raw, RGBColor(31, 119, 180).mix(0.3)))?;
    chart.draw_series(LineSeries::new(smooth(records), RGBColor(31, 119, 180).stroke_width(2)))?;
    area.present()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_within_a_decade_have_numbers_beside_them() {
        let record = |step: u64| {
            let (loss, gradient_norm, learning_rate, seconds) = (0.5 - 0.001 * step as f64, 1.0, 1e-3, 1.0);
            Record { step, images: step, loss, gradient_norm, learning_rate, seconds }
        };
        let svg = loss_svg("name", &(1..100).map(record).collect::<Vec<_>>()).unwrap();
        for tick in ["0.4", "0.45", "0.5"] {
            assert!(svg.contains(&format!("\n{tick}\n")), "{tick} in {svg}");
        }
    }
}

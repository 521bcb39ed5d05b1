//! The page of `fokker evaluate`: one file of HTML with its pictures in it, for any browser, without a network.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use fokker_data::{Dataset, Grid, Picture, Scatter, atomic_write};
use fokker_nn::Module;
use fokker_sde::Sde;
use fokker_tensor::Tensor;
use fokker_train::evaluation::{Better, COLUMNS, Column, Evaluation, Likelihoods, Row, Trajectory};
use fokker_train::{Interval, RunConfig, RunDirectory};

use crate::chart::{Axis, COLOURS, Chart, Point, escape, mark, short};
use crate::failure::Failure;
use crate::progress::duration;
use crate::sample::has_picture;
use crate::table::{latency, mebibytes, plus_minus};
use crate::{histogram, movie};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// Pairs of a sample and its nearest training vector.
const PAIRS: usize = 10;

/// A row with what is shown of it.
pub(crate) struct Shown {
    pub(crate) row: Row,
    pub(crate) optimal: bool,
    pub(crate) samples: Option<Tensor>,
}

/// What the page is made of.
pub(crate) struct Report<'a> {
    pub(crate) evaluation: &'a Evaluation<'a>,
    /// The run's configuration and folder, where there is one.
    pub(crate) config: Option<&'a RunConfig>,
    pub(crate) folder: &'a Path,
    pub(crate) model_file: PathBuf,
    pub(crate) compared_with: &'a str,
    /// The data's samples that are shown.
    pub(crate) reference: &'a Tensor,
    /// The training set, where it is known.
    pub(crate) training: Option<&'a dyn Dataset>,
    pub(crate) rows: &'a [Shown],
    /// That of least distance to the data, if there is one.
    pub(crate) best: Option<&'a Shown>,
    /// How its first samples came about.
    pub(crate) trajectory: Option<&'a Trajectory>,
    /// Of data and of its samples.
    pub(crate) likelihoods: &'a [Likelihoods],
    pub(crate) missing: &'a [String],
}

impl Report<'_> {
    /// Writes the page as a whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|e| Failure::failed(format!("{}: cannot create the folder: {e}", folder.display())))?;
        }
        let page = self.page()?;
        Ok(atomic_write(path, |file| file.write_all(page.as_bytes()))?)
    }

    fn name(&self) -> String {
        self.config.map_or_else(|| self.model_file.display().to_string(), |config| config.name.clone())
    }

    fn page(&self) -> Result<String, Failure> {
        let name = escape(&self.name());
        let sections = [
            ("Quality, coverage, speed", self.table() + &self.charts()),
            ("Samples", self.samples()?),
            ("From noise to samples", self.movie()?),
            ("Likelihood", self.likelihood()),
            ("Nearest training data", self.neighbours()?),
            ("Training", self.training_curve()?),
            ("What the columns say, and what they cannot see", self.columns()),
            ("How this was made", self.provenance()?),
        ];
        let body: String = sections
            .iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(title, text)| format!("<section><h2>{title}</h2>{text}</section>\n"))
            .collect();
        Ok(format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{name}: the trilemma measured</title>\n<style>\n{STYLE}</style></head>\n<body><main>\n{}{body}</main>\
             <script>\n{SCRIPT}</script></body></html>\n",
            self.header(&name)
        ))
    }

    fn header(&self, name: &str) -> String {
        let e = self.evaluation;
        let config = &e.model.config;
        format!(
            "<header><p class=\"kind\">fokker {} · evaluation</p><h1>{name}</h1>\
             <p>{} ways of sampling a {}-parameter model (process <code>{}</code>, samples of shape {:?}), each with {} samples of {} \
             seed{}, beside {} samples: {}; compared as <code>{}</code>.</p></header>\n",
            env!("CARGO_PKG_VERSION"),
            self.rows.iter().filter(|shown| shown.row.steps.is_some()).count(),
            thousands(e.model.parameter_count()),
            Sde::name(&config.sde),
            config.sample_shape,
            thousands(e.request.count),
            e.seeds,
            if e.seeds == 1 { "" } else { "s" },
            thousands(e.ruler.count()),
            escape(self.compared_with),
            e.ruler.features().id(),
        )
    }

    /// The columns that some row has.
    fn present(&self) -> Vec<&'static Column> {
        COLUMNS.iter().filter(|c| self.rows.iter().any(|shown| shown.row.scores.contains_key(c.name))).collect()
    }

    fn table(&self) -> String {
        let columns = self.present();
        let mut text = String::from(
            "<div class=\"wide\"><table class=\"rows ways\"><thead><tr><th></th><th>solver</th><th>steps</th><th>NFE</th>",
        );
        for column in &columns {
            let arrow = match column.better {
                Better::Lower => "<br>↓",
                Better::Higher => "<br>↑",
                Better::Data => "",
            };
            let _ = write!(text, "<th title=\"{}\">{}{arrow}</th>", escape(column.about), column.title);
        }
        text += "<th>samples/s<br>↑</th><th>latency<br>↓</th><th>memory<br>↓</th></tr></thead><tbody>\n";
        for shown in self.rows {
            let row = &shown.row;
            let class = match (row.steps, shown.optimal) {
                (None, _) => " class=\"other\"",
                (_, true) => " class=\"optimal\"",
                _ => "",
            };
            let star = if shown.optimal { "<span title=\"Pareto-optimal\">★</span>" } else { "" };
            let number = |n: Option<usize>| n.map_or_else(|| "–".into(), |n| n.to_string());
            let _ = write!(
                text,
                "<tr{class}><td>{star}</td><th>{}</th><td>{}</td><td>{}</td>",
                self.label(row),
                number(row.steps),
                number(row.nfe)
            );
            if let Some(why) = &row.failed {
                let _ = write!(text, "<td class=\"failed\" colspan=\"{}\">failed: {}</td></tr>", columns.len() + 3, escape(why));
                continue;
            }
            for column in &columns {
                let cell = row.score(column.name).map_or_else(|| "–".into(), |i| cell(&i));
                let _ = write!(text, "<td>{cell}</td>");
            }
            let rate = row.rate().map_or_else(|| "–".into(), |rate| short(rate.mean));
            let alone = row.latency.map_or_else(|| "–".into(), latency);
            let memory = row.memory.map_or_else(|| "–".into(), mebibytes);
            let _ = write!(text, "<td>{rate}</td><td>{alone}</td><td>{memory}</td></tr>");
        }
        text += "</tbody></table></div>";
        let title = self.quality().title;
        let _ = write!(
            text,
            "<p class=\"note\">★ Pareto-optimal: no other row is at least as good in {title}, coverage and network calls (NFE) and better in \
             one, by the means as printed; overlapping intervals may as well be ties. ± is half the 95&nbsp;% interval over seeds (Student's \
             distribution): the model, the data and their number are fixed and not part of it. The row <em>data</em>, if there is one, is \
             another set of real data judged in the place of samples: what a perfect model would score.</p>"
        );
        if !self.missing.is_empty() {
            let missing: Vec<String> = self.missing.iter().map(|name| escape(name)).collect();
            let _ = write!(text, "<p class=\"missing\">Not measured, as the budget was spent: {}.</p>", missing.join("; "));
        }
        text
    }

    fn label(&self, row: &Row) -> String {
        let swatch = self.series(row).map_or_else(String::new, |series| {
            format!("<svg class=\"swatch\" viewBox=\"0 0 14 14\">{}</svg>", mark(series, 7.0, 7.0, true))
        });
        format!("{swatch}{}", escape(&row.name))
    }

    /// The first row of each solver, in the order of the table.
    fn solvers(&self) -> Vec<&Row> {
        let mut first: Vec<&Row> = Vec::new();
        for Shown { row, .. } in self.rows.iter().filter(|shown| shown.row.steps.is_some()) {
            if first.iter().all(|other| other.name != row.name) {
                first.push(row);
            }
        }
        first
    }

    /// The number of the row's solver among those of the table.
    fn series(&self, row: &Row) -> Option<usize> {
        row.steps?;
        self.solvers().iter().position(|first| first.name == row.name)
    }

    /// The column that stands for quality.
    fn quality(&self) -> &'static Column {
        let name = self.evaluation.ruler.distance();
        COLUMNS.iter().find(|c| c.name == name).expect("the ruler's distance is a column")
    }

    fn charts(&self) -> String {
        let quality = self.quality();
        let data = self.rows.iter().find(|shown| shown.row.name == "data" && shown.row.steps.is_none());
        let level = |name: &str| data.and_then(|d| d.row.score(name)).map(|i| (i.mean, "data beside data"));
        let nfe = || Axis { title: "network calls", logarithmic: true, upwards: false, share: false };
        let distance = || Axis { title: quality.title, logarithmic: true, upwards: false, share: false };
        let coverage = || Axis { title: "coverage", logarithmic: false, upwards: true, share: true };
        let calls = |row: &Row| row.nfe.map(|n| n as f64);
        let of = |name: &'static str| move |row: &Row| row.score(name).map(|i| i.mean);
        let charts = [
            ("Quality against speed", nfe(), distance(), self.points(&calls, quality.name), level(quality.name), true),
            ("Coverage against speed", nfe(), coverage(), self.points(&calls, "coverage"), level("coverage"), true),
            (
                "Coverage against quality",
                distance(),
                coverage(),
                self.points(&of(quality.name), "coverage"),
                level("coverage"),
                false,
            ),
        ];
        let legend: String = self.solvers().into_iter().map(|row| format!("<span>{}</span>", self.label(row))).collect();
        let mut text = format!("<p class=\"legend\">{legend}</p><div class=\"charts\">");
        for (title, x, y, points, level, joined) in charts {
            let svg = Chart { x, y, points: &points, level, joined }.svg();
            let _ = write!(text, "<figure>{svg}<figcaption>{title}</figcaption></figure>");
        }
        text + "</div><p class=\"note\">One point for each row, in its solver's colour and shape; filled if the row is Pareto-optimal in all three \
                together. The dashed stairs are the front of the two that a picture shows; bars are 95&nbsp;% intervals; dotted, what \
                other real data score.</p>"
    }

    fn points(&self, x: &dyn Fn(&Row) -> Option<f64>, y: &str) -> Vec<Point> {
        let point = |shown: &Shown| {
            let row = &shown.row;
            let (series, x, score) = (self.series(row)?, x(row)?, row.score(y)?);
            let label = format!("{}, {} steps, {} calls: {}", row.name, row.steps?, row.nfe?, plus_minus(&score));
            Some(Point { x, y: score.mean, spread: score.half_width, series, label, optimal: shown.optimal })
        };
        self.rows.iter().filter_map(point).collect()
    }

    fn samples(&self) -> Result<String, Failure> {
        if !has_picture(&self.evaluation.model.config.sample_shape) {
            return Ok(String::new());
        }
        let mut text = String::from("<div class=\"grids\">");
        let mut figure = |x: &Tensor, caption: String| -> Result<(), Failure> {
            let _ =
                write!(text, "<figure><img alt=\"\" src=\"{}\"><figcaption>{caption}</figcaption></figure>", self.picture(x)?);
            Ok(())
        };
        figure(self.reference, format!("<b>{}</b>", escape(self.compared_with)))?;
        for shown in self.rows {
            let row = &shown.row;
            let Some(x) = &shown.samples else { continue };
            let star = if shown.optimal { " ★" } else { "" };
            let how = row.steps.map_or_else(String::new, |n| format!(", {n} steps, {} calls", row.nfe.unwrap_or(0)));
            figure(x, format!("{}{how}{star}", self.label(row)))?;
        }
        let what = if self.reference.rank() == 2 { "points; colours mean the same in all" } else { "samples" };
        let _ = write!(text, "</div><p class=\"note\">The first {what}, of the first seed, not chosen.</p>");
        Ok(text)
    }

    /// As a data URI.
    fn picture(&self, x: &Tensor) -> Result<String, Failure> {
        let picture = if x.rank() == 2 {
            let frame = Scatter { side: 256, blur: 1.5, ..Scatter::fitted(self.reference) };
            let brightest = frame.brightest_of(self.reference) * x.dim(0) as f64 / self.reference.dim(0) as f64;
            Scatter { brightest: Some(brightest), ..frame }.picture(x)
        } else {
            Picture::grid(x, &Grid { zoom: (32 / x.dim(1).max(1)).max(1), ..Grid::default() })
        };
        png(&picture)
    }

    /// The way of the best row's first samples.
    fn movie(&self) -> Result<String, Failure> {
        let (Some(way), Some(shown)) = (self.trajectory, self.best) else { return Ok(String::new()) };
        let mut text = String::from("<div class=\"movie\"><div class=\"frames\">");
        for (moment, picture) in way.moments.iter().zip(movie::frames(way, self.reference)) {
            let caption = movie::caption(moment, way.total);
            let _ = write!(
                text,
                "<figure class=\"frame\"><img alt=\"{caption}\" src=\"{}\"><figcaption>{caption}</figcaption></figure>",
                png(&picture)?
            );
        }
        let answers = if way.states.dim(1) == 2 {
            "Left, the state x<sub>t</sub>; right, x̂<sub>0</sub>, what the network last took it for in the step that begins there."
        } else {
            "The state x<sub>t</sub>; this solver does not tell what the network takes it for."
        };
        let _ = write!(
            text,
            "</div></div><p class=\"note\">{answers} States are scaled to the size that data have, as the noise would leave the picture. The first {} \
             samples of the row of least {} ({}, {} steps), not chosen.</p>",
            way.states.dim(2),
            self.quality().title,
            escape(&shown.row.name),
            shown.row.steps.unwrap_or(0),
        );
        Ok(text)
    }

    /// Histogram, means and intervals.
    fn likelihood(&self) -> String {
        let Some(first) = self.likelihoods.first() else { return String::new() };
        let found: Vec<&Likelihoods> = self.likelihoods.iter().filter(|set| !set.values.is_empty()).collect();
        let (svg, beyond) = histogram::svg(&found);
        let mut text = if found.is_empty() { String::new() } else { format!("<figure class=\"likelihood\">{svg}</figure>") };
        let unit = first.unit();
        let _ = write!(
            text,
            "<div class=\"wide\"><table class=\"rows\"><thead><tr><th></th><th>of</th><th>samples</th><th>mean, {unit}</th><th>solver's error</th>\
             <th>network calls</th><th>time</th></tr></thead><tbody>"
        );
        let mut colours = COLOURS.iter();
        for set in self.likelihoods {
            let Some(mean) = set.mean() else {
                let _ = write!(text, "<tr><td></td><th>{}</th>", escape(&set.name));
                let why = set.failed.as_deref().unwrap_or("no values");
                let _ = write!(text, "<td class=\"failed\" colspan=\"5\">failed: {}</td></tr>", escape(why));
                continue;
            };
            // In the order of the picture's colours.
            let fill = colours.next().unwrap_or(&"#000");
            let swatch =
                format!("<svg class=\"swatch\" viewBox=\"0 0 14 14\"><rect width=\"14\" height=\"14\" fill=\"{fill}\"/></svg>");
            let _ = write!(
                text,
                "<tr><td></td><th>{swatch}{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&set.name),
                set.values.len(),
                cell(&mean),
                short(set.in_unit(set.solver).abs()),
                set.nfe,
                duration(set.seconds)
            );
        }
        text += "</tbody></table></div>";
        let levels = first.levels.map_or_else(String::new, |levels| {
            format!(
                " The {levels} levels are made real by uniform noise, so that the bits are an upper bound; samples are taken to the nearest level."
            )
        });
        let strays = if beyond > 0 { format!(" {beyond} beyond its ends are counted in the last bins.") } else { String::new() };
        let _ = write!(
            text,
            "<p class=\"note\">Of the model alone, without guidance, through its probability-flow ODE; with the noise of the first time, σ = {}.{levels} \
             Dashed, means; the bands are their 95&nbsp;% intervals, of the spread over samples, random probes and draws and of the solver's \
             error.{strays} Samples that are more likely than data crowd where the model's density is high; less likely ones are where the \
             model itself says that there is little.</p>",
            short(self.evaluation.model.config.sde.sigma(self.evaluation.model.config.sde.span().0))
        );
        text
    }

    /// The samples of the best row that are most like one training vector.
    fn neighbours(&self) -> Result<String, Failure> {
        let Some(shown) = self.best else { return Ok(String::new()) };
        let (Some(x), Some(training)) = (&shown.samples, self.training) else { return Ok(String::new()) };
        let x = &x.slice(0, 0..x.dim(0).min(64));
        let Some(found) = self.evaluation.ruler.nearest_training(x).map_err(Failure::from)? else { return Ok(String::new()) };
        let mut order: Vec<usize> = (0..x.dim(0)).collect();
        order.sort_by(|&a, &b| found.ratios[a].total_cmp(&found.ratios[b]));
        order.truncate(PAIRS);
        let nearest: Vec<usize> = order.iter().map(|&i| found.neighbours[i]).collect();
        let (samples, neighbours) = (x.gather(&order), training.batch(&nearest)?.x.to(x.dtype()));
        let ratios: Vec<String> = order.iter().map(|&i| short(found.ratios[i])).collect();
        let row = format!("{}, {} steps", escape(&shown.row.name), shown.row.steps.unwrap_or(0));
        let mut text = String::new();
        if has_picture(&x.shape()[1..]) && x.rank() > 2 {
            let both = Tensor::concat(&[&samples, &neighbours], 0);
            let zoom = (56 / x.dim(1).max(1)).max(1);
            let grid = Picture::grid(&both, &Grid { zoom, columns: Some(order.len()), ..Grid::default() });
            let _ = write!(text, "<figure class=\"pairs\"><img alt=\"\" src=\"{}\">", png(&grid)?);
            let _ = write!(
                text,
                "<figcaption>Above, samples; below, the training sample nearest to each. Ratios: {}.</figcaption></figure>",
                ratios.join(", ")
            );
        } else if x.rank() == 2 && x.dim(1) <= 8 {
            text += "<div class=\"wide\"><table><thead><tr><th>sample</th><th>nearest training vector</th><th>distance</th><th>ratio</th></tr></thead><tbody>";
            let vector = |x: &Tensor, i: usize| {
                let values: Vec<String> = x.slice(0, i..i + 1).to_vec::<f64>().iter().map(|v| format!("{v:.4}")).collect();
                format!("({})", values.join(", "))
            };
            for (i, ratio) in ratios.iter().enumerate() {
                let distance = short(found.distances[order[i]]);
                let (sample, neighbour) = (vector(&samples, i), vector(&neighbours, i));
                let _ = write!(text, "<tr><td>{sample}</td><td>{neighbour}</td><td>{distance}</td><td>{ratio}</td></tr>");
            }
            text += "</tbody></table></div>";
        }
        let _ = write!(
            text,
            "<p class=\"note\">Of the first {} samples of the row of least {} ({row}), those with the smallest ratio of distances to the nearest and \
             the second nearest of {} training vectors, in the space of the comparison. A copy has a ratio near 0. The table's columns \
             of memorisation are over all samples.</p>",
            x.dim(0),
            self.quality().title,
            thousands(self.evaluation.ruler.training_count()),
        );
        Ok(text)
    }

    fn training_curve(&self) -> Result<String, Failure> {
        let Some(config) = self.config else { return Ok(String::new()) };
        let records = RunDirectory::open(self.folder)?.metrics()?;
        let (Some(last), true) = (records.last(), records.len() > 1) else { return Ok(String::new()) };
        let svg = crate::plot::loss_svg(&config.name, &records)
            .map_err(|e| Failure::failed(format!("{}: cannot draw the loss curve: {e}", self.folder.display())))?;
        Ok(format!(
            "<figure class=\"loss\"><img alt=\"loss curve\" src=\"data:image/svg+xml;base64,{}\"><figcaption>Step {} of {}, {} samples seen, {} of \
             training.</figcaption></figure>",
            BASE64.encode(svg.as_bytes()),
            last.step,
            config.train.steps,
            thousands(last.images as usize),
            duration(last.seconds)
        ))
    }

    fn columns(&self) -> String {
        let mut text = String::from("<dl>");
        for column in self.present() {
            let _ = write!(
                text,
                "<dt>{} <span class=\"corner\">{}</span></dt><dd>{}<br><span class=\"blind\">Cannot see: {}</span></dd>",
                column.title,
                column.corner,
                escape(column.about),
                escape(column.blind)
            );
        }
        text += "<dt>NFE <span class=\"corner\">speed</span></dt><dd>How often the network ran for one sample, counted; guidance makes two runs of \
                 one answer.<br><span class=\"blind\">Cannot see: what the solver does between calls, and samples that run in parallel.</span></dd>\
                 <dt>samples/s, latency <span class=\"corner\">speed</span></dt><dd>Samples of a batch per second, mean over seeds; seconds of one \
                 sample alone, median of three.<br><span class=\"blind\">Cannot see: what else the machine did.</span></dd>\
                 <dt>memory <span class=\"corner\">speed</span></dt><dd>The largest resident memory of the process while the first seed was sampled, data \
                 and model included.<br><span class=\"blind\">Cannot see: how little it could be with smaller batches.</span></dd>";
        text + "</dl>"
    }

    fn provenance(&self) -> Result<String, Failure> {
        let e = self.evaluation;
        let sampler = toml::to_string(&e.request.sampler).map_err(|e| Failure::failed(format!("the sampler's settings: {e}")))?;
        let command: Vec<String> = std::env::args().skip(1).map(|argument| quoted(&argument)).collect();
        let facts = [
            ("model", self.model_file.display().to_string()),
            ("model's SHA-256", e.model_id.clone()),
            ("features", e.ruler.features().id()),
            ("hash of data and features", e.ruler.id().to_owned()),
            (
                "samples",
                format!("{} for each of seeds {} to {}", e.request.count, e.request.seed, e.request.seed + e.seeds as u64 - 1),
            ),
            ("batch", e.request.batch.to_string()),
            ("guidance", e.request.guidance.scale.to_string()),
            ("classes", format!("{:?}", e.request.classes)),
            ("threads", rayon::current_num_threads().to_string()),
            ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ];
        let mut text = format!("<pre>fokker {}</pre><table class=\"facts\"><tbody>", escape(&command.join(" ")));
        for (name, value) in facts {
            let _ = write!(text, "<tr><th>{name}</th><td>{}</td></tr>", escape(&value));
        }
        let _ = write!(
            text,
            "</tbody></table><details><summary>Settings of the sampler, in which each row replaces solver and steps</summary><pre>{}</pre></details>",
            escape(&sampler)
        );
        if let Some(config) = self.config {
            let run = config.to_toml()?;
            let _ = write!(text, "<details><summary>The run's configuration</summary><pre>{}</pre></details>", escape(&run));
        }
        Ok(text)
    }
}

/// A mean, and smaller half its interval.
fn cell(interval: &Interval) -> String {
    let text = plus_minus(interval);
    match text.split_once(" ± ") {
        Some((mean, half)) => format!("{mean}<small>&nbsp;±&nbsp;{half}</small>"),
        None => text,
    }
}

/// A number with its thousands apart.
fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or("")).collect();
    groups.join(",")
}

/// An argument as a shell reads it.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.into()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}

fn png(picture: &Picture) -> Result<String, Failure> {
    let bytes = picture.to_png().map_err(|e| Failure::failed(format!("a picture of the report: {e}")))?;
    Ok(format!("data:image/png;base64,{}", BASE64.encode(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted("solver.eta=0.5"), "solver.eta=0.5");
        assert_eq!(quoted("it's here"), "'it'\\''s here'");
        assert_eq!(quoted(""), "''");
        assert_eq!((thousands(7), thousands(1000), thousands(1_234_567)), ("7".into(), "1,000".into(), "1,234,567".into()));
    }
}

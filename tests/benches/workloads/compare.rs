//! A workload in all programs, in turn: medians, ratios and peak memory.

use serde::{Deserialize, Serialize};

use crate::calls::Sizes;
use crate::likelihood::{self, Accuracy};
use crate::programs::{Answer, Program};
use crate::{Arguments, Failure, How};

/// One process's measurement.
#[derive(Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) ms_all: Vec<f64>,
    pub(crate) peak_rss_mb: f64,
    /// Pages that a timed call touched for the first time, on average; of ours, where the system counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) page_faults: Option<f64>,
    /// Of a workload whose answers are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accuracy: Option<Accuracy>,
}

/// All rounds of one program on one workload.
#[derive(Default, Serialize)]
pub(crate) struct Summary {
    pub(crate) program: String,
    /// Median of all calls of all rounds.
    pub(crate) ms_median: f64,
    ms_10_percent: f64,
    ms_90_percent: f64,
    peak_rss_mb: f64,
    /// Per call; the most of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    page_faults: Option<f64>,
    /// Its time over ours: the median of the rounds' ratios, each of medians, with the least and the greatest.
    pub(crate) ratio: Option<[f64; 3]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<Accuracy>,
    /// Why there are no times.
    unsupported: Option<String>,
    #[serde(skip)]
    rounds: Vec<Vec<f64>>,
}

/// The number below which this part of the numbers lies.
pub(crate) fn quantile(mut all: Vec<f64>, q: f64) -> f64 {
    all.sort_by(f64::total_cmp);
    all[((all.len() - 1) as f64 * q).round() as usize]
}

pub(crate) fn median(all: Vec<f64>) -> f64 {
    quantile(all, 0.5)
}

impl Summary {
    pub(crate) fn measured(&self) -> bool {
        !self.rounds.is_empty()
    }

    fn add(&mut self, answer: Answer) {
        match answer {
            Answer::Measured(m) => {
                self.rounds.push(m.ms_all);
                self.peak_rss_mb = self.peak_rss_mb.max(m.peak_rss_mb);
                self.page_faults = m.page_faults.into_iter().chain(self.page_faults).reduce(f64::max);
                self.accuracy = m.accuracy;
            }
            Answer::Unsupported { unsupported } => {
                self.rounds.clear();
                self.unsupported = Some(unsupported);
            }
        }
    }

    fn close(&mut self) {
        if self.measured() {
            let all = self.rounds.concat();
            let at = |q| quantile(all.clone(), q);
            (self.ms_10_percent, self.ms_median, self.ms_90_percent) = (at(0.1), at(0.5), at(0.9));
        }
    }

    fn compare(&mut self, ours: &Summary) {
        if self.measured() {
            let ratios: Vec<f64> =
                self.rounds.iter().zip(&ours.rounds).map(|(p, o)| median(p.clone()) / median(o.clone())).collect();
            self.ratio = Some([0.5, 0.0, 1.0].map(|q| quantile(ratios.clone(), q)));
        }
    }
}

/// Ours and the peers', who take turns in every round; the first of the summaries is ours.
pub(crate) fn measure(workload: &str, sizes: &Sizes, peers: &[Program], how: &How) -> Result<Vec<Summary>, Failure> {
    let programs: Vec<&Program> = std::iter::once(&Program::Fokker).chain(peers.iter().filter(|p| p.takes(workload))).collect();
    let mut summaries: Vec<Summary> = programs.iter().map(|p| Summary { program: p.name(), ..Summary::default() }).collect();
    if workload == likelihood::WORKLOAD {
        likelihood::prepare()?;
    }
    for _ in 0..how.rounds {
        for (program, summary) in programs.iter().zip(&mut summaries) {
            if summary.unsupported.is_none() {
                summary.add(program.measure(workload, sizes, how)?);
            }
        }
    }
    summaries.iter_mut().for_each(Summary::close);
    let (ours, theirs) = summaries.split_first_mut().expect("ours at least");
    theirs.iter_mut().for_each(|s| s.compare(ours));
    Ok(summaries)
}

/// The least ratio among the programs whose name begins so: how much faster than the fastest of them fokker is.
pub(crate) fn against(summaries: &[Summary], prefix: &str) -> Option<f64> {
    summaries.iter().filter(|s| s.program.starts_with(prefix)).filter_map(|s| s.ratio).map(|r| r[0]).reduce(f64::min)
}

/// Measures a workload and prints its table.
pub(crate) fn run(workload: &str, peers: &[Program], arguments: &Arguments) -> Result<(), Failure> {
    let summaries = measure(workload, &arguments.sizes, peers, &arguments.how)?;
    let how = &arguments.how;
    if arguments.json {
        let line = serde_json::json!({
            "workload": workload, "threads": how.threads, "rounds": how.rounds, "programs": summaries,
            "best_pytorch_over_ours": against(&summaries, "pytorch"), "best_peer_over_ours": against(&summaries, ""),
        });
        println!("{line}");
        return Ok(());
    }
    println!("{workload}, threads of each program: {}", how.threads);
    println!("  {:22} {:>12}  {:20} {:>7}  {:16} {:>8}", "program", "median", "10 to 90 %", "ratio", "of rounds", "peak");
    for s in &summaries {
        if let Some(reason) = &s.unsupported {
            println!("  {:22} not measured: {reason}", s.program);
            continue;
        }
        let spread = format!("{:.2} to {:.2}", s.ms_10_percent, s.ms_90_percent);
        let [ratio, rounds] =
            s.ratio.map_or([const { String::new() }; 2], |[m, low, high]| [format!("{m:.2}"), format!("{low:.2} to {high:.2}")]);
        let peak = format!("{:.0} MB", s.peak_rss_mb);
        println!("  {:22} {:9.2} ms  {spread:20} {ratio:>7}  {rounds:16} {peak:>8}", s.program, s.ms_median);
        if let Some(Accuracy { evaluations, error, largest_error }) = s.accuracy {
            println!("  {:22} {evaluations} evaluations, errors of {error:.1e} nats, {largest_error:.1e} at most", "");
        }
    }
    let best = [("PyTorch", "pytorch"), ("all", "")].map(|(name, prefix)| (name, against(&summaries, prefix)));
    for (name, ratio) in best {
        if let Some(ratio) = ratio {
            println!("  best of {name} / fokker: {ratio:.2}");
        }
    }
    Ok(())
}

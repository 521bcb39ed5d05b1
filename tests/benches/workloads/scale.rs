//! How the time of the MNIST U-Net grows with batch, side, width and threads, as Markdown.

use crate::calls::Sizes;
use crate::compare::{self, Summary, against};
use crate::programs::Program;
use crate::{Arguments, Failure, How};

/// What changes, and the values it takes; everything else is as in [`BASE`].
const AXES: [(&str, &[usize]); 4] =
    [("batch", &[1, 2, 4, 8, 16, 32, 64]), ("side", &[16, 32, 64, 128]), ("width", &[16, 32, 64, 128]), ("threads", &[1, 2])];

const BASE: Sizes = Sizes { batch: Some(8), side: Some(32), width: Some(32) };

/// Measures and prints a table for each axis and task.
pub(crate) fn run(axes: &[String], peers: &[Program], arguments: &Arguments) -> Result<(), Failure> {
    let names = AXES.map(|(name, _)| name);
    if let Some(unknown) = axes.iter().find(|a| !names.contains(&a.as_str())) {
        return Err(format!("--scale {unknown}: expected one of {}", names.join(", ")).into());
    }
    if let Some(other) = peers.iter().find(|p| !p.is_pytorch()) {
        return Err(format!("--scale: {} has the workloads' sizes only; say --peer pytorch", other.name()).into());
    }
    for (axis, values) in AXES.iter().filter(|(name, _)| axes.is_empty() || axes.iter().any(|a| a == name)) {
        for task in ["forward", "train"] {
            table(axis, values, task, peers, arguments)?;
        }
    }
    Ok(())
}

/// The sizes and the threads where the axis has this value.
fn at(axis: &str, value: usize, how: &How) -> (Sizes, How) {
    let (mut sizes, mut how) = (BASE, how.clone());
    match axis {
        "batch" => sizes.batch = Some(value),
        "side" => sizes.side = Some(value),
        "width" => sizes.width = Some(value),
        _ => how.threads = value,
    }
    (sizes, how)
}

fn table(axis: &str, values: &[usize], task: &str, peers: &[Program], arguments: &Arguments) -> Result<(), Failure> {
    for (i, &value) in values.iter().enumerate() {
        let (sizes, how) = at(axis, value, &arguments.how);
        let summaries = compare::measure(&format!("mnist-{task}"), &sizes, peers, &how)?;
        if arguments.json {
            let point = serde_json::json!({
                "axis": axis, "value": value, "task": task, "threads": how.threads, "sizes": sizes, "programs": summaries,
            });
            println!("{point}");
            continue;
        }
        if i == 0 {
            head(axis, task, &summaries, &arguments.how);
        }
        let images = sizes.batch.expect("a batch") as f64;
        let time = |s: &Summary| if s.measured() { format!(" {:.2} |", s.ms_median) } else { " – |".into() };
        let times: String = summaries.iter().map(time).collect();
        let ratio = against(&summaries, "pytorch").map_or(String::new(), |r| format!(" {r:.2} |"));
        println!("| {value} |{times} {:.3} |{ratio}", summaries[0].ms_median / images);
    }
    if !arguments.json {
        println!();
    }
    Ok(())
}

fn head(axis: &str, task: &str, summaries: &[Summary], how: &How) {
    let fixed = [("batch", "8"), ("side", "32"), ("width", "32"), ("threads", &how.threads.to_string())];
    let fixed: Vec<String> =
        fixed.iter().filter(|(name, _)| *name != axis).map(|(name, value)| format!("{name} {value}")).collect();
    println!("MNIST U-Net, {task}, milliseconds by {axis} ({}):\n", fixed.join(", "));
    let programs: String = summaries.iter().map(|s| format!(" {} |", s.program)).collect();
    let peers = summaries.len() > 1;
    println!("| {axis} |{programs} fokker, per image |{}", if peers { " best of PyTorch / fokker |" } else { "" });
    println!("|---:|{}", "---:|".repeat(summaries.len() + 1 + usize::from(peers)));
}

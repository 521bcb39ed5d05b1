//! The roofline as `docs/roofline.md`.

use std::fmt::Write as _;

use super::{Machine, Roofline, Row};

fn giga(value: f64) -> String {
    let value = value / 1e9;
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

pub(super) fn count(threads: usize) -> String {
    if threads == 1 { "1 thread".into() } else { format!("{threads} threads") }
}

/// The page; the parts are the same operations with rising numbers of threads.
pub(super) fn markdown(parts: &[Roofline]) -> String {
    let machines: Vec<&Machine> = parts.iter().map(|part| &part.machine).collect();
    let mut page = String::new();
    introduction(&mut page, machines[0]);
    roofs(&mut page, &machines);
    operations(&mut page, parts);
    page
}

fn introduction(page: &mut String, machine: &Machine) {
    page.push_str(
        "# How near is the code to what the machine can do?\n\n\
         <!-- Written by `cargo xtask bench --roofline`: change tests/benches/workloads/roofline, not this page. -->\n\n\
         The operations of the workloads at the workloads' shapes, in `f32`, beside the roofs of the machine that they were measured on\n\
         (Williams, Waterman & Patterson 2009): no operation can be faster than its arithmetic at the peak, nor than its arrays, each moved\n\
         once, at the bandwidth of the nearest memory that holds them all. The *share* is the greater of these two times over the time it\n\
         takes, and the rate is in the unit of the greater one. What is counted is the direct form: Winograd's algorithm multiplies less, so a\n\
         convolution that uses it may have a share above 100 %; so may an operation whose arrays just do not fit a cache and are partly\n\
         found there all the same. Elementwise operations, norms and updates are held against memory alone, though exponentials cost\n\
         arithmetic too.\n\n\
         ![Rates against operations per byte, under the roofs](images/roofline.svg)\n\n",
    );
    let _ = writeln!(
        page,
        "Measured on {} with vectors of {} numbers. Times are the least of several runs, and so are the roofs', since other programs\n\
         on the machine only ever add to a time; ≥ says that no moment was found in which all threads had the machine for themselves.\n\
         `cargo xtask bench --roofline` writes this page and the picture anew for the machine\n\
         it runs on.\n",
        machine.processor, machine.lanes
    );
}

fn roofs(page: &mut String, machines: &[&Machine]) {
    let cells = |cell: &dyn Fn(&Machine) -> String| machines.iter().map(|m| format!(" {} |", cell(m))).collect::<String>();
    let _ = writeln!(page, "## Roofs\n\n|  |{}\n|---|{}", cells(&|m| count(m.threads)), "---:|".repeat(machines.len()));
    let _ = writeln!(page, "| multiply-adds, GFLOP/s |{}", cells(&|m| giga(m.peak)));
    for (i, level) in machines[0].levels.iter().enumerate() {
        let both = cells(&|m| format!("{} / {}", giga(m.levels[i].reading), giga(m.levels[i].copying)));
        let _ = writeln!(page, "| {}, GB/s reading / copying |{both}", level.name);
    }
    page.push('\n');
}

/// The rate against the roof that limits it, in its unit.
fn rate(row: &Row, machine: &Machine) -> String {
    if row.is_arithmetic(machine) {
        format!("{} GFLOP/s", giga(row.flops / row.seconds))
    } else {
        format!("{} GB/s", giga(row.bytes / row.seconds))
    }
}

fn operations(page: &mut String, parts: &[Roofline]) {
    let heads: String = parts.iter().map(|p| format!(" {} | share |", count(p.machine.threads))).collect();
    let _ = writeln!(page, "## Operations\n\n| operation | shape | FLOP/byte | fits |{heads}");
    let _ = writeln!(page, "|---|---|---:|---|{}", "---:|---:|".repeat(parts.len()));
    let rows = &parts[parts.len() - 1].rows;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    // Shapes of one operation together, in the order of first appearance.
    order.sort_by_key(|&i| rows.iter().position(|r| r.operation == rows[i].operation));
    for i in order {
        let row = &rows[i];
        let intensity = if row.flops > 0.0 { format!("{:.0}", row.intensity()) } else { "–".into() };
        let level = &parts[parts.len() - 1].machine.level(row.bytes).name;
        let rates = parts.iter().map(|part| {
            let row = &part.rows[i];
            let at_least = if row.quiet { "" } else { "≥ " };
            format!(" {} | {at_least}{:.0} % |", rate(row, &part.machine), 100.0 * row.share(&part.machine))
        });
        let _ = writeln!(page, "| {} | {} | {intensity} | {level} |{}", row.operation, row.shape, rates.collect::<String>());
    }
}

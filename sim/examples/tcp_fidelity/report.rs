//! The report: both distributions side by side, and the distance between them.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use plotters::prelude::*;

use crate::workload::Session;

const PARTS: [(&str, &str); 3] = [
    ("connect", "Until the connection stands"),
    ("transfer", "Until 64 KiB have arrived, from then on"),
    ("stall", "Longest time without a byte in a transfer"),
];
/// Times that differ by less count as equal: a busy machine with two cores keeps programs waiting.
const SLACK: Duration = Duration::from_millis(20);
/// And by this part of them: the kernel's timers ring up to an eighth late (its wheel gets coarser further ahead).
const SLACK_PART: u32 = 8;
/// What people have made of the figures: kept, and taken into the page.
const READING: &str = "reading.md";
const QUANTILES: [(f64, &str); 5] = [(0.5, "p50"), (0.75, "p75"), (0.9, "p90"), (0.95, "p95"), (0.99, "p99")];

/// Sessions at one loss.
pub(crate) struct Row {
    pub(crate) loss_percent: u8,
    pub(crate) linux: Vec<Session>,
    pub(crate) simulated: Vec<Session>,
}

/// Writes the page and its plots into a folder.
pub(crate) fn write(folder: &Path, kernel: &str, command: &str, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let mut page = format!(
        "# Does loss cost in the simulator what it costs on Linux?\n\n{}\n\
         The same code connects, sends 64 KiB and waits for an answer, over Linux ({kernel}) between two network namespaces and\n\
         over the simulated network. Each host sends {} Mbit/s and loses the given share of the packets that reach it. Both use\n\
         CUBIC and the product's socket options.\n\n\
         The distance is the greatest vertical distance between the two cumulative distributions, in percentage points, where\n\
         times that differ by up to {} ms and an eighth count as equal: kernel timers ring up to an eighth late. `noise` is what\n\
         two samples of these sizes of the same distribution differ by in one case of twenty.\n",
        in_short(rows),
        crate::BANDWIDTH / 1_000_000,
        SLACK.as_millis()
    );
    for (part, (name, what)) in PARTS.iter().enumerate() {
        write!(page, "\n## {what}\n\n![{what}]({name}.svg)\n\n")?;
        page += "| loss | | sessions | not in time |";
        QUANTILES.iter().for_each(|(_, name)| page += &format!(" {name} |"));
        page += " distance | noise |\n|---|---|---|---|---|---|---|---|---|---|---|\n";
        for row in rows {
            let [linux, simulated] = [&row.linux, &row.simulated].map(|sessions| times(sessions, part));
            let last = format!("{:.1} | {:.1} |", apart(row, part) * 100.0, noise(row) * 100.0);
            for (name, times, end) in [("Linux", &linux, last.as_str()), ("simulated", &simulated, " | |")] {
                let late = times.iter().filter(|time| time.is_none()).count();
                write!(page, "| {} % | {name} | {} | {late} |", row.loss_percent, times.len())?;
                for (share, _) in QUANTILES {
                    let at = ((times.len() as f64 * share) as usize).min(times.len() - 1);
                    let shown = times[at]
                        .map_or("-".to_owned(), |time| format!("{:.1} ms", time.as_secs_f64() * 1e3));
                    write!(page, " {shown} |")?;
                }
                writeln!(page, " {end}")?;
            }
        }
        draw(&folder.join(format!("{name}.svg")), what, part, rows)?;
    }
    let reading = folder.join(READING);
    if reading.exists() {
        write!(page, "\n## Notes\n\n{}", std::fs::read_to_string(reading)?)?;
    }
    write!(page, "\nMade as root with `{command}`. The notes, if any, are kept in `{READING}`.\n")?;
    std::fs::write(folder.join("README.md"), page)?;
    Ok(())
}

/// All times in nanoseconds, for whoever wants to look closer.
pub(crate) fn write_csv(folder: &Path, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    let mut file = csv::Writer::from_path(folder.join("sessions.csv"))?;
    file.write_record(["loss", "network", "connect", "transfer", "stall"])?;
    for row in rows {
        for (network, sessions) in [("linux", &row.linux), ("simulated", &row.simulated)] {
            for session in sessions {
                let times = session
                    .parts()
                    .map(|part| part.map_or(String::new(), |time| time.as_nanos().to_string()));
                let loss = row.loss_percent.to_string();
                file.write_record(
                    [loss.as_str(), network].into_iter().chain(times.iter().map(String::as_str)),
                )?;
            }
        }
    }
    Ok(file.flush()?)
}

/// The answer, before everything else.
fn in_short(rows: &[Row]) -> String {
    let mut text = String::new();
    for (part, what) in ["Connecting", "Transfers"].into_iter().enumerate() {
        let is_close = rows.iter().all(|row| apart(row, part) <= noise(row));
        let verdict =
            if is_close { "as on Linux, within the noise of the samples" } else { "not quite as on Linux" };
        let distances: Vec<_> = rows
            .iter()
            .map(|row| format!("{:.1} at {} %", apart(row, part) * 100.0, row.loss_percent))
            .collect();
        let noise = rows.iter().map(noise).fold(0.0, f64::max) * 100.0;
        text += &format!(
            "**{what}: {verdict}.** Percentage points between the two distributions: {} loss; noise {noise:.1}.\n",
            distances.join(", ")
        );
    }
    text
}

/// How far apart the two distributions are.
fn apart(row: &Row, part: usize) -> f64 {
    let [linux, simulated] = [&row.linux, &row.simulated].map(|sessions| times(sessions, part));
    distance(&linux, &simulated).max(distance(&simulated, &linux))
}

/// By how much two samples of these sizes of one distribution differ in one case of twenty (Kolmogorov and Smirnov).
fn noise(row: &Row) -> f64 {
    1.36 * (1.0 / row.linux.len() as f64 + 1.0 / row.simulated.len() as f64).sqrt()
}

/// The times of a part, sorted, those that were not in time last.
fn times(sessions: &[Session], part: usize) -> Vec<Option<Duration>> {
    let mut times: Vec<_> = sessions.iter().map(|session| session.parts()[part]).collect();
    times.sort_by_key(|time| time.unwrap_or(Duration::MAX));
    times
}

/// By how much more of `left` than of `right` is there by any moment, when `right` gets the slack.
fn distance(left: &[Option<Duration>], right: &[Option<Duration>]) -> f64 {
    let share = |times: &[Option<Duration>], until: Duration| {
        let count = times.partition_point(|time| time.is_some_and(|time| time <= until));
        count as f64 / times.len() as f64
    };
    let moments = left.iter().flatten();
    moments
        .map(|moment| share(left, *moment) - share(right, *moment + SLACK + *moment / SLACK_PART))
        .fold(0.0, f64::max)
}

fn draw(path: &Path, what: &str, part: usize, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (1120, 300)).into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, row) in root.split_evenly((1, rows.len())).iter().zip(rows) {
        let mut chart = ChartBuilder::on(panel)
            .caption(format!("{} % loss", row.loss_percent), ("sans-serif", 16))
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(40)
            .build_cartesian_2d((1f64..60_000f64).log_scale(), 0f64..100f64)?;
        chart
            .configure_mesh()
            .x_labels(5)
            .y_labels(5)
            .x_desc(format!("{what}, ms"))
            .y_desc("% of sessions")
            .draw()?;
        let lines = [
            ("Linux", &row.linux, BLACK.stroke_width(3)),
            ("simulated", &row.simulated, RED.stroke_width(1)),
        ];
        for (name, sessions, style) in lines {
            let times = times(sessions, part);
            let points = times.iter().enumerate().filter_map(|(place, time)| {
                let share = (place + 1) as f64 / times.len() as f64 * 100.0;
                time.map(|time| ((time.as_secs_f64() * 1e3).max(1.0), share))
            });
            chart
                .draw_series(LineSeries::new(points, style))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        }
        chart.configure_series_labels().position(SeriesLabelPosition::LowerRight).draw()?;
    }
    root.present()?;
    Ok(())
}

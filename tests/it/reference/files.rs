//! Reading the reference files: independently of Millrace's own reader of logs, and as simply as can be.

use super::{Expected, Identity};
use anyhow::{Context as _, Result};
use chrono::{DateTime, NaiveDateTime};
use flate2::read::GzDecoder;
use millrace_schemas::{EventTime, Window};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

/// What is read of a line of the log.
#[derive(Deserialize)]
struct Line {
    timestamp: String,
    #[serde(default)]
    dbname: String,
    #[serde(default)]
    application_name: String,
    #[serde(default)]
    backend_type: String,
    error_severity: String,
    message: String,
}

/// The windows of `expected.csv`.
pub fn windows(path: &Path) -> Result<BTreeMap<Identity, Expected>> {
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("read {}", path.display()))?;
    let rows = reader.deserialize().map(|row| {
        let row: Expected = row.context("a line of expected.csv")?;
        let field = |name: &str| row[name].clone();
        Ok(((field("window"), field("window_start"), field("workspace"), field("service")), row))
    });
    rows.collect()
}

/// The durations of each window of the log, sorted.
pub fn durations(path: &Path) -> Result<HashMap<Identity, Vec<f64>>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut durations: HashMap<Identity, Vec<f64>> = HashMap::new();
    for line in BufReader::new(GzDecoder::new(BufReader::new(file))).lines() {
        let line: Line = serde_json::from_str(&line?).context("a line of the log")?;
        let Some(duration) = duration_ms(&line) else { continue };
        let time = time(&line.timestamp)?;
        for window in Window::ALL {
            let start = window.start_of(time).to_string();
            let identity = (window.to_string(), start, line.dbname.clone(), line.application_name.clone());
            durations.entry(identity).or_default().push(duration);
        }
    }
    durations.values_mut().for_each(|durations| durations.sort_by(f64::total_cmp));
    Ok(durations)
}

/// Of lines such as `duration: 0.554 ms  statement: select 1`.
fn duration_ms(line: &Line) -> Option<f64> {
    let executed = line.backend_type == "client backend" && line.error_severity == "LOG";
    let (number, rest) = line.message.strip_prefix("duration: ")?.split_once(" ms  ")?;
    let executed =
        executed && ["statement: ", "execute ", "fastpath"].iter().any(|kind| rest.starts_with(kind));
    if executed { number.parse().ok() } else { None }
}

/// `2026-11-21 01:47:00.252 UTC`
fn time(text: &str) -> Result<EventTime> {
    let time =
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.3f UTC").with_context(|| text.to_owned())?;
    Ok(EventTime::from(DateTime::from_naive_utc_and_offset(time, chrono::Utc)))
}

//! The reference data: a real server's log, and the windows that DuckDB alone computed from it.

mod answers;
mod files;

use crate::harness::{Api, say_skipped};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

/// Statements in the log.
pub const RECORDS: usize = 142_657;
/// Just around the log's own time.
pub const FROM: &str = "2026-11-21T01:00:00Z";
pub const TO: &str = "2026-11-21T03:00:00Z";

/// Below this many durations a percentile may be one rank off; from there on 1 % of its value.
const RANK_TOLERANCE_BELOW: usize = 20;
/// The sketch's error.
const RELATIVE_ERROR: f64 = 0.01;
/// Sums are rounded to three decimals in the file.
const SUM_ERROR_MS: f64 = 0.000_6;

/// (window, start, workspace, service), as the file writes them
type Identity = (String, String, String, String);
/// A line of the file by its column names.
type Expected = HashMap<String, String>;

pub struct Reference {
    pub log: PathBuf,
    pub expected: PathBuf,
    windows: BTreeMap<Identity, Expected>,
    durations: HashMap<Identity, Vec<f64>>,
}

impl Reference {
    /// None, and a word on standard error, where the files are not there.
    pub fn find(test: &str) -> Result<Option<Self>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/postgres-log");
        let log = folder.join("postgresql-15.json.gz");
        if !log.exists() {
            say_skipped(test, &format!("{} is not there", log.display()));
            return Ok(None);
        }
        let expected = folder.join("expected.csv");
        let (windows, durations) = (files::windows(&expected)?, files::durations(&log)?);
        Ok(Some(Self { log, expected, windows, durations }))
    }

    /// Names of the workspaces, each once.
    pub fn workspaces(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.windows.keys().map(|(_, _, workspace, _)| workspace.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Fails with what differs between the server's answers and the file.
    pub async fn check(&self, api: &Api) -> Result<()> {
        let differences = self.differences(api).await?;
        ensure!(
            differences.is_empty(),
            "{} differences, such as\n{}",
            differences.len(),
            differences.iter().take(12).cloned().collect::<Vec<_>>().join("\n")
        );
        Ok(())
    }

    async fn differences(&self, api: &Api) -> Result<Vec<String>> {
        let mut answered = answers::windows(api, &self.workspaces()).await?;
        let mut differences = Vec::new();
        for (identity, expected) in &self.windows {
            match answered.remove(identity) {
                None => differences.push(format!("{identity:?} is missing")),
                Some(bucket) => differences.extend(self.compare(identity, expected, &bucket)?),
            }
        }
        differences.extend(answered.keys().map(|identity| format!("{identity:?} should not be there")));
        Ok(differences)
    }

    fn compare(&self, identity: &Identity, expected: &Expected, bucket: &Value) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for field in ["query_count", "success_count", "failed_count"] {
            if bucket[field].as_i64() != expected[field].parse().ok() {
                wrong.push(field);
            }
        }
        for field in ["min_duration_ms", "max_duration_ms"] {
            if bucket[field].as_f64() != number(expected, field)? {
                wrong.push(field);
            }
        }
        if !same_sum(bucket["sum_duration_ms"].as_f64(), number(expected, "sum_duration_ms")?) {
            wrong.push("sum_duration_ms");
        }
        for (field, exact, quantile) in [
            ("p50_duration_ms", "p50_disc_ms", 0.5),
            ("p95_duration_ms", "p95_disc_ms", 0.95),
            ("p99_duration_ms", "p99_disc_ms", 0.99),
        ] {
            let durations = self.durations.get(identity).map_or(&[][..], Vec::as_slice);
            if !same_percentile(bucket[field].as_f64(), number(expected, exact)?, durations, quantile) {
                wrong.push(field);
            }
        }
        if bucket["is_final"] != true {
            wrong.push("is_final");
        }
        Ok(wrong.into_iter().map(|field| describe(identity, field, expected, bucket)).collect())
    }
}

fn describe(identity: &Identity, field: &str, expected: &Expected, bucket: &Value) -> String {
    let exact = expected.get(&field.replace("_duration", "_disc")).or_else(|| expected.get(field));
    format!("{identity:?} {field}: {} instead of {exact:?}", bucket[field])
}

fn same_sum(found: Option<f64>, expected: Option<f64>) -> bool {
    match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= SUM_ERROR_MS,
        (found, expected) => found == expected,
    }
}

/// `sorted` are all durations of the window; `exact` is the one of nearest rank.
fn same_percentile(found: Option<f64>, exact: Option<f64>, sorted: &[f64], quantile: f64) -> bool {
    let (Some(found), Some(exact)) = (found, exact) else { return found == exact };
    let rank = nearest_rank(sorted.len(), quantile);
    assert!(sorted[rank].total_cmp(&exact).is_eq(), "the log and expected.csv disagree: {sorted:?} {exact}");
    let off = usize::from(sorted.len() < RANK_TOLERANCE_BELOW);
    let (low, high) = (sorted[rank.saturating_sub(off)], sorted[(rank + off).min(sorted.len() - 1)]);
    found >= low * (1.0 - RELATIVE_ERROR) && found <= high * (1.0 + RELATIVE_ERROR)
}

/// Counted from 0.
fn nearest_rank(count: usize, quantile: f64) -> usize {
    (1..=count)
        .position(|rank| rank as f64 >= quantile * count as f64)
        .expect("the last rank is past every quantile")
}

fn number(row: &Expected, field: &str) -> Result<Option<f64>> {
    let text = &row[field];
    if text.is_empty() {
        Ok(None)
    } else {
        text.parse().map(Some).with_context(|| format!("{field}: {text}"))
    }
}

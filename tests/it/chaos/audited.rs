//! Our own auditor as an operator runs it: after other people's programs have judged, it must come to the same.

use super::{plan::Phase, site::Site};
use crate::harness::BINARY;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Fails unless `millrace audit` ends with 0 and has compared something of everything.
pub async fn must_agree(site: &Site, phase: &Phase) -> Result<String> {
    let dedupe_records = phase.dedupe_records.to_string();
    let output = tokio::process::Command::new(BINARY)
        .arg("audit")
        .args(site.installation.connection())
        .args(["--archive-url", &site.storage.url(), "--dedupe-records", &dedupe_records, "--json"])
        .envs(site.storage.environment())
        .kill_on_drop(true)
        .output()
        .await
        .context("run millrace audit")?;
    let said = String::from_utf8_lossy(&output.stderr);
    std::fs::write(site.folder.join("audit.json"), &output.stdout)?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no report of millrace audit: {said}"))?;
    let found = &report["findings"];
    ensure!(output.status.success() && report["agrees"] == true, "millrace audit: {found:#} {said}");
    for compared in ["letters", "manifests", "archived", "window_sums", "ledger_rows"] {
        ensure!(report[compared].as_i64() > Some(0), "millrace audit compared no {compared}: {report:#}");
    }
    ensure!(report["total"]["read"].as_i64() > Some(0), "millrace audit read nothing: {report:#}");
    Ok(format!("millrace audit agrees: {}", report["total"]))
}

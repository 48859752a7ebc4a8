//! Writes down what Millrace says and what the log has, and lets DuckDB decide.

use super::{
    dump,
    load::{Cast, Journal},
    plan::Phase,
    settle::settle,
    site::Site,
};
use crate::harness::run;
use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
};

pub struct Judge<'a> {
    pub python: &'a Path,
    pub phase: &'a Phase,
}

/// Fails with all that is missing, doubled or different.
pub async fn judge(site: &Site, cast: &Cast, journal: &Journal, judge: &Judge<'_>) -> Result<String> {
    let folder = &site.folder;
    let mut created = Map::new();
    for workspace in
        cast.tenants.iter().map(|tenant| tenant.workspace).chain([cast.witness.workspace, cast.late])
    {
        created.insert(workspace.to_string(), site.created(workspace).await?.into());
    }
    let workspaces: Vec<String> = created.keys().cloned().collect();
    let settled = settle(site, &workspaces).await?;
    write_lines(&folder.join("rows.ndjson"), &settled.windows)?;
    write_lines(&folder.join("ledger.ndjson"), &settled.ledger)?;
    let (brokers, topics) = (&site.installation.log.brokers, &site.installation.topics);
    dump::raw(brokers, &topics.metrics, &folder.join("raw.ndjson"))?;
    dump::letters(brokers, &topics.dead_letters, &folder.join("letters.ndjson"))?;
    journal.write(&folder.join("acknowledged.ndjson"))?;
    let archive = site.storage.download(&folder.join("archive"), judge.python).await?;
    let case = json!({
        "workspaces": created,
        "dedupe_records": judge.phase.dedupe_records,
        "archive": archive,
    });
    fs::write(folder.join("case.json"), case.to_string())?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/chaos/audit.py");
    let arguments = [script.display().to_string(), folder.display().to_string()];
    run(judge.python, &arguments).await.context("the audit")
}

fn write_lines(to: &Path, lines: &[Value]) -> Result<()> {
    let mut file = BufWriter::new(File::create(to)?);
    for line in lines {
        serde_json::to_writer(&mut file, line)?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}

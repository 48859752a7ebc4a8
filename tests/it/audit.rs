//! `millrace audit`: agrees with an honest installation, also a busy one, and finds each planted lie.

use crate::harness::{ADMIN_KEY, BINARY, DEVELOPMENT_WORKSPACE, Installation, Process, metric, metric_at};
use anyhow::{Context as _, Result, ensure};
use chrono::{TimeDelta, Utc};
use millrace_schemas::dead_letter::{REASON, SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC};
use rdkafka::Message as _;
use serde_json::Value;
use std::{fs, path::PathBuf};
use uuid::Uuid;

/// Whether it ended with 0, and the report.
async fn audit(installation: &Installation, more: &[&str]) -> Result<(bool, Value)> {
    let arguments = installation.command("audit", &[&["--json"], more].concat());
    let output = tokio::process::Command::new(BINARY).args(arguments).kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    eprintln!("{said}");
    let report = serde_json::from_slice(&output.stdout).with_context(|| format!("no report: {said}"))?;
    Ok((output.status.success(), report))
}

pub async fn must_agree(installation: &Installation, more: &[&str]) -> Result<Value> {
    let (agrees, report) = audit(installation, more).await?;
    ensure!(agrees && report["agrees"] == true, "{report:#}");
    Ok(report)
}

/// The lie is found under this name, by an example that has this text.
async fn must_find(installation: &Installation, check: &str, example: &str) -> Result<()> {
    let (agrees, report) = audit(installation, &[]).await?;
    ensure!(!agrees && report["agrees"] == false, "{check} is not found: {report:#}");
    let examples = report["findings"][check]["examples"].as_array();
    let examples = examples.with_context(|| format!("no {check}: {report:#}"))?;
    let told = examples.iter().filter_map(Value::as_str).any(|text| text.contains(example));
    ensure!(told, "{example} is not in {examples:?}");
    Ok(())
}

fn json(records: &[Value]) -> Vec<Vec<u8>> {
    records.iter().map(|record| record.to_string().into_bytes()).collect()
}

/// Of each kind that there is: 60 by the edge, 5 of them again; and by a producer of its own 20 new ones (two of which are
/// old, and one still runs), 4 again and 3 that can't be counted.
async fn fill(installation: &Installation, up: &Process) -> Result<()> {
    let tenant = installation.add_tenant("audited").await?;
    let mut records: Vec<Value> = (0..30).map(|_| metric("select 1")).collect();
    records.extend((0..30).map(|_| tenant.metric("select 2")));
    up.api(ADMIN_KEY).ingest_all(&records).await?;
    up.api(ADMIN_KEY).ingest_all(&records[..5]).await?;
    let mut direct: Vec<Value> = (0..17).map(|_| tenant.metric("select 3")).collect();
    direct
        .extend([40, 50].map(|minutes| metric_at("select 'late'", Utc::now() - TimeDelta::minutes(minutes))));
    direct.push(metric("select 'running'"));
    direct[19]["status"] = "running".into();
    direct.extend(direct[3..7].to_vec());
    let mut unknown = metric("select 'lost'");
    unknown["workspace_id"] = Uuid::now_v7().to_string().into();
    direct.extend([unknown, metric_at("select 'ahead'", Utc::now() + TimeDelta::hours(1))]);
    let mut payloads = json(&direct);
    payloads.push(b"garbage".to_vec());
    installation.log.produce("direct", payloads.iter().map(Vec::as_slice)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn agrees_with_an_honest_installation_and_finds_each_lie() -> Result<()> {
    let installation = Installation::create("audit").await?;
    let up = installation.start("up", &[]).await?;
    fill(&installation, &up).await?;
    let report = must_agree(&installation, &[]).await?;
    let total = &report["total"];
    for (name, expected) in
        [("read", 92), ("from_edge", 65), ("counted", 79), ("running", 1), ("duplicate", 9), ("archived", 80)]
    {
        ensure!(total[name] == expected, "{name} is not {expected}: {total}");
    }
    for reason in ["invalid", "unknown_workspace", "future"] {
        ensure!(total["dead_lettered"][reason] == 1, "{reason}: {total}");
    }
    ensure!(report["archived"] == 80 && report["letters"] == 3, "{report:#}");

    lies_in_the_database(&installation).await?;
    a_file_that_is_gone(&installation).await?;
    lies_among_the_letters(&installation).await
}

async fn lies_in_the_database(installation: &Installation) -> Result<()> {
    let lies = [
        ("ledger", "counted", "UPDATE ledger_minutes SET counted = counted + {} WHERE counted > 0"),
        ("ledger", "duplicate", "UPDATE ledger_minutes SET duplicate = duplicate + {} WHERE duplicate > 0"),
        ("ledger", "archived", "UPDATE ledger_minutes SET archived = archived + {} WHERE archived > 0"),
        ("windows", DEVELOPMENT_WORKSPACE, "UPDATE aggregates_5s SET query_count = query_count + {}"),
    ];
    for (check, example, sql) in lies {
        installation.database.execute(&sql.replace("{}", "1")).await?;
        must_find(installation, check, example).await?;
        installation.database.execute(&sql.replace("{}", "(-1)")).await?;
    }
    must_agree(installation, &[]).await.map(|_| ())
}

async fn a_file_that_is_gone(installation: &Installation) -> Result<()> {
    let file = parquet_file(installation.archive())?.context("no Parquet file")?;
    let aside = installation.file("aside.parquet");
    fs::rename(&file, &aside)?;
    let name = file.file_name().and_then(|name| name.to_str()).context("a name")?;
    must_find(installation, "file_missing", name).await?;
    fs::rename(&aside, &file)?;
    must_agree(installation, &[]).await.map(|_| ())
}

fn parquet_file(folder: PathBuf) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let found = if path.is_dir() { parquet_file(path)? } else { Some(path) };
        if let Some(found) = found.filter(|path| path.extension().is_some_and(|ext| ext == "parquet")) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// These stay: what is in the log can't be taken back.
async fn lies_among_the_letters(installation: &Installation) -> Result<()> {
    let (log, topics) = (&installation.log, &installation.topics);
    let records = log.wait_for(&topics.metrics, 92).await?;
    let is = |payload: &[u8], text: &str| String::from_utf8_lossy(payload).contains(text);
    let find = |text: &str| {
        let record = records.iter().find(|record| record.payload().is_some_and(|payload| is(payload, text)));
        record.with_context(|| format!("no record has {text}"))
    };
    for (text, check) in [("select 1", "letter_of_counted"), ("garbage", "letter_twice")] {
        let record = find(text)?;
        let (partition, offset) = (record.partition().to_string(), record.offset().to_string());
        letter(installation, &partition, &offset).await?;
        must_find(installation, check, &format!("{partition}-{offset}")).await?;
    }
    letter(installation, "0", "123456").await?;
    must_find(installation, "letter_of_nothing", "0-123456").await
}

async fn letter(installation: &Installation, partition: &str, offset: &str) -> Result<()> {
    let headers = [
        (REASON, "invalid"),
        (SOURCE_TOPIC, installation.topics.metrics.as_str()),
        (SOURCE_PARTITION, partition),
        (SOURCE_OFFSET, offset),
    ];
    installation.log.produce_to(&installation.topics.dead_letters, b"a lie", &headers).await
}

/// By other rules than the processor's a record is a dead letter, and has none.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_letter_is_found() -> Result<()> {
    let installation = Installation::create("audit_letter").await?;
    let _query = installation.start("query", &[]).await?;
    let _processor = installation.start("processor", &["--no-archive", "--future-skew", "1h"]).await?;
    let ahead = metric_at("select 'ahead'", Utc::now() + TimeDelta::minutes(30));
    let payloads = json(&[metric("select 1"), ahead]);
    installation.log.produce("direct", payloads.iter().map(Vec::as_slice)).await?;
    must_agree(&installation, &["--no-archive", "--future-skew", "1h"]).await?;
    let (agrees, report) = audit(&installation, &["--no-archive"]).await?;
    ensure!(!agrees && report["findings"]["letter_missing"]["count"] == 1, "{report:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_installation_agrees_and_a_stopped_one_is_told() -> Result<()> {
    let installation = Installation::create("audit_busy").await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    api.ingest_all(&[metric("select 1")]).await?;
    let busy = async {
        loop {
            let records: Vec<Value> = (0..20).map(|_| metric("select 1")).collect();
            api.ingest_all(&records).await?;
        }
    };
    let audited = tokio::select! {
        ended = busy => ended,
        report = must_agree(&installation, &[]) => report,
    }?;
    ensure!(audited["total"]["counted"].as_i64().is_some_and(|counted| counted > 0), "{audited:#}");
    drop(up);

    let edge = installation.start("ingest", &[]).await?;
    edge.api(ADMIN_KEY).ingest_all(&[metric("select 'nobody counts it'")]).await?;
    let (agrees, report) = audit(&installation, &["--wait", "1s"]).await?;
    ensure!(!agrees && report["findings"]["not_processed"]["count"].as_i64() > Some(0), "{report:#}");
    Ok(())
}

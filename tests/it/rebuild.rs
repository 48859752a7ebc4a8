//! `millrace rebuild`: finds what the tables hold wrongly, and mends it beside running roles.

mod killed;
mod lost;

use crate::harness::{
    ADMIN_KEY, BINARY, DEVELOPMENT_SERVICE, DEVELOPMENT_WORKSPACE, Installation, PATIENCE, Process, Tenant,
    metric_at, until,
};
use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, DurationRound as _, SecondsFormat, TimeDelta, Utc};
use serde_json::Value;
use std::{collections::BTreeSet, process::Stdio};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStderr, ChildStdin},
};

/// Windows that have ended have left the memory almost at once.
const HORIZON: [&str; 2] = ["--late-horizon", "1s"];

/// A range of ten minutes, half an hour ago.
struct Range {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Range {
    fn new() -> Result<Self> {
        let from = (Utc::now() - TimeDelta::minutes(30)).duration_trunc(TimeDelta::minutes(5))?;
        Ok(Self { from, to: from + TimeDelta::minutes(10) })
    }

    /// So many seconds after its begin.
    fn at(&self, second: i64) -> DateTime<Utc> {
        self.from + TimeDelta::seconds(second)
    }

    fn text(&self, second: i64) -> String {
        text(self.at(second))
    }

    /// What `millrace rebuild` is told.
    fn command(&self, installation: &Installation, more: &[&str]) -> Vec<String> {
        let (from, to) = (text(self.from), text(self.to));
        let arguments = [&["--from", &from, "--to", &to][..], &HORIZON, more].concat();
        installation.command("rebuild", &arguments)
    }

    /// The differences and the report that `--json` prints.
    async fn rebuild(&self, installation: &Installation, more: &[&str]) -> Result<(Vec<Value>, Value)> {
        let printed = installation.run(&self.command(installation, &[&["--json"], more].concat())).await?;
        let lines: Result<Vec<Value>, _> = printed.lines().map(serde_json::from_str).collect();
        let mut lines = lines.with_context(|| printed.clone())?;
        let report = lines.pop().context("no report")?;
        Ok((lines, report))
    }
}

fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Records in the range, one each second for so many seconds, of the development workspace and of the tenant in turn.
fn records(range: &Range, tenant: &Tenant, seconds: i64) -> Vec<Value> {
    let record = |second: i64| {
        let mut record = metric_at("select 1", range.at(second));
        if second % 2 == 1 {
            record["workspace_id"] = tenant.workspace.to_string().into();
            record["service_id"] = tenant.service.to_string().into();
        }
        record["duration_ms"] = (second + 1).into();
        record
    };
    (0..seconds).map(record).collect()
}

async fn produce(installation: &Installation, key: &str, records: &[Value]) -> Result<()> {
    let payloads: Vec<Vec<u8>> = records.iter().map(|record| record.to_string().into_bytes()).collect();
    installation.log.produce(key, payloads.iter().map(Vec::as_slice)).await
}

/// Waits until the tables hold so many records in final rows: a final row follows an early one of the same records.
async fn stored(installation: &Installation, count: i64) -> Result<()> {
    until(&format!("{count} records are stored"), PATIENCE, async || {
        for window in ["5s", "1m", "5m"] {
            let sql = format!(
                "SELECT coalesce(sum(query_count) FILTER (WHERE is_final), 0)::bigint FROM aggregates_{window}"
            );
            let found = installation.database.number(&sql).await?;
            ensure!(found == count, "{found} in windows of {window}");
        }
        Ok(())
    })
    .await
}

async fn total(installation: &Installation) -> Result<i64> {
    installation.database.number("SELECT coalesce(sum(query_count), 0)::bigint FROM aggregates_5s").await
}

async fn archived(process: &Process, count: i64) -> Result<()> {
    until(&format!("{count} records are archived"), PATIENCE, async || {
        #[expect(clippy::cast_possible_truncation, reason = "a counter of whole numbers")]
        let found = process.api("").counter("millrace_archive_records_total", &[]).await? as i64;
        ensure!(found == count, "{found}");
        Ok(())
    })
    .await
}

/// Kind, window and start of a difference.
fn names(differences: &[Value]) -> BTreeSet<(String, String, String)> {
    let name = |difference: &Value, of| difference[of].as_str().unwrap_or_default().to_owned();
    differences.iter().map(|d| (name(d, "kind"), name(d, "window"), name(d, "window_start"))).collect()
}

fn named<const N: usize>(expected: [(&str, &str, String); N]) -> BTreeSet<(String, String, String)> {
    expected.map(|(kind, window, start)| (kind.to_owned(), window.to_owned(), start)).into()
}

/// Changes two rows, deletes one and adds one; the differences that this makes.
async fn corrupt(installation: &Installation, range: &Range) -> Result<BTreeSet<(String, String, String)>> {
    let of = format!("workspace_id = '{DEVELOPMENT_WORKSPACE}' AND window_start =");
    let sql = format!(
        "UPDATE aggregates_5s SET query_count = query_count + 7 WHERE {of} '{}';
         UPDATE aggregates_5m SET max_duration_ms = 1e6 WHERE {of} '{}';
         DELETE FROM aggregates_1m WHERE {of} '{}';
         CREATE TABLE added AS SELECT * FROM aggregates_5s WHERE {of} '{}';
         UPDATE added SET window_start = '{}';
         INSERT INTO aggregates_5s SELECT * FROM added;
         DROP TABLE added;",
        range.text(10),
        range.text(0),
        range.text(60),
        range.text(20),
        range.text(500),
    );
    installation.database.execute(&sql).await?;
    Ok(named([
        ("different", "5s", range.text(10)),
        ("different", "5m", range.text(0)),
        ("only_rebuilt", "1m", range.text(60)),
        ("only_stored", "5s", range.text(500)),
    ]))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_wrongly_is_found_and_mended() -> Result<()> {
    let installation = Installation::create("rebuild").await?;
    let range = Range::new()?;
    let up = installation.start("up", &HORIZON).await?;
    let tenant = installation.add_tenant("rebuilt").await?;
    let first = records(&range, &tenant, 120);
    up.api(ADMIN_KEY).ingest_all(&first).await?;
    up.api(ADMIN_KEY).ingest_all(&first[..30]).await?;
    stored(&installation, 120).await?;
    archived(&up, 120).await?;
    drop(up);

    // Of what comes now the archive will not hear.
    let _processor = installation.start("processor", &[&["--no-archive"][..], &HORIZON].concat()).await?;
    let more = records(&range, &tenant, 40);
    produce(&installation, "late", &more).await?;
    produce(&installation, "late", &more[..5]).await?;
    stored(&installation, 160).await?;
    let (differences, report) = range.rebuild(&installation, &[]).await?;
    ensure!(differences.is_empty(), "an honest run differs: {differences:?}");
    let counted = (&report["report"]["records_archive"], &report["report"]["records_log"]);
    ensure!(*counted.0 == 120 && *counted.1 == 40, "{report}");

    let expected = corrupt(&installation, &range).await?;
    let (differences, report) = range.rebuild(&installation, &[]).await?;
    ensure!(names(&differences) == expected, "{differences:?} instead of {expected:?}");
    ensure!(report["report"]["largest"]["column"] == "max_duration_ms", "{report}");
    let other = tenant.workspace.to_string();
    let (differences, _) = range.rebuild(&installation, &["--workspace", &other]).await?;
    ensure!(differences.is_empty(), "of another workspace: {differences:?}");

    let refused = range.rebuild(&installation, &["--apply", "--yes"]).await.err();
    let said = refused.map(|error| format!("{error:#}")).context("fewer records are not refused")?;
    ensure!(said.contains("--allow-fewer") && total(&installation).await? != 160, "{said}");
    let (_, report) = range.rebuild(&installation, &["--apply", "--yes", "--allow-fewer"]).await?;
    ensure!(report["applied"]["written"] == 3 && report["applied"]["removed"] == 1, "{report}");
    ensure!(total(&installation).await? == 160, "the sum is right again");
    let (differences, report) = range.rebuild(&installation, &["--apply", "--yes"]).await?;
    ensure!(differences.is_empty() && report["applied"].is_null(), "a second time: {differences:?} {report}");

    late_records_merge(&installation, &range).await?;
    let left = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'rebuild%'";
    ensure!(installation.database.number(left).await? == 0, "tables are left");
    Ok(())
}

/// A late record goes into the replaced row, once.
async fn late_records_merge(installation: &Installation, range: &Range) -> Result<()> {
    let row = |column: &str| {
        format!(
            "SELECT {column} FROM aggregates_5s WHERE workspace_id = '{DEVELOPMENT_WORKSPACE}' \
             AND service_id = '{DEVELOPMENT_SERVICE}' AND window_start = '{}'",
            range.text(10)
        )
    };
    let (count, revision) = (row("query_count"), row("revision"));
    let before =
        (installation.database.number(&count).await?, installation.database.number(&revision).await?);
    let late = [metric_at("select 'late'", range.at(11))];
    produce(installation, "late", &late).await?;
    produce(installation, "late", &late).await?;
    stored(installation, 161).await?;
    let after = (installation.database.number(&count).await?, installation.database.number(&revision).await?);
    ensure!(after == (before.0 + 1, before.1 + 1), "{after:?} after {before:?}");
    let (differences, _) = range.rebuild(installation, &[]).await?;
    ensure!(differences.is_empty(), "after a late record: {differences:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_changed_since_is_not_replaced() -> Result<()> {
    let installation = Installation::create("rebuild_changed").await?;
    let range = Range::new()?;
    let up = installation.start("up", &HORIZON).await?;
    let tenant = installation.add_tenant("rebuilt").await?;
    up.api(ADMIN_KEY).ingest_all(&records(&range, &tenant, 60)).await?;
    stored(&installation, 60).await?;
    corrupt(&installation, &range).await?;
    let before = total(&installation).await?;
    let output = answer_after(&installation, &range, "y\n", async || {
        let sql = format!(
            "UPDATE aggregates_5s SET revision = revision + 1 WHERE window_start = '{}'",
            range.text(10)
        );
        installation.database.execute(&sql).await
    })
    .await?;
    ensure!(output.contains("have changed since they were compared"), "{output}");
    ensure!(total(&installation).await? == before, "nothing is changed");

    let output = answer_after(&installation, &range, "n\n", async || Ok(())).await?;
    ensure!(output.contains("not applied") && total(&installation).await? == before, "{output}");
    let output = answer_after(&installation, &range, "y\n", async || Ok(())).await?;
    ensure!(output.contains("applied: "), "{output}");
    ensure!(total(&installation).await? == 60, "the tables are right again");
    Ok(())
}

/// Runs `rebuild --apply`, does something when it asks, answers, and returns all that it said.
async fn answer_after(
    installation: &Installation,
    range: &Range,
    answer: &str,
    meanwhile: impl AsyncFnOnce() -> Result<()>,
) -> Result<String> {
    let (child, mut stdin, mut stderr, mut said) = asked(installation, range).await?;
    meanwhile().await?;
    stdin.write_all(answer.as_bytes()).await?;
    drop(stdin);
    stderr.read_to_string(&mut said).await?;
    let output = child.wait_with_output().await?;
    Ok(said + &String::from_utf8_lossy(&output.stdout))
}

/// A `rebuild --apply` that has asked and waits for an answer, and what it has said so far.
async fn asked(
    installation: &Installation,
    range: &Range,
) -> Result<(Child, ChildStdin, ChildStderr, String)> {
    let mut child = tokio::process::Command::new(BINARY)
        .args(range.command(installation, &["--apply", "--allow-fewer"]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, mut stderr) = (child.stdin.take().context("stdin")?, child.stderr.take().context("stderr")?);
    let mut said = String::new();
    let asked = async {
        let mut byte = [0];
        while !said.contains("[y/N]") {
            ensure!(stderr.read(&mut byte).await? == 1, "it ended without asking: {said}");
            said.push(char::from(byte[0]));
        }
        Ok(())
    };
    tokio::time::timeout(2 * PATIENCE, asked).await.context("it does not ask")??;
    Ok((child, stdin, stderr, said))
}

/// A processor may hold windows for longer than the one who rebuilds believes: it tells itself.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_processor_still_holds_is_refused_whatever_is_given() -> Result<()> {
    let installation = Installation::create("rebuild_horizon").await?;
    let range = Range::new()?;
    let up = installation.start("up", &["--late-horizon", "2h"]).await?;
    let api = up.api(ADMIN_KEY);
    api.ingest_all(&[metric_at("select 'late'", range.at(3)), metric_at("select 1", Utc::now())]).await?;
    until("both are stored", PATIENCE, async || {
        let count = total(&installation).await?;
        ensure!(count == 2, "{count}");
        Ok(())
    })
    .await?;
    // Of a partition to which nothing came the processor tells a little later.
    until("it says what the processor holds", PATIENCE, async || {
        let refused = installation.run(&range.command(&installation, &["--wait", "2s"])).await.err();
        let said = refused.map(|error| format!("{error:#}")).context("it was not refused")?;
        ensure!(said.contains("late horizon of 7200 s"), "{said}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_rebuilt_is_refused_with_the_reason() -> Result<()> {
    let installation = Installation::create("rebuild_refused").await?;
    let up = installation.start("up", &[]).await?;
    up.api(ADMIN_KEY).ingest_all(&[metric_at("select 1", Utc::now())]).await?;
    until("it is stored", PATIENCE, async || {
        ensure!(total(&installation).await? == 1);
        Ok(())
    })
    .await?;
    let now = Utc::now().duration_trunc(TimeDelta::minutes(5))?;
    let refused = async |from: DateTime<Utc>, to: DateTime<Utc>| {
        let range = Range { from, to };
        let error = installation.run(&range.command(&installation, &["--wait", "1s"])).await.err();
        error.map(|error| format!("{error:#}")).context("it was not refused")
    };
    until("it says until when it can be", PATIENCE, async || {
        let said = refused(now, now + TimeDelta::minutes(5)).await?;
        ensure!(said.contains("still open or held") && said.contains("--to can be"), "{said}");
        Ok(())
    })
    .await?;
    let said = refused(now - TimeDelta::seconds(1), now).await?;
    ensure!(said.contains("a part of a window"), "{said}");
    let said = refused(now, now).await?;
    ensure!(said.contains("is not before"), "{said}");
    Ok(())
}

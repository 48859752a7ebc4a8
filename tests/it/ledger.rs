//! The ledger says what became of each record, by minute of arrival, and goes on to say so after a kill -9.

use crate::harness::{
    ADMIN_KEY, Api, DEVELOPMENT_SERVICE, DEVELOPMENT_WORKSPACE, Installation, PATIENCE, Process,
    WORKSPACE_KEY, count, metric, metric_at, until,
};
use anyhow::{Result, ensure};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// The rest of a minute, and the difference of clocks that is allowed for.
const MINUTES_PATIENCE: Duration = Duration::from_secs(60 + 5).saturating_add(PATIENCE);

/// Counted, accepted at the edge; one of them is also a duplicate.
const BY_EDGE: usize = 5;
/// Counted, produced directly.
const DIRECT: usize = 4;

struct World {
    installation: Installation,
    ingest: Process,
    query: Process,
    began: DateTime<Utc>,
}

#[tokio::test(flavor = "multi_thread")]
async fn says_what_became_of_each_record_and_stays_so() -> Result<()> {
    let installation = Installation::create("ledger").await?;
    let ingest = installation.start("ingest", &[]).await?;
    let query = installation.start("query", &[]).await?;
    let world = World { installation, ingest, query, began: Utc::now() - TimeDelta::minutes(1) };
    let processor = world.installation.start("processor", &[]).await?;
    world.send().await?;
    let expected = world.expected();
    world.until_told(&expected).await?;
    // In the middle of its work, but everything is told: what it does again must not be told again.
    processor.kill()?;
    let processor = world.installation.start("processor", &[]).await?;
    world.send_late().await?;
    let expected =
        sum(&expected, &json!({"read": 3, "counted": 3, "late": 1, "backfilled": 1, "archived": 3}));
    world.until_told(&expected).await?;
    processor.kill()?;
    let processor = world.installation.start("processor", &[]).await?;
    world.until_balanced(&expected).await?;
    world.check_others(&processor).await
}

impl World {
    fn api(&self) -> Api {
        self.query.api(ADMIN_KEY)
    }

    /// Everything that can become of a record, but for lateness.
    async fn send(&self) -> Result<()> {
        let edge = self.ingest.api(WORKSPACE_KEY);
        let mut by_edge: Vec<Value> = (0..BY_EDGE).map(|_| metric("select 'by the edge'")).collect();
        by_edge.push(by_edge[0].clone());
        let mut running = metric("select 'still'");
        running["status"] = "running".into();
        by_edge.push(running);
        edge.ingest_all(&by_edge).await?;
        let direct: Vec<Value> = (0..DIRECT).map(|_| metric("select 'directly'")).collect();
        let mut negative = metric("select 'in no time'");
        negative["duration_ms"] = (-1).into();
        let mut stranger = metric("select 'whose?'");
        stranger["workspace_id"] = Uuid::from_u128(1).to_string().into();
        let far = metric_at("select 'some day'", Utc::now() + TimeDelta::days(365));
        let records = direct.iter().chain([&direct[1], &negative, &stranger, &far]);
        let mut payloads: Vec<Vec<u8>> = records.map(|record| record.to_string().into_bytes()).collect();
        payloads.push(b"garbage".to_vec());
        payloads.push(Vec::new());
        self.installation.log.produce("one partition", payloads.iter().map(Vec::as_slice)).await
    }

    /// One record for a window that is open, one for a window that has closed but is held, one for one that has left.
    async fn send_late(&self) -> Result<()> {
        let api = self.api();
        until("the wall clock closes the windows", PATIENCE, async || {
            let pipeline = api.get("/api/v1/pipeline").await?;
            ensure!(pipeline["watermark"]["reason"] == "wall_clock", "{pipeline}");
            Ok(())
        })
        .await?;
        let ages = [-TimeDelta::minutes(1), TimeDelta::seconds(25), TimeDelta::days(40)];
        let records = ages.map(|age| metric_at("select 'late?'", Utc::now() - age).to_string());
        self.installation.log.produce("one partition", records.iter().map(String::as_bytes)).await
    }

    /// What the rows of the development workspace must come to.
    fn expected(&self) -> Value {
        let accepted = BY_EDGE + 2;
        let counted = BY_EDGE + DIRECT;
        json!({
            "accepted": accepted, "from_edge": accepted, "read": accepted + DIRECT + 3,
            "counted": counted, "running": 1, "duplicate": 2, "late": 0, "backfilled": 0,
            "dead_lettered": {"invalid": 1, "unknown_workspace": 0, "future": 1}, "archived": counted + 1,
        })
    }

    fn path(&self, of: &str) -> String {
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        format!(
            "/api/v1{of}/ledger?from={}&to={}",
            text(self.began),
            text(Utc::now() + TimeDelta::minutes(1))
        )
    }

    async fn until_told(&self, expected: &Value) -> Result<()> {
        let api = self.api();
        until("the ledger has all", PATIENCE, async || {
            let ledger = api.get(&self.path(&format!("/workspaces/{DEVELOPMENT_WORKSPACE}"))).await?;
            ensure!(sum(&ledger["totals"], &json!({})) == *expected, "{ledger:#}");
            Ok(())
        })
        .await
    }

    /// All minutes are processed, and the numbers are what they were.
    async fn until_balanced(&self, expected: &Value) -> Result<()> {
        let api = self.api();
        let ledger = until("all minutes balance", MINUTES_PATIENCE, async || {
            let ledger = api.get(&self.path(&format!("/workspaces/{DEVELOPMENT_WORKSPACE}"))).await?;
            ensure!(ledger["totals"]["balanced"] == true, "{ledger:#}");
            Ok(ledger)
        })
        .await?;
        ensure!(sum(&ledger["totals"], &json!({})) == *expected, "{ledger:#}");
        let everywhere = format!(
            "window=5s&service_id={DEVELOPMENT_SERVICE}&from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z"
        );
        let in_windows = count(&api, DEVELOPMENT_WORKSPACE, &everywhere).await?;
        ensure!(ledger["totals"]["counted"] == in_windows, "{in_windows} in windows: {ledger:#}");
        Ok(())
    }

    /// What is nobody's, who may see it, and the metrics.
    async fn check_others(&self, processor: &Process) -> Result<()> {
        let all = self.api().get(&self.path("")).await?;
        let rows = all["rows"].as_array().into_iter().flatten();
        let nobodys = rows.filter(|row| row["workspace_id"].is_null());
        let nobodys = nobodys.fold(json!({}), |total, row| sum(&total, row));
        ensure!(nobodys["read"] == 3, "{all:#}");
        ensure!(
            nobodys["dead_lettered"] == json!({"invalid": 2, "unknown_workspace": 1, "future": 0}),
            "{all:#}"
        );
        ensure!(all["totals"]["balanced"] == true, "{all:#}");
        let tenant = self.query.api(WORKSPACE_KEY);
        ensure!(tenant.get_status("/api/v1/ledger").await? == 403, "only for admins");
        let stranger = self.installation.add_tenant("stranger").await?;
        let path = self.path(&format!("/workspaces/{DEVELOPMENT_WORKSPACE}"));
        ensure!(self.query.api(&stranger.key).get_status(&path).await? == 403, "another tenant's");
        until("Prometheus sees no unbalanced minute", PATIENCE, async || {
            let unbalanced = self.api().counter("millrace_ledger_unbalanced_minutes", &[]).await?;
            let newest = self.api().counter("millrace_ledger_newest_balanced_minute_seconds", &[]).await?;
            ensure!(unbalanced.abs() < 0.1 && newest > 1e9, "{unbalanced}, {newest}");
            Ok(())
        })
        .await?;
        let gaps = processor.api("").counter("millrace_ledger_gaps_total", &[]).await?;
        ensure!(gaps.abs() < 0.1, "{gaps} gaps");
        Ok(())
    }
}

/// The counts of two rows together.
fn sum(one: &Value, other: &Value) -> Value {
    const COUNTS: [&str; 9] = [
        "accepted",
        "from_edge",
        "read",
        "counted",
        "running",
        "duplicate",
        "late",
        "backfilled",
        "archived",
    ];
    let add = |one: &Value, other: &Value| one.as_i64().unwrap_or(0) + other.as_i64().unwrap_or(0);
    let mut total = json!({"dead_lettered": {}});
    for name in COUNTS {
        total[name] = add(&one[name], &other[name]).into();
    }
    for reason in ["invalid", "unknown_workspace", "future"] {
        let (one, other) = (&one["dead_lettered"], &other["dead_lettered"]);
        total["dead_lettered"][reason] = add(&one[reason], &other[reason]).into();
    }
    total
}

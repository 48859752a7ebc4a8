//! Dead letters as a queue: who sees which, page by page, and sent through once more after a fix.

use crate::harness::{
    ADMIN_KEY, Api, DEVELOPMENT_WORKSPACE, Installation, PATIENCE, Process, WORKSPACE_KEY, count, metric,
    metric_at, until,
};
use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

const KEY: &str = "key-of-the-latecomer";

/// A workspace that does not exist yet.
struct Latecomer {
    workspace: Uuid,
}

impl Latecomer {
    fn record(&self) -> Value {
        let mut record = metric("select 'early'");
        record["workspace_id"] = self.workspace.to_string().into();
        record
    }

    fn path(&self) -> String {
        format!("/api/v1/workspaces/{}/dead-letters", self.workspace)
    }

    async fn create(&self, installation: &Installation) -> Result<()> {
        let id = self.workspace;
        let sql = format!(
            "INSERT INTO workspaces (id, name) VALUES ('{id}', 'latecomer');
             INSERT INTO api_keys (key_sha256, workspace_id, name, scopes)
                 VALUES (sha256('{KEY}'), '{id}', 'latecomer', '{{ingest,read}}');"
        );
        installation.database.execute(&sql).await
    }
}

async fn produce(installation: &Installation, records: &[Value]) -> Result<()> {
    let payloads: Vec<Vec<u8>> = records.iter().map(|record| record.to_string().into_bytes()).collect();
    installation.log.produce("early", payloads.iter().map(Vec::as_slice)).await
}

/// Waits until so many letters are listed, newest first.
async fn listed(api: &Api, path: &str, wanted: usize) -> Result<Vec<Value>> {
    until(&format!("{wanted} letters at {path}"), PATIENCE, async || {
        let answer = api.get(path).await?;
        let letters = answer["dead_letters"].as_array().context("no letters")?.clone();
        ensure!(letters.len() == wanted, "{answer}");
        Ok(letters)
    })
    .await
}

async fn replay(process: &Process, key: &str, path: &str, order: &Value) -> Result<(u16, Value)> {
    let request = reqwest::Client::new().post(format!("{}{path}/replay", process.url())).bearer_auth(key);
    let response = request.json(order).send().await?;
    Ok((response.status().as_u16(), response.json().await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_its_workspace_is_counted_once_after_a_replay_and_a_restart() -> Result<()> {
    let installation = Installation::create("letters_replay").await?;
    let processor = installation.start("processor", &[]).await?;
    let query = installation.start("query", &[]).await?;
    let admin = query.api(ADMIN_KEY);
    let latecomer = Latecomer { workspace: Uuid::now_v7() };
    let records = [latecomer.record(), latecomer.record()];
    produce(&installation, &records).await?;
    let letters = listed(&admin, "/api/v1/dead-letters?reason=unknown_workspace", 2).await?;
    ensure!(letters[0]["workspace_id"] == latecomer.workspace.to_string(), "{}", letters[0]);
    let sent = records[0].to_string();
    ensure!(letters[1]["value"]["text"] == sent, "the bytes: {}", letters[1]);
    ensure!(
        letters[1]["source"]["offset"] == 0 && letters[1]["source"]["time"].is_string(),
        "{}",
        letters[1]
    );
    ensure!(admin.get_status(&latecomer.path()).await? == 404, "it does not exist");

    latecomer.create(&installation).await?;
    processor.kill()?;
    // What it remembers of ids it reads from the log again; now the workspace exists.
    let processor = installation.start("processor", &[]).await?;
    let own = query.api(KEY);
    listed(&own, &latecomer.path(), 2).await?;
    let order = json!({"filter": {"reason": "unknown_workspace"}});
    let (status, answer) = replay(&query, KEY, &latecomer.path(), &order).await?;
    ensure!(status == 200 && answer["replayed"] == 2 && answer["refused"] == json!([]), "{status} {answer}");
    let workspace = latecomer.workspace.to_string();
    until("both are counted", PATIENCE, async || {
        let counted = count(&own, &workspace, "window=5m").await?;
        ensure!(counted == 2, "{counted} are");
        Ok(())
    })
    .await?;

    let ids: Vec<&Value> = letters.iter().map(|letter| &letter["id"]).collect();
    let (status, answer) = replay(&query, KEY, &latecomer.path(), &json!({"ids": ids})).await?;
    ensure!(status == 200 && answer["replayed"] == 2, "{status} {answer}");
    until("the second replay is two duplicates", PATIENCE, async || {
        let verdict = [("verdict", "duplicate")];
        let seen = processor.api("").counter("millrace_combine_records_total", &verdict).await?;
        ensure!((seen - 2.0).abs() < 0.1, "{seen} are");
        Ok(())
    })
    .await?;
    ensure!(count(&own, &workspace, "window=5m").await? == 2, "and nothing is counted twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_rules_refused_is_counted_and_archived_once_after_a_replay() -> Result<()> {
    let installation = Installation::create("letters_rules").await?;
    let processor = installation.start("processor", &["--future-skew", "1s"]).await?;
    let query = installation.start("query", &[]).await?;
    let admin = query.api(ADMIN_KEY);
    let ahead = metric_at("select 'ahead'", Utc::now() + TimeDelta::seconds(200));
    produce(&installation, &[metric("select 'now'"), ahead]).await?;
    listed(&admin, "/api/v1/dead-letters?reason=future", 1).await?;
    until("the archive has passed them", PATIENCE, async || {
        let pipeline = admin.get("/api/v1/pipeline").await?;
        let passed = pipeline["partitions"]
            .as_array()
            .context("no partitions")?
            .iter()
            .any(|partition| partition["log_end"] == 2 && partition["reached"]["archive"] == 2);
        ensure!(passed, "{pipeline}");
        Ok(())
    })
    .await?;
    processor.kill()?;
    let processor = installation.start("processor", &[]).await?;
    let order = json!({"filter": {"reason": "future"}});
    for _ in 0..2 {
        let (status, answer) = replay(&query, ADMIN_KEY, "/api/v1/dead-letters", &order).await?;
        ensure!(status == 200 && answer["replayed"] == 1, "{status} {answer}");
    }
    until("it is counted and archived", PATIENCE, async || {
        let counted = processor.api("").counter("millrace_combine_records_total", &[]).await?;
        ensure!((counted - 2.0).abs() < 0.1, "{counted} are judged");
        let (from, to) = (Utc::now() - TimeDelta::hours(1), Utc::now() + TimeDelta::hours(1));
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let times = format!("window=5m&from={}&to={}", text(from), text(to));
        let counted = count(&admin, DEVELOPMENT_WORKSPACE, &times).await?;
        ensure!(counted == 2, "{counted} are counted");
        let archived = processor.api("").counter("millrace_archive_records_total", &[]).await?;
        ensure!((archived - 1.0).abs() < 0.1, "{archived} are archived by the second processor");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_sees_and_replays_the_letters_of_its_workspace_only() -> Result<()> {
    let installation = Installation::create("letters_walls").await?;
    let up = installation.start("up", &[]).await?;
    let other = installation.add_tenant("other").await?;
    let mut bad = other.metric("select 'other'");
    bad["status"] = "splendid".into();
    installation.log.produce("k", [b"\xff garbage".as_slice(), bad.to_string().as_bytes()]).await?;
    let all = listed(&up.api(ADMIN_KEY), "/api/v1/dead-letters", 2).await?;
    let garbage = all.iter().find(|letter| letter["workspace_id"].is_null()).context("no garbage")?;
    ensure!(garbage["value"]["base64"] == "/yBnYXJiYWdl", "{garbage}");

    let of = |workspace: &str| format!("/api/v1/workspaces/{workspace}/dead-letters");
    let others = of(&other.workspace.to_string());
    let own = listed(&up.api(&other.key), &others, 1).await?;
    ensure!(own[0]["reason"] == "invalid" && own[0]["error"].as_str() != Some(""), "{}", own[0]);
    ensure!(up.api(WORKSPACE_KEY).get_status(&others).await? == 403, "another tenant's key");
    ensure!(up.api(WORKSPACE_KEY).get_status("/api/v1/dead-letters").await? == 403, "no admin key");
    listed(&up.api(WORKSPACE_KEY), &of(DEVELOPMENT_WORKSPACE), 0).await?;

    let order = json!({"ids": [own[0]["id"], "0-999999", "77-0"]});
    let (status, answer) = replay(&up, WORKSPACE_KEY, &of(DEVELOPMENT_WORKSPACE), &order).await?;
    let refused = answer["refused"].as_array().map(Vec::len);
    ensure!(status == 200 && answer["replayed"] == 0 && refused == Some(3), "{status} {answer}");
    let (status, _) = replay(&up, WORKSPACE_KEY, &others, &order).await?;
    ensure!(status == 403, "another workspace: {status}");
    // Nothing is better by itself: sent again it comes back as a newer letter.
    let (status, answer) =
        replay(&up, ADMIN_KEY, "/api/v1/dead-letters", &json!({"ids": [garbage["id"]]})).await?;
    ensure!(status == 200 && answer["replayed"] == 1, "{status} {answer}");
    listed(&up.api(ADMIN_KEY), "/api/v1/dead-letters", 3).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_go_back_to_the_oldest_letter() -> Result<()> {
    let installation = Installation::create("letters_pages").await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    for round in 0..3 {
        installation
            .log
            .produce_to_each(|partition| format!("garbage {round} {partition}").into_bytes())
            .await?;
    }
    let all = listed(&api, "/api/v1/dead-letters?limit=1000", 12).await?;
    let mut found = Vec::new();
    let mut path = "/api/v1/dead-letters?limit=5".to_owned();
    loop {
        let page = api.get(&path).await?;
        found.extend(page["dead_letters"].as_array().context("no letters")?.clone());
        ensure!(found.len() <= 12, "more letters than there are");
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/v1/dead-letters?limit=5&cursor={cursor}"),
            None => break,
        }
    }
    ensure!(found == all, "the pages together are not all");
    let times: Vec<&str> = all.iter().filter_map(|letter| letter["at"].as_str()).collect();
    ensure!(times.is_sorted_by(|one, next| one >= next), "newest first: {times:?}");
    let newest = times.first().context("no time")?;
    let before = listed_before(&api, newest).await?;
    ensure!(before.iter().all(|at| at.as_str() < *newest), "{before:?} are not before {newest}");
    for (query, expected) in [("reason=bad", "Valid options"), ("cursor=x", "cursor"), ("limit=0", "limit")] {
        let (status, body) = api.get_answer(&format!("/api/v1/dead-letters?{query}")).await?;
        ensure!(status == 400 && body.contains(expected), "{query}: {status} {body}");
    }
    Ok(())
}

async fn listed_before(api: &Api, time: &str) -> Result<Vec<String>> {
    let answer = api.get(&format!("/api/v1/dead-letters?to={time}")).await?;
    let letters = answer["dead_letters"].as_array().context("no letters")?;
    Ok(letters.iter().filter_map(|letter| letter["at"].as_str().map(str::to_owned)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_stops_no_partition() -> Result<()> {
    let installation = Installation::create("letters_poison").await?;
    let up = installation.start("up", &[]).await?;
    let pills: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0; 1_000],
        vec![0xff; 500_000],
        b"[".repeat(400_000),
        br#"{"a":"#.repeat(100_000),
        format!(r#"{{"id":"{}"}}"#, "x".repeat(400_000)).into_bytes(),
        br#"{"id":1e999,"workspace_id":[],"completed_at":"9999-99-99T99:99:99Z"}"#.to_vec(),
    ];
    for pill in &pills {
        installation.log.produce_to_each(|_| pill.clone()).await?;
    }
    let partitions =
        installation.log.produce_to_each(|_| metric("select 'good'").to_string().into_bytes()).await?;
    let api = up.api(ADMIN_KEY);
    until("the good record of every partition is counted", PATIENCE, async || {
        let counted = count(&api, DEVELOPMENT_WORKSPACE, "window=5m").await?;
        ensure!(counted == i64::from(partitions), "{counted} are");
        Ok(())
    })
    .await?;
    let expected = pills.len() * usize::try_from(partitions)?;
    listed(&api, "/api/v1/dead-letters?reason=invalid&limit=1000", expected).await?;
    let counted = api.counter("millrace_combine_dead_letters_total", &[("reason", "invalid")]).await?;
    ensure!((counted - f64::from(u32::try_from(expected)?)).abs() < 0.1, "{counted} in the metrics");
    Ok(())
}

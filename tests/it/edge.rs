//! The contract of the ingest edge.

use crate::harness::{
    ADMIN_KEY, Api, DEVELOPMENT_WORKSPACE, Installation, PATIENCE, WORKSPACE_KEY, count, metric, ndjson,
    until,
};
use anyhow::{Result, ensure};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::io::Write as _;

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

#[tokio::test(flavor = "multi_thread")]
async fn takes_json_and_ndjson_plain_and_compressed() -> Result<()> {
    let installation = Installation::create("edge_bodies").await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(WORKSPACE_KEY);
    let object = || json!({"metrics": [metric("select 1"), metric("select 2")]}).to_string().into_bytes();
    let lines = || ndjson(&[metric("select 1"), metric("select 2")]).into_bytes();
    for (content_type, body, encoding) in [
        (JSON, object(), None),
        (JSON, gzip(&object())?, Some("gzip")),
        (JSON, zstd::encode_all(object().as_slice(), 3)?, Some("zstd")),
        (NDJSON, lines(), None),
        (NDJSON, gzip(&lines())?, Some("gzip")),
        (NDJSON, zstd::encode_all(lines().as_slice(), 3)?, Some("zstd")),
        ("application/json; charset=utf-8", object(), None),
    ] {
        let headers: Vec<_> = encoding.map(|encoding| ("content-encoding", encoding)).into_iter().collect();
        let (status, answer) = answer(&api, content_type, body, &headers).await?;
        ensure!(status == 202, "{content_type} {encoding:?}: {status} {answer}");
        ensure!(answer["ingested"] == 2 && answer["dropped"] == 0, "{content_type} {encoding:?}: {answer}");
    }
    let (status, answer) = answer(&api, JSON, br#"{"metrics":[]}"#.to_vec(), &[]).await?;
    ensure!(status == 202 && answer["ingested"] == 0, "no records: {status} {answer}");
    until("all are counted", PATIENCE, async || {
        let counted = count(&api, DEVELOPMENT_WORKSPACE, "window=5s").await?;
        ensure!(counted == 14, "{counted} of 14");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_with_the_right_status() -> Result<()> {
    let installation = Installation::create("edge_refusals").await?;
    let up = installation.start("up", &["--ingest-body-bytes-max", "1048576"]).await?;
    let other = installation.add_tenant("other").await?;
    let valid = || json!({"metrics": [metric("select 1")]}).to_string().into_bytes();
    let of_other = json!({"metrics": [other.metric("select 1")]}).to_string().into_bytes();
    let with = |field: &str, value: Value| {
        let mut record = metric("select 1");
        record[field] = value;
        json!({"metrics": [record]}).to_string().into_bytes()
    };
    let broken = b"{\"metrics\": [".to_vec();
    let huge = with("query_text", "x".repeat(2 << 20).into());
    for (what, key, content_type, body, headers, expected) in [
        ("no key", "", JSON, valid(), &[][..], 401),
        ("an unknown key", "nobody has this key", JSON, valid(), &[], 401),
        ("another tenant's workspace", WORKSPACE_KEY, JSON, of_other, &[], 403),
        ("a body beyond the limit", WORKSPACE_KEY, JSON, huge, &[], 413),
        ("a text", WORKSPACE_KEY, "text/plain", valid(), &[], 415),
        ("an unknown encoding", WORKSPACE_KEY, JSON, valid(), &[("content-encoding", "br")], 415),
        ("JSON cut short", WORKSPACE_KEY, JSON, broken, &[], 400),
        ("no gzip", WORKSPACE_KEY, JSON, valid(), &[("content-encoding", "gzip")], 400),
        ("no `metrics`", WORKSPACE_KEY, JSON, b"{}".to_vec(), &[], 422),
        ("a negative duration", WORKSPACE_KEY, JSON, with("duration_ms", (-1).into()), &[], 422),
        ("an unknown status", WORKSPACE_KEY, JSON, with("status", "splendid".into()), &[], 422),
        ("tags that are null", WORKSPACE_KEY, JSON, with("tags", Value::Null), &[], 422),
    ] {
        let (status, answer) = answer(&up.api(key), content_type, body, headers).await?;
        ensure!(status == expected, "{what}: {status} {answer} instead of {expected}");
        ensure!(answer["code"] == expected && answer["error"].is_string(), "{what}: {answer}");
    }
    let status = up.api(ADMIN_KEY).get_status("/api/v1/metrics/ingest").await?;
    ensure!(status == 405, "GET: {status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_administrator_may_write_every_workspace() -> Result<()> {
    let installation = Installation::create("edge_admin").await?;
    let up = installation.start("up", &[]).await?;
    let other = installation.add_tenant("other").await?;
    let both = [metric("select 1"), other.metric("select 1")];
    up.api(ADMIN_KEY).ingest_all(&both).await
}

async fn answer(
    api: &Api,
    content_type: &str,
    body: Vec<u8>,
    headers: &[(&str, &str)],
) -> Result<(u16, Value)> {
    let response = api.ingest_body(content_type, body, headers).await?;
    let status = response.status().as_u16();
    let text = response.text().await?;
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

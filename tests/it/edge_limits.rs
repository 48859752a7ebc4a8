//! The edge at each of its limits, from outside: the written answer, with `Retry-After` where trying again helps; what is
//! refused costs no memory; and as soon as there is room it takes records again.

use crate::harness::{ADMIN_KEY, Api, Installation, PATIENCE, Process, metric, until};
use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const JSON: &str = "application/json";
const CONTINUE: &[u8; 25] = b"HTTP/1.1 100 Continue\r\n\r\n";
const MIB: usize = 1024 * 1024;
/// Refused requests of 1 MiB, and what the edge may grow by meanwhile: not a hundredth of what was offered.
const OFFERED: usize = 1_000;
const GROWTH_BYTES_MAX: f64 = 48.0 * 1024.0 * 1024.0;

/// A request whose body does not come: it holds its place, and the bytes that it has declared, once the edge asks for the
/// body.
async fn unfinished(edge: &Process, bytes: usize) -> Result<TcpStream> {
    let url = edge.url();
    let host = url.strip_prefix("http://").context("a URL")?;
    let mut stream = TcpStream::connect(host).await?;
    let head = format!(
        "POST /api/v1/metrics/ingest HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {ADMIN_KEY}\r\n\
         Content-Type: {JSON}\r\nContent-Length: {bytes}\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut asked = [0; CONTINUE.len()];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut asked)).await.context("no body is asked for")??;
    ensure!(asked == *CONTINUE, "{}", String::from_utf8_lossy(&asked));
    Ok(stream)
}

/// Status, `Retry-After` and body of the answer to these records.
async fn answer(api: &Api, records: &[Value]) -> Result<(u16, Option<String>, Value)> {
    let response = api.ingest(records).await?;
    let status = response.status().as_u16();
    let retry = response.headers().get("retry-after").map(|value| value.to_str().map(str::to_owned));
    Ok((status, retry.transpose()?, response.json().await?))
}

/// It must come to this answer, with a time to wait; then, when `room` is made, to 202.
async fn is_busy_until<T>(api: &Api, room: T) -> Result<()> {
    until("the edge is at its limit", PATIENCE, async || {
        let (status, retry, body) = answer(api, &[metric("select 1")]).await?;
        ensure!(status == 503, "{status} {body}");
        let seconds: u64 = retry.context("a 503 without Retry-After")?.parse()?;
        ensure!(seconds >= 1 && body["code"] == 503, "{seconds} {body}");
        Ok(())
    })
    .await?;
    drop(room);
    until("the edge has room again", PATIENCE, async || api.ingest_all(&[metric("select 1")]).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_at_once_are_503() -> Result<()> {
    let installation = Installation::create("limit_requests").await?;
    let edge = installation.start("ingest", &["--ingest-requests-max", "3"]).await?;
    let api = edge.api(ADMIN_KEY);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(unfinished(&edge, 1_000).await?);
    }
    is_busy_until(&api, held).await
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_bytes_at_once_are_503() -> Result<()> {
    let installation = Installation::create("limit_bytes").await?;
    let limits = ["--ingest-body-bytes-max", "1048576", "--ingest-in-flight-bytes-max", "2097152"];
    let edge = installation.start("ingest", &limits).await?;
    let api = edge.api(ADMIN_KEY);
    let held = [unfinished(&edge, MIB).await?, unfinished(&edge, MIB).await?];
    is_busy_until(&api, held).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_sends_too_much_is_429_and_others_are_not() -> Result<()> {
    let installation = Installation::create("limit_rate").await?;
    let edge = installation.start("ingest", &["--ingest-key-events-per-s", "10"]).await?;
    let other = installation.add_tenant("other").await?;
    let api = edge.api(ADMIN_KEY);
    let records: Vec<Value> = (0..10).map(|_| metric("select 1")).collect();
    let seconds = until("the key has sent too much", PATIENCE, async || {
        let (status, retry, body) = answer(&api, &records).await?;
        ensure!(status == 429 && body["code"] == 429, "{status} {body}");
        Ok(retry.context("a 429 without Retry-After")?.parse::<u64>()?)
    })
    .await?;
    ensure!((1..=60).contains(&seconds), "{seconds} s");
    edge.api(&other.key).ingest_all(&[other.metric("select 1")]).await?;
    until("the key may send again", PATIENCE, async || api.ingest_all(&records).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_too_large_or_too_slow_are_refused() -> Result<()> {
    let installation = Installation::create("limit_sizes").await?;
    let limits =
        ["--ingest-events-max", "5", "--ingest-body-bytes-max", "2048", "--ingest-body-timeout-s", "1"];
    let edge = installation.start("ingest", &limits).await?;
    let api = edge.api(ADMIN_KEY);
    let records: Vec<Value> = (0..6).map(|_| json!({})).collect();
    let (status, _, body) = answer(&api, &records).await?;
    ensure!(
        status == 413 && body["error"].as_str().is_some_and(|error| error.contains('5')),
        "{status} {body}"
    );
    let (status, _, body) = answer(&api, &[metric(&"x".repeat(4_096))]).await?;
    ensure!(
        status == 413 && body["error"].as_str().is_some_and(|error| error.contains("2048")),
        "{status} {body}"
    );
    let mut slow = unfinished(&edge, 1_000).await?;
    let mut answered = [0; 12];
    tokio::time::timeout(PATIENCE, slow.read_exact(&mut answered))
        .await
        .context("a slow body has no answer")??;
    ensure!(answered == *b"HTTP/1.1 408", "{}", String::from_utf8_lossy(&answered));
    api.ingest_all(&[metric("select 1")]).await
}

/// Of a log that is away, and of clients that don't care.
#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_flat_while_the_log_is_away_and_clients_go_on() -> Result<()> {
    let mut installation = Installation::embedded().await?;
    let limits = ["--ingest-body-bytes-max", "2097152", "--ingest-in-flight-bytes-max", "4194304"];
    let edge = installation.start("ingest", &limits).await?;
    let api = edge.api(ADMIN_KEY);
    api.ingest_all(&[metric("select 'before'")]).await?;
    installation.embedded.as_mut().context("it is embedded")?.stop_broker().await?;
    let records: Vec<Value> = (0..1_000).map(|_| metric(&"x".repeat(MIB / 1_000))).collect();
    let body = json!({"metrics": records}).to_string().into_bytes();
    let offer = async |requests: usize| {
        for _ in 0..requests / 20 {
            let sent = (0..20).map(|_| api.ingest_body(JSON, body.clone(), &[]));
            for response in join_all(sent).await {
                let response = response?;
                let (status, retry) = (response.status(), response.headers().contains_key("retry-after"));
                ensure!(status == 503 && retry, "{status}, Retry-After: {retry}");
            }
        }
        Ok(())
    };
    let resident = async || api.counter("process_resident_memory_bytes", &[]).await;
    offer(OFFERED / 10).await?;
    let before = resident().await?;
    offer(OFFERED).await?;
    let grown = resident().await? - before;
    eprintln!("{before} bytes, and {grown} more after {OFFERED} refused requests of 1 MiB");
    ensure!(grown < GROWTH_BYTES_MAX, "it has grown by {grown} bytes");
    installation.embedded.as_mut().context("it is embedded")?.start_broker_again().await?;
    until("it takes records again", PATIENCE, async || api.ingest_all(&[metric("select 'after'")]).await)
        .await
}

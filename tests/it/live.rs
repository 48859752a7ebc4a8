//! The live feed: bare records as the contract has them, typed envelopes with `?format=v2`, and one tenant never sees
//! another's.

use crate::harness::{
    ADMIN_KEY, DEVELOPMENT_WORKSPACE, Installation, PATIENCE, Process, WORKSPACE_KEY, metric, until,
};
use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens `/ws` of a workspace with these parameters, and with a key in the headers unless it is empty. The error is the
/// status of a refusal.
async fn connect(up: &Process, workspace: &str, parameters: &str, key: &str) -> Result<Result<Socket, u16>> {
    let url = format!("{}/api/v1/workspaces/{workspace}/ws{parameters}", up.url().replacen("http", "ws", 1));
    let mut request = url.into_client_request()?;
    if !key.is_empty() {
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse()?);
    }
    match connect_async(request).await {
        Ok((socket, _)) => Ok(Ok(socket)),
        Err(Error::Http(response)) => Ok(Err(response.status().as_u16())),
        Err(error) => Err(error).context("open a WebSocket"),
    }
}

async fn open(up: &Process, workspace: &str, parameters: &str, key: &str) -> Result<Socket> {
    match connect(up, workspace, parameters, key).await? {
        Ok(socket) => Ok(socket),
        Err(status) => bail!("the socket was refused with {status}"),
    }
}

/// The next text frame.
async fn next(socket: &mut Socket) -> Result<Value> {
    loop {
        let frame = timeout(PATIENCE, socket.next()).await.context("no frame came")?;
        match frame.context("the socket ended")?? {
            Message::Text(text) => return serde_json::from_str(&text).with_context(|| text.to_string()),
            Message::Close(close) => bail!("the socket was closed: {close:?}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_records_by_default() -> Result<()> {
    let installation = Installation::create("live_bare").await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(WORKSPACE_KEY);
    api.ingest_all(&[metric("select 'before the socket'")]).await?;
    until("the feed has passed it", PATIENCE, async || {
        let recent = api.get(&format!("/api/v1/workspaces/{DEVELOPMENT_WORKSPACE}/metrics")).await?;
        ensure!(recent["count"] == 1, "{recent}");
        Ok(())
    })
    .await?;
    let mut socket = open(&up, DEVELOPMENT_WORKSPACE, "", WORKSPACE_KEY).await?;

    let mut record = metric("select 'live'");
    record["completed_at"] = "2026-11-21T03:00:00+01:00".into();
    record["started_at"] = "2026-11-21T02:59:59.9985+01:00".into();
    api.ingest_all(std::slice::from_ref(&record)).await?;

    // What was left out is there, and times are in UTC with as many digits as needed.
    let mut expected = record.clone();
    expected["completed_at"] = "2026-11-21T02:00:00Z".into();
    expected["started_at"] = "2026-11-21T01:59:59.998500Z".into();
    expected["rows_affected"] = Value::Null;
    expected["error_message"] = Value::Null;
    expected["tags"] = json!([]);
    let frame = next(&mut socket).await?;
    ensure!(frame == expected, "{frame} instead of {expected}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn envelopes_of_records_and_aggregates() -> Result<()> {
    let installation = Installation::create("live_envelopes").await?;
    let up = installation.start("up", &[]).await?;
    let mut socket = open(&up, DEVELOPMENT_WORKSPACE, "?format=v2", ADMIN_KEY).await?;
    let hello = next(&mut socket).await?;
    ensure!(
        hello["type"] == "hello" && hello["workspace_id"] == DEVELOPMENT_WORKSPACE,
        "no hello but {hello}"
    );

    let record = metric("select 'enveloped'");
    up.api(ADMIN_KEY).ingest_all(std::slice::from_ref(&record)).await?;
    let (mut records, mut final_windows) = (0, 0);
    while records == 0 || final_windows == 0 {
        let frame = next(&mut socket).await?;
        let data = &frame["data"];
        match frame["type"].as_str() {
            Some("metric") if data["id"] == record["id"] => records += 1,
            Some("aggregate") if data["query_count"] == 1 => {
                final_windows += usize::from(data["is_final"] == true)
            }
            _ => bail!("an unexpected frame: {frame}"),
        }
    }
    ensure!(records == 1, "the record came {records} times");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_for_keys_that_open_the_workspace() -> Result<()> {
    let installation = Installation::create("live_keys").await?;
    let up = installation.start("up", &[]).await?;
    let other = installation.add_tenant("other").await?;
    let other_workspace = other.workspace.to_string();
    let unknown = uuid::Uuid::from_u128(1).to_string();
    let by_parameter = format!("?api_key={}", other.key);
    for (workspace, parameters, key, expected) in [
        (other_workspace.as_str(), "", "", Some(401)),
        (&other_workspace, "", "nobody has this key", Some(401)),
        (&other_workspace, "?api_key=nobody", "", Some(401)),
        (&other_workspace, "", WORKSPACE_KEY, Some(403)),
        (DEVELOPMENT_WORKSPACE, &by_parameter, "", Some(403)),
        (&unknown, "", ADMIN_KEY, Some(404)),
        (&other_workspace, &by_parameter, "", None),
        (&other_workspace, "", ADMIN_KEY, None),
    ] {
        let refused = connect(&up, workspace, parameters, key).await?.err();
        ensure!(refused == expected, "{workspace}{parameters} with key `{key}`: {refused:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn never_shows_another_tenants_records() -> Result<()> {
    let installation = Installation::create("live_tenants").await?;
    let up = installation.start("up", &[]).await?;
    let other = installation.add_tenant("other").await?;
    let mut socket = open(&up, &other.workspace.to_string(), "", &other.key).await?;
    // In each partition first a record of somebody else, then one of the tenant's.
    installation.log.produce_to_each(|_| metric("select 'secret'").to_string().into_bytes()).await?;
    let of_tenant = |_| other.metric("select 'mine'").to_string().into_bytes();
    let partitions = installation.log.produce_to_each(of_tenant).await?;
    for _ in 0..partitions {
        let frame = next(&mut socket).await?;
        ensure!(frame["workspace_id"] == other.workspace.to_string(), "another tenant's record: {frame}");
    }
    Ok(())
}

//! Other people's clients: a record produced with Confluent's, seen through the `websockets` package.

use crate::harness::{DEVELOPMENT_WORKSPACE, Installation, WORKSPACE_KEY, python, run};
use anyhow::{Result, ensure};
use std::path::Path;

#[tokio::test(flavor = "multi_thread")]
async fn produce_and_watch() -> Result<()> {
    let installation = Installation::create("independent").await?;
    let Some(python) = python("independent") else { return Ok(()) };
    let up = installation.start("up", &[]).await?;
    let socket =
        format!("{}/api/v1/workspaces/{DEVELOPMENT_WORKSPACE}/ws", up.url().replacen("http", "ws", 1));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/independent.py").display().to_string();
    let (brokers, topic) = (&installation.log.brokers, &installation.topics.metrics);
    let arguments = [script.as_str(), brokers, topic, &socket, WORKSPACE_KEY, DEVELOPMENT_WORKSPACE];
    let printed = run(python, &arguments.map(str::to_owned)).await?;
    ensure!(printed.contains("seen by all"), "{printed}");
    Ok(())
}

//! Serves a store from a folder until its standard input ends: `cargo run --example serve -- FOLDER`, then
//! `psql "$URL"` in another terminal.

use millrace_store::{Settings, Store};
use std::time::Instant;
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let folder = std::env::args().nth(1).unwrap_or_else(|| "millrace-store".to_owned());
    let started = Instant::now();
    let mut store = Store::start(Settings::new(folder)).await?;
    tracing::info!(ms = started.elapsed().as_millis(), url = store.url(), "ready");
    let mut end = Vec::new();
    let mut input = tokio::io::stdin();
    tokio::select! {
        error = store.ended() => return Err(error.into()),
        read = input.read_to_end(&mut end) => drop(read?),
    }
    let closing = Instant::now();
    store.close().await?;
    tracing::info!(ms = closing.elapsed().as_millis(), "closed");
    Ok(())
}

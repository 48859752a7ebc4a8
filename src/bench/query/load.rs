//! One question asked again and again over some connections.

use crate::bench::{
    load::{http::Connection, latency::Latencies},
    site::usage::count,
};
use anyhow::ensure;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

#[derive(Debug, Default)]
pub struct Timed {
    pub latencies: Latencies,
    pub elapsed: Duration,
    pub bytes: u64,
}

impl Timed {
    pub fn queries(&self) -> u64 {
        self.latencies.len() as u64
    }

    pub fn per_s(&self) -> f64 {
        count(self.queries()) / self.elapsed.as_secs_f64()
    }

    pub fn bytes_per_answer(&self) -> f64 {
        count(self.bytes) / count(self.queries().max(1))
    }
}

pub async fn ask(
    address: SocketAddr,
    request: &str,
    connections: u32,
    duration: Duration,
) -> anyhow::Result<Timed> {
    let (mut asking, started) = (JoinSet::new(), Instant::now());
    for _ in 0..connections {
        let (mut connection, request) = (Connection::open(address).await?, request.to_owned());
        asking.spawn(async move {
            let mut timed = Timed::default();
            while started.elapsed() < duration {
                let asked = Instant::now();
                let status = connection.request(request.as_bytes()).await?;
                ensure!(status == 200, "the query service answered {status}");
                timed.latencies.add_one(asked.elapsed());
                timed.bytes += connection.body_bytes() as u64;
            }
            Ok(timed)
        });
    }
    gather(asking, started).await
}

/// Of all that ask at once.
pub async fn gather(mut asking: JoinSet<anyhow::Result<Timed>>, started: Instant) -> anyhow::Result<Timed> {
    let mut all = Timed::default();
    while let Some(timed) = asking.join_next().await {
        let timed = timed??;
        all.latencies.add(timed.latencies);
        all.bytes += timed.bytes;
    }
    all.elapsed = started.elapsed();
    Ok(all)
}

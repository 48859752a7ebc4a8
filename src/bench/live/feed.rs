//! When each event came: by the live feed, and beside it by a bare consumer of the same topic.

use super::Arrivals;
use crate::bench::{
    load::{batch::read_counter, websocket::WebSocket},
    site::Site,
};
use anyhow::{Context, ensure};
use millrace_log::{LogSettings, partition_count};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use serde::Deserialize;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

const POLL_WAIT: Duration = Duration::from_millis(100);

pub struct Feed(WebSocket);

#[derive(Deserialize)]
struct Gap {
    dropped: u64,
}

impl Feed {
    /// Returns when the feed has said hello: what is sent from now on will come.
    pub async fn open(site: &Site, query: SocketAddr) -> anyhow::Result<Self> {
        let path = format!("/api/v1/workspaces/{}/ws?format=v2&types=metric", site.workspace);
        let mut socket = WebSocket::open(query, &path, &site.key).await.context("opening the live feed")?;
        let hello = String::from_utf8_lossy(socket.next().await?).into_owned();
        ensure!(hello.contains("hello"), "the live feed began with {hello}");
        Ok(Self(socket))
    }

    /// Notes when each event comes, and how many the feed says it dropped, until the task is ended.
    pub async fn read(mut self, arrivals: Arc<Arrivals>, dropped: Arc<AtomicU64>) -> anyhow::Result<()> {
        loop {
            let text = self.0.next().await.context("reading the live feed")?;
            match read_counter(text) {
                Some(number) => arrivals.note(number),
                None => {
                    let gap: Gap = serde_json::from_slice(text).context("reading a gap of the live feed")?;
                    dropped.fetch_add(gap.dropped, Ordering::Relaxed);
                }
            }
        }
    }
}

/// A consumer at the end of the topic.
pub struct Tail(BaseConsumer);

impl Tail {
    /// Blocks until it knows where the end is.
    pub fn open(log: &LogSettings) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = log.consumer("bench-tail").create()?;
        let topic = log.topics().metrics;
        let mut list = TopicPartitionList::new();
        for partition in 0..partition_count(&consumer, &topic)? {
            let (_, end) = consumer.fetch_watermarks(&topic, partition, POLL_WAIT * 100)?;
            list.add_partition_offset(&topic, partition, Offset::Offset(end))?;
        }
        consumer.assign(&list)?;
        Ok(Self(consumer))
    }

    pub fn read(&self, arrivals: &Arrivals, ended: &AtomicBool) -> anyhow::Result<()> {
        while !ended.load(Ordering::Relaxed) {
            if let Some(message) = self.0.poll(POLL_WAIT) {
                let message = message.context("reading the topic")?;
                arrivals
                    .note(read_counter(message.payload().unwrap_or_default()).context("a record of ours")?);
            }
        }
        Ok(())
    }
}

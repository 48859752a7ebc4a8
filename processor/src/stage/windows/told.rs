//! The `progress` topic, as the windows stage writes it with each commit and reads it when it takes over a partition.

use super::super::{
    StageError,
    client::Client,
    past::{Past, Patience, Range},
};
use crate::window::Windows;
use millrace_log::{NextOffset, is_closing};
use millrace_schemas::progress::{Progress, Source, VERSION};
use rdkafka::{Message as _, producer::BaseRecord};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How many offsets are read back for the newest record of a partition: a commit takes two and its rows, and where the
/// topic has fewer partitions than `partials`, several share one.
const READ_BACK: i64 = 2_000;

/// The topic, and what all its records say.
#[derive(Clone)]
pub(super) struct Channel {
    pub topic: String,
    /// Its own partitions.
    pub partitions: i32,
    /// Those of `partials`.
    pub partials: i32,
    pub watermark_delay: Duration,
    pub late_horizon: Duration,
}

impl Channel {
    /// What was told last of a partials partition.
    pub(super) fn newest(
        &self,
        past: &mut Past,
        number: i32,
        patience: Patience<'_>,
    ) -> Result<Option<Progress>, StageError> {
        let partition = number % self.partitions;
        let end = past.settled_end(&self.topic, partition, patience)?;
        let low = past.low(&self.topic, partition)?;
        let from = low.max(NextOffset::exclusive(end.get() - READ_BACK));
        let range = Range { topic: &self.topic, partition, from, to: end };
        let mut newest = None;
        past.read(range, patience.shutdown, |message| {
            match Progress::read(message.payload().unwrap_or_default()) {
                Ok(progress) if progress.partition == number => newest = Some(progress),
                Ok(_) => {}
                Err(_) if is_closing(message) => {}
                Err(error) => {
                    let offset = message.offset();
                    tracing::warn!(partition, offset, %error, "a record of the progress topic is passed over");
                }
            }
            Ok(())
        })?;
        Ok(newest)
    }

    /// One past the newest row within the bounds of an aggregates partition; `None` if it lies too far back.
    pub(super) fn rows_end(
        &self,
        past: &mut Past,
        bounds: Range<'_>,
        stop: &CancellationToken,
    ) -> Result<Option<i64>, StageError> {
        let from = bounds.from.max(NextOffset::exclusive(bounds.to.get() - READ_BACK));
        let mut rows_end = (from == bounds.from).then_some(0);
        past.read(Range { from, ..bounds }, stop, |row| {
            rows_end = Some(NextOffset::after(row.offset()).get());
            Ok(())
        })?;
        Ok(rows_end)
    }

    /// Within the open transaction.
    pub(super) fn tell(&self, client: &Client, progress: &Progress) -> Result<(), StageError> {
        let payload = serde_json::to_vec(progress).expect("progress is plain data: numbers and times");
        let key = progress.partition.to_string();
        let record = BaseRecord::to(&self.topic).partition(progress.partition % self.partitions);
        client.send(record.key(key.as_bytes()).payload(payload.as_slice()))
    }
}

/// What has been told of one partials partition.
pub(super) struct Told {
    sources: Vec<Option<Source>>,
    /// One past the newest row of its aggregates partition, where that is known.
    rows_end: Option<i64>,
}

impl Told {
    /// `rows_end` is one past the newest row that can be read.
    pub(super) fn resume(newest: Option<&Progress>, rows_end: Option<i64>) -> Self {
        let told = newest.and_then(|progress| progress.aggregates);
        Self { sources: Vec::new(), rows_end: told.max(rows_end) }
    }

    pub(super) fn differs_from(&self, sources: &[Option<Source>]) -> bool {
        self.sources != sources
    }

    /// Rows have been appended up to here.
    pub(super) fn appended(&mut self, end: NextOffset) {
        self.rows_end = Some(end.get());
    }

    pub(super) fn told(&mut self, sources: Vec<Option<Source>>) {
        self.sources = sources;
    }

    /// What to tell now.
    pub(super) fn progress(&self, partition: i32, channel: &Channel, windows: &Windows) -> Progress {
        Progress {
            version: VERSION,
            partition,
            partitions: channel.partials,
            position: windows.position(),
            aggregates: self.rows_end,
            watermark: windows.watermark().current(),
            watermark_delay_ms: milliseconds(channel.watermark_delay),
            late_horizon_ms: Some(milliseconds(channel.late_horizon)),
            sources: windows.sources(),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

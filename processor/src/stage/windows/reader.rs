//! Reads again what a stage before it, or a windows worker before this one, has committed.

use crate::stage::{
    StageError,
    positions::{Ends, SOON},
    range::{self, Quiet, Range},
};
use millrace_log::{LogSettings, NextOffset};
use rdkafka::{consumer::BaseConsumer, message::BorrowedMessage};
use tokio_util::sync::CancellationToken;

pub(super) struct Reader {
    log: LogSettings,
    consumer: BaseConsumer<Quiet>,
    ends: Ends,
    stop: CancellationToken,
}

impl Reader {
    pub(super) fn connect(log: &LogSettings, stop: CancellationToken) -> Result<Self, StageError> {
        let consumer = log.consumer("rebuild").create_with_context(Quiet);
        let consumer = consumer.map_err(StageError::kafka("making a consumer"))?;
        Ok(Self { log: log.clone(), consumer, ends: Ends::connect(log, SOON)?, stop })
    }

    /// The first offset that retention has left, and the end, once nothing before it is open.
    pub(super) fn bounds(&self, topic: &str, partition: i32) -> Result<(NextOffset, NextOffset), StageError> {
        self.ends.settled(&self.consumer, (topic, partition), &self.stop)
    }

    pub(super) fn read(
        &self,
        range: Range<'_>,
        take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        range::read(&self.log, range, &self.stop, take)
    }
}

//! Rebuilds the windows of a partition from the log: their states, and what was already emitted of them.

use super::{
    Components, Partition, decode,
    told::{Channel, Told},
};
use crate::{
    ledger::Tally,
    settings::WindowSettings,
    stage::{
        REQUEST_TIMEOUT, StageError,
        range::{self, Quiet, Range},
    },
    window::{Checkpoint, Windows},
};
use millrace_log::NextOffset;
use millrace_schemas::{AggregateRow, aggregate};
use rdkafka::{
    Message as _,
    consumer::{BaseConsumer, Consumer as _},
};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where a partition is to go on.
pub(super) struct Committed {
    pub partition: i32,
    pub next: NextOffset,
    /// The first offset that retention has left.
    pub low: NextOffset,
    pub metadata: String,
}

pub(super) struct Restoring {
    pub components: Components,
    pub settings: WindowSettings,
    pub channel: Channel,
    /// The partials.
    pub topic: String,
    pub aggregates: String,
}

impl Restoring {
    pub(super) fn run(
        mut self,
        committed: &Committed,
        stop: CancellationToken,
    ) -> Result<Partition, StageError> {
        // What reads again is to stop with this.
        self.components.shutdown = stop;
        let Committed { partition: number, next, low, metadata } = committed;
        let consumer: BaseConsumer<Quiet> = self
            .components
            .log
            .consumer("rebuild")
            .create_with_context(Quiet)
            .map_err(StageError::kafka("making a consumer"))?;
        let (aggregates_low, aggregates_end) = consumer
            .fetch_watermarks(&self.aggregates, *number, REQUEST_TIMEOUT)
            .map_err(StageError::kafka("asking for the end of the aggregates"))?;
        let mut windows = Windows::new(self.components.plan.clone(), &self.settings);
        let newest = self.channel.newest(&self.components, &consumer, *number)?;
        // Also where something was told: it may not be readable yet where its rows are.
        let aggregates = Range {
            topic: &self.aggregates,
            partition: *number,
            from: NextOffset::exclusive(aggregates_low),
            to: NextOffset::exclusive(aggregates_end),
        };
        let told = Told::resume(newest.as_ref(), self.channel.rows_end(&self.components, aggregates)?);
        if *next > NextOffset::START {
            let checkpoint = Checkpoint::decode(metadata)
                .map_err(|source| StageError::Checkpoint { partition: *number, source })?;
            windows.resume(&checkpoint, next.get());
            newest.iter().for_each(|newest| windows.restore_progress(&newest.sources));
            self.restore_states(*number, &checkpoint, *next, &mut windows)?;
            self.restore_rows(*number, &checkpoint, aggregates_end, &mut windows)?;
        }
        Ok(Partition {
            windows,
            committed: next.get(),
            committed_at: Instant::now(),
            aggregates_end,
            told,
            tally: Tally::new(*next.max(low)),
        })
    }

    fn restore_states(
        &self,
        partition: i32,
        checkpoint: &Checkpoint,
        to: NextOffset,
        windows: &mut Windows,
    ) -> Result<(), StageError> {
        let from = NextOffset::exclusive(checkpoint.rebuild_from);
        let range = Range { topic: &self.topic, partition, from, to };
        range::read(&self.components.log, range, &self.components.shutdown, |message| {
            match decode(&self.components, message)? {
                Some((_, Some(states))) => Ok(windows.restore_states(message.offset(), &states)?),
                _ => Ok(()),
            }
        })
    }

    fn restore_rows(
        &self,
        partition: i32,
        checkpoint: &Checkpoint,
        end: i64,
        windows: &mut Windows,
    ) -> Result<(), StageError> {
        let (from, to) = (NextOffset::exclusive(checkpoint.aggregates_from), NextOffset::exclusive(end));
        let range = Range { topic: &self.aggregates, partition, from, to };
        range::read(&self.components.log, range, &self.components.shutdown, |message| {
            let offset = message.offset();
            match AggregateRow::read(message.payload().unwrap_or_default()) {
                Ok(row) => windows.restore_row(offset, &row),
                // Passed over, its revision would be given again, and the sink would not take it.
                Err(source @ aggregate::Error::Newer(_)) => {
                    return Err(StageError::Row { partition, offset, source });
                }
                Err(error) => {
                    tracing::warn!(partition, offset, %error, "a record among the aggregates is no row; skipped");
                }
            }
            Ok(())
        })
    }
}

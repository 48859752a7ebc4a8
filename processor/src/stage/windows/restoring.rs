//! Rebuilds the windows of a partition from the log: their states, and what was already emitted of them.

use super::{
    Components, Partition, decode,
    told::{Channel, Told},
};
use crate::{
    ledger::Tally,
    settings::WindowSettings,
    stage::{
        StageError,
        past::{Past, Patience, Range},
        positions::{Positions, SOON},
    },
    window::{Checkpoint, Windows},
};
use millrace_log::{NextOffset, is_closing};
use millrace_schemas::{AggregateRow, aggregate};
use rdkafka::Message as _;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub(super) struct Restoring {
    pub components: Components,
    pub settings: WindowSettings,
    pub channel: Channel,
    /// The partials.
    pub topic: String,
    pub aggregates: String,
    pub positions: Arc<Positions>,
    /// Shared by those that came together.
    pub past: Arc<Mutex<Past>>,
}

impl Restoring {
    pub(super) fn run(&self, number: i32, stop: &CancellationToken) -> Result<Partition, StageError> {
        let (next, metadata) = self.positions.committed(number)?;
        let low = self.positions.low(number)?;
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = Patience { limit: SOON, shutdown: stop };
        let aggregates_end = past.settled_end(&self.aggregates, number, patience)?;
        let aggregates_low = past.low(&self.aggregates, number)?;
        let mut windows = Windows::new(self.components.plan.clone(), &self.settings);
        let newest = self.channel.newest(&mut past, number, patience)?;
        // Also where something was told: it may not be readable yet where its rows are.
        let aggregates =
            Range { topic: &self.aggregates, partition: number, from: aggregates_low, to: aggregates_end };
        let told = Told::resume(newest.as_ref(), self.channel.rows_end(&mut past, aggregates, stop)?);
        if next > NextOffset::START {
            let checkpoint = Checkpoint::decode(&metadata)
                .map_err(|source| StageError::Checkpoint { partition: number, source })?;
            windows.resume(&checkpoint, next.get());
            newest.iter().for_each(|newest| windows.restore_progress(&newest.sources));
            let from = NextOffset::exclusive(checkpoint.rebuild_from);
            let states = Range { topic: &self.topic, partition: number, from, to: next };
            past.read(states, stop, |message| match decode(&self.components, message)? {
                Some((_, Some(states))) => Ok(windows.restore_states(message.offset(), &states)?),
                _ => Ok(()),
            })?;
            let from = NextOffset::exclusive(checkpoint.aggregates_from);
            restore_rows(&mut past, Range { from, ..aggregates }, stop, &mut windows)?;
        }
        Ok(Partition {
            watermark: windows.watermark().current(),
            windows,
            committed: next.get(),
            committed_at: Instant::now(),
            aggregates_end: aggregates_end.get(),
            told,
            tally: Tally::new(next.max(low)),
        })
    }
}

fn restore_rows(
    past: &mut Past,
    range: Range<'_>,
    stop: &CancellationToken,
    windows: &mut Windows,
) -> Result<(), StageError> {
    past.read(range, stop, |message| {
        let (partition, offset) = (message.partition(), message.offset());
        match AggregateRow::read(message.payload().unwrap_or_default()) {
            Ok(row) => windows.restore_row(offset, &row),
            // Passed over, its revision would be given again, and the sink would not take it.
            Err(source @ aggregate::Error::Newer(_)) => {
                return Err(StageError::Row { partition, offset, source });
            }
            Err(_) if is_closing(message) => {}
            Err(error) => {
                tracing::warn!(partition, offset, %error, "a record among the aggregates is no row; skipped");
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;

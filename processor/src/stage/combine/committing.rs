//! From verdicts to a transaction.

use super::{
    Worker, encoding,
    judging::{DeadLetter, Open},
};
use crate::stage::{StageError, frame};
use arrow::array::RecordBatch;
use millrace_schemas::{
    EventTime,
    dead_letter::{
        CUT_FROM_BYTES, ERROR, REASON, SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TIME, SOURCE_TOPIC,
    },
    ledger::Entry,
    partial::{Header, Progress},
};
use rdkafka::{
    TopicPartitionList,
    message::{Header as KafkaHeader, OwnedHeaders},
    producer::BaseRecord,
};
use std::time::Instant;

impl Worker<'_> {
    /// Commits what is open, and tells how far the sources are, if there is news of them.
    pub(super) fn commit(&mut self, mut open: Open) -> Result<(), StageError> {
        let idle_after = self.settings.windows.idle_after.into();
        let now = EventTime::from(chrono::Utc::now());
        let progress: Vec<Progress> = self
            .sources
            .iter_mut()
            .filter_map(|(partition, source)| source.progress(*partition, now, idle_after))
            .collect();
        if progress.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let some = !open.partials.is_empty();
        let states = some.then(|| open.partials.states()).transpose()?;
        let header = Header { sources: self.raw_partitions, progress, oldest_arrival: open.oldest_arrival };
        let aggregated = began.elapsed();
        self.write(&open, &header, states.as_ref())?;
        tracing::debug!(
            records = open.counts.records(),
            judged_ms = (began - open.began).as_millis(),
            aggregated_ms = aggregated.as_millis(),
            committed_ms = (began.elapsed() - aggregated).as_millis(),
            "a transaction"
        );
        self.components.meters.add(open.counts, &open.dead);
        Ok(())
    }

    fn write(
        &mut self,
        open: &Open,
        header: &Header,
        states: Option<&RecordBatch>,
    ) -> Result<(), StageError> {
        let mut frames: Vec<(i32, Vec<u8>)> = Vec::new();
        let parts = states.map(|states| self.router.split(states)).transpose().map_err(encoding)?;
        let mut parts = parts.unwrap_or_default().into_iter();
        for partition in 0..self.router.partitions() {
            let part = parts.next().flatten();
            let encoded = frame::encode(header, part.as_ref()).map_err(encoding)?;
            frames.extend(encoded.into_iter().map(|frame| (partition, frame)));
        }
        let mut entries = Vec::new();
        for (partition, source) in &mut self.sources {
            let spans = source.tallied().into_iter();
            let written = spans.map(|span| Entry::Combine(span.of(&self.client.topic, *partition)).write());
            entries.extend(written.map(|entry| (*partition, entry)));
        }
        let mut offsets = TopicPartitionList::new();
        for progress in &header.progress {
            let next = self.sources[&progress.partition].next;
            offsets
                .add_partition_offset(&self.client.topic, progress.partition, next.to_kafka())
                .map_err(StageError::kafka("naming a partition"))?;
        }
        let partials = frames.iter().map(|(partition, frame)| {
            BaseRecord::to(&self.partials).partition(*partition).payload(frame.as_slice())
        });
        let letters = open.dead.iter().map(|letter| self.dead_letter(letter));
        let told = entries.iter().map(|(partition, entry)| self.ledger.record(*partition, entry));
        self.client.transact(partials.chain(letters).chain(told), &offsets)
    }

    fn dead_letter<'m>(&'m self, letter: &'m DeadLetter) -> BaseRecord<'m, [u8], [u8]> {
        let DeadLetter { original, .. } = letter;
        let (partition, offset) = (letter.partition.to_string(), letter.offset.to_string());
        let (time, bytes) = (letter.append_time.to_string(), original.payload_bytes.to_string());
        let headers = [
            (REASON, letter.reason.as_str()),
            (ERROR, letter.error.as_str()),
            (SOURCE_TOPIC, self.client.topic.as_str()),
            (SOURCE_PARTITION, partition.as_str()),
            (SOURCE_OFFSET, offset.as_str()),
            (SOURCE_TIME, time.as_str()),
        ];
        let cut = original.is_cut().then_some((CUT_FROM_BYTES, bytes.as_str()));
        let headers = headers.into_iter().chain(cut).fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(KafkaHeader { key, value: Some(value) })
        });
        let record = BaseRecord::to(&self.dead_letters).headers(headers);
        let record = original.key.as_deref().into_iter().fold(record, |record, key| record.key(key));
        original.payload.as_deref().into_iter().fold(record, |record, payload| record.payload(payload))
    }
}

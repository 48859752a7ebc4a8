//! What is done with the records of each topic: kept as recent ones, and told to those who listen.

use super::{Incoming, Sink};
use crate::{
    bucket::Bucket,
    feed::{Event, Hub, Kind},
    meters::Meters,
    reach::Reach,
    recent::Recent,
    record::{Arrival, Head, Record},
};
use millrace_schemas::{AggregateRow, EventTime, Window, WorkspaceId, aggregate, json, progress::Progress};
use prometheus::IntCounter;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Takes the `metrics` topic. A record that isn't valid is held like the others and found out when it is shown.
pub struct MetricsSink {
    recent: Arc<Recent>,
    hub: Arc<Hub>,
    records: IntCounter,
    unreadable: IntCounter,
}

impl MetricsSink {
    pub fn new(recent: Arc<Recent>, hub: Arc<Hub>, meters: &Meters) -> Self {
        let counter = |kind| meters.tail_records.with_label_values(&["metrics", kind]);
        Self { recent, hub, records: counter("record"), unreadable: counter("unreadable") }
    }
}

impl Sink for MetricsSink {
    fn take(&self, incoming: Incoming<'_>) {
        let Some(head) = Head::read(incoming.payload) else { return self.unreadable.inc() };
        self.records.inc();
        let Incoming { partition, offset, log_time, .. } = incoming;
        let record = Arc::new(Record::raw(head, Arrival { log_time, partition, offset }, incoming.payload));
        self.recent.push(Arc::clone(&record));
        if incoming.live {
            self.hub.publish(head.workspace_id, || {
                let json = record.json()?;
                Some(Event::new(Kind::Metric, head.service_id, (partition, offset), json))
            });
        }
    }

    fn begins_at(&self, time: EventTime) {
        self.recent.begins_at(time);
    }
}

/// Takes the `aggregates` topic: rows are told to those who listen, deltas are parts of rows and only counted.
pub struct AggregatesSink {
    hub: Arc<Hub>,
    rows: IntCounter,
    deltas: IntCounter,
    unreadable: IntCounter,
}

/// What decides where a row goes.
#[derive(Deserialize)]
struct RowHead {
    version: u8,
    kind: aggregate::Kind,
    workspace_id: WorkspaceId,
}

/// A row as the live feed sends it.
#[derive(Serialize)]
struct LiveRow {
    window: Window,
    #[serde(flatten)]
    bucket: Bucket,
}

impl AggregatesSink {
    pub fn new(hub: Arc<Hub>, meters: &Meters) -> Self {
        let counter = |kind| meters.tail_records.with_label_values(&["aggregates", kind]);
        Self { hub, rows: counter("row"), deltas: counter("delta"), unreadable: counter("unreadable") }
    }

    fn event(&self, incoming: Incoming<'_>) -> Option<Event> {
        let Ok(row) = AggregateRow::read(incoming.payload) else {
            self.unreadable.inc();
            return None;
        };
        let live = LiveRow { window: row.window, bucket: Bucket::from(&row) };
        let json = serde_json::to_string(&live).expect("strings, numbers and times always serialize");
        Some(Event::new(Kind::Aggregate, row.service_id, (incoming.partition, incoming.offset), json.into()))
    }
}

impl Sink for AggregatesSink {
    fn take(&self, incoming: Incoming<'_>) {
        match json::read::<RowHead>(incoming.payload) {
            Ok(head) if head.version > aggregate::VERSION => self.unreadable.inc(),
            Ok(RowHead { kind: aggregate::Kind::Delta, .. }) => self.deltas.inc(),
            Ok(head) => {
                self.rows.inc();
                if incoming.live {
                    self.hub.publish(head.workspace_id, || self.event(incoming));
                }
            }
            Err(_) => self.unreadable.inc(),
        }
    }

    fn begins_at(&self, _: EventTime) {}
}

/// Takes the `progress` topic.
pub struct ProgressSink {
    reach: Arc<Reach>,
    records: IntCounter,
    unreadable: IntCounter,
}

impl ProgressSink {
    pub fn new(reach: Arc<Reach>, meters: &Meters) -> Self {
        let counter = |kind| meters.tail_records.with_label_values(&["progress", kind]);
        Self { reach, records: counter("record"), unreadable: counter("unreadable") }
    }
}

impl Sink for ProgressSink {
    fn take(&self, incoming: Incoming<'_>) {
        match Progress::read(incoming.payload) {
            Ok(progress) => {
                self.records.inc();
                self.reach.told(progress);
            }
            Err(_) => self.unreadable.inc(),
        }
    }

    fn begins_at(&self, _: EventTime) {}
}

#[cfg(test)]
mod tests;

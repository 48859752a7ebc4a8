//! What waits for one socket. Bounded by count and bytes: a client that is too slow loses the oldest events and is told
//! exactly which.

use super::{Event, Kind};
use serde::Serialize;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// What one queue holds at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub events: usize,
    pub bytes: usize,
}

pub struct Queue {
    limits: Limits,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    gap: Gap,
}

/// What a socket is to send next, in this order.
#[derive(Debug, Default)]
pub struct Batch {
    /// Events lost before these.
    pub gap: Option<Gap>,
    pub events: Vec<Arc<Event>>,
}

/// Events that were dropped: how many, and between which offsets of which partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    pub dropped: u64,
    spans: BTreeMap<(Kind, i32), Span>,
}

/// First and last dropped offset, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: i64,
    to: i64,
}

/// Offsets by kind of event and partition.
type Offsets = BTreeMap<&'static str, BTreeMap<i32, i64>>;

#[derive(Serialize)]
struct GapFrame {
    r#type: &'static str,
    dropped: u64,
    from: Offsets,
    to: Offsets,
}

impl Queue {
    pub fn new(limits: Limits) -> Self {
        Self { limits, waiting: Mutex::default(), filled: Notify::new() }
    }

    /// Adds an event. When the queue is full, the oldest quarter makes room, so that a client that stays slow gets a few
    /// long gaps, not one between any two events. Answers how many were dropped.
    pub fn push(&self, event: Arc<Event>) -> u64 {
        let mut waiting = self.waiting();
        let before = waiting.gap.dropped;
        if waiting.events.len() >= self.limits.events
            || waiting.bytes + event.size_bytes() > self.limits.bytes
        {
            waiting.drop_down_to(
                self.limits.events / 4 * 3,
                (self.limits.bytes / 4 * 3).saturating_sub(event.size_bytes()),
            );
        }
        waiting.bytes += event.size_bytes();
        waiting.events.push_back(event);
        let dropped = waiting.gap.dropped - before;
        drop(waiting);
        self.filled.notify_one();
        dropped
    }

    /// Waits for at least one event, and takes up to `most`.
    pub async fn take(&self, most: usize) -> Batch {
        loop {
            if let Some(batch) = self.waiting().take(most) {
                return batch;
            }
            self.filled.notified().await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn drop_down_to(&mut self, events: usize, bytes: usize) {
        while self.events.len() > events || self.bytes > bytes {
            let Some(event) = self.events.pop_front() else { return };
            self.bytes -= event.size_bytes();
            self.gap.add(&event);
        }
    }

    fn take(&mut self, most: usize) -> Option<Batch> {
        if self.events.is_empty() {
            return None;
        }
        let count = most.min(self.events.len());
        let events: Vec<_> = self.events.drain(..count).collect();
        self.bytes -= events.iter().map(|event| event.size_bytes()).sum::<usize>();
        let gap = std::mem::take(&mut self.gap);
        Some(Batch { gap: (gap.dropped > 0).then_some(gap), events })
    }
}

impl Gap {
    fn add(&mut self, event: &Event) {
        self.dropped += 1;
        let span = Span { from: event.offset, to: event.offset };
        let known = self.spans.entry((event.kind, event.partition)).or_insert(span);
        known.from = known.from.min(event.offset);
        known.to = known.to.max(event.offset);
    }

    /// `{"type":"gap","dropped":n,"from":{"metric":{"0":first}},"to":{"metric":{"0":last}}}`: by kind and partition the
    /// first and the last offset dropped.
    pub fn frame(&self) -> String {
        let frame = GapFrame {
            r#type: "gap",
            dropped: self.dropped,
            from: self.offsets(|span| span.from),
            to: self.offsets(|span| span.to),
        };
        serde_json::to_string(&frame).expect("numbers and strings always serialize")
    }

    fn offsets(&self, offset: fn(&Span) -> i64) -> Offsets {
        let mut kinds = Offsets::new();
        for ((kind, partition), span) in &self.spans {
            kinds.entry(kind.as_str()).or_default().insert(*partition, offset(span));
        }
        kinds
    }
}

#[cfg(test)]
mod tests;

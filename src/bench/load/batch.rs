//! A request's bytes, made once: only ids and times are written anew for each sending.

use crate::bench::fill;
use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};
use millrace_schemas::{EventTime, WorkspaceId};
use std::{net::SocketAddr, ops::Range};

/// Hexadecimal digits at the end of an id that count; those before are random.
pub const COUNTER_DIGITS: usize = 12;
const ID_CHARS: usize = 36;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// The edge, and for whom the events are.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub key: String,
    pub workspace: WorkspaceId,
    pub services: u32,
}

pub struct Batch {
    request: Vec<u8>,
    events: Vec<Event>,
}

/// Where in the request an event and its parts are.
struct Event {
    bytes: Range<usize>,
    counter: Range<usize>,
    times: [Range<usize>; 2],
}

impl Batch {
    /// So many events, which are numbered on from `first` and so have services of their own.
    pub fn new(target: &Target, first: u32, events: u32) -> anyhow::Result<Self> {
        let now = Utc::now();
        let records = (0..events).map(|index| {
            let record =
                fill::record(target.workspace, target.services, first.wrapping_add(index), now.into());
            let text = serde_json::to_string(&record)?;
            // Fractions of six digits each: a time written later has the same length.
            let times = [record.started_at, record.completed_at];
            Ok(times.iter().fold(text, |text, time| text.replace(&time.to_string(), &long(*time))))
        });
        let records: Vec<String> = records.collect::<anyhow::Result<_>>()?;
        let body = format!(r#"{{"metrics":[{}]}}"#, records.join(","));
        let Target { address, key, .. } = target;
        let head = format!(
            "POST /api/v1/metrics/ingest HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut start = head.len() + r#"{"metrics":["#.len();
        let mut found = Vec::with_capacity(records.len());
        for record in &records {
            found.push(Event::find(record, start).context("an event has an id and two times")?);
            start += record.len() + 1;
        }
        Ok(Self { request: [head, body].concat().into_bytes(), events: found })
    }

    /// The request for the `number`th time: ids that count on from `number` × events, and the time if one is given.
    pub fn stamp(&mut self, number: u64, time: Option<DateTime<Utc>>) -> &[u8] {
        let time = time.map(|time| long(time.into()));
        let first = number * self.events.len() as u64;
        for (counter, event) in (first..).zip(&self.events) {
            write_counter(&mut self.request[event.counter.clone()], counter);
            for range in time.iter().flat_map(|_| event.times.iter()) {
                self.request[range.clone()].copy_from_slice(time.as_deref().unwrap_or_default().as_bytes());
            }
        }
        &self.request
    }

    /// The events alone, as they were stamped last.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.events.iter().map(|event| &self.request[event.bytes.clone()])
    }
}

impl Event {
    fn find(record: &str, start: usize) -> Option<Self> {
        let after = |name: &str| Some(start + record.find(name)? + name.len());
        let id = after(r#""id":""#)?;
        let length = long(EventTime(0)).len();
        let time = |name| after(name).map(|at| at..at + length);
        Some(Self {
            bytes: start..start + record.len(),
            counter: id + ID_CHARS - COUNTER_DIGITS..id + ID_CHARS,
            times: [time(r#""started_at":""#)?, time(r#""completed_at":""#)?],
        })
    }
}

fn long(time: EventTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn write_counter(digits: &mut [u8], mut counter: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = HEX[(counter % 16) as usize];
        counter /= 16;
    }
}

/// The counter in an event's text, as the log or the feed has it.
pub fn read_counter(text: &[u8]) -> Option<u64> {
    const NAME: &[u8] = br#""id":""#;
    let id = text.windows(NAME.len()).position(|bytes| bytes == NAME)? + NAME.len();
    let digits = text.get(id + ID_CHARS - COUNTER_DIGITS..id + ID_CHARS)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use millrace_schemas::QueryMetric;
    use uuid::Uuid;

    fn target() -> Target {
        Target {
            address: SocketAddr::from(([127, 0, 0, 1], 3000)),
            key: "key".to_owned(),
            workspace: WorkspaceId(Uuid::from_u128(7)),
            services: 3,
        }
    }

    #[test]
    fn a_stamped_request_has_new_ids_and_times_and_the_same_length() {
        let mut batch = Batch::new(&target(), 0, 2).expect("records are JSON");
        let length = batch.stamp(0, None).len();
        let time = Utc::now() + TimeDelta::microseconds(7);
        assert_eq!(batch.stamp(21, Some(time)).len(), length);
        let records: Vec<QueryMetric> =
            batch.records().map(|bytes| serde_json::from_slice(bytes).expect("a record")).collect();
        assert_eq!(records.len(), 2);
        assert!(records.iter().all(|record| record.completed_at == time.into() && record.validate().is_ok()));
        let counters: Vec<_> = batch.records().map(read_counter).collect();
        assert_eq!(counters, [Some(42), Some(43)]);
        let head = String::from_utf8_lossy(&batch.request);
        let (head, body) = head.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
        serde_json::from_str::<serde_json::Value>(body).expect("the body is JSON");
    }
}

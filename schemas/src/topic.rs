//! The topics: their names, what they hold and how they must be configured.

/// The names of all topics under one prefix, so that several installations share a Kafka. In those that stages write there may
/// be records that say nothing ([`crate::key::CLOSING`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Raw [`crate::QueryMetric`] records as JSON, by any producer, keyed as they like; `LogAppendTime`.
    pub metrics: String,
    /// [`crate::partial::Partial`] frames from combine to windows.
    pub partials: String,
    /// [`crate::AggregateRow`] as JSON, keyed by workspace and service.
    pub aggregates: String,
    /// [`crate::progress::Progress`] as JSON: how far the windows are; the newest record of each key is kept.
    pub progress: String,
    /// Records that could not be counted, with their original bytes ([`crate::dead_letter`]).
    pub dead_letters: String,
    /// [`crate::ledger::Entry`] as JSON. Its number of partitions must stay as it is: what a stage tells of one partition
    /// is in one partition, in order.
    pub ledger: String,
}

/// What to create a topic with, where it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: i32,
    pub config: Vec<(&'static str, &'static str)>,
}

/// Of each topic that stages write: what is in them grows with keys, not with records, and each costs the log something in
/// each transaction.
const DERIVED_PARTITIONS_MAX: i32 = 8;
const HOUR_MS: &str = "3600000";
const DAY_MS: &str = "86400000";
const WEEK_MS: &str = "604800000";

impl Topics {
    /// `prefix` is put before each name as it is, for example `millrace.`.
    pub fn with_prefix(prefix: &str) -> Self {
        Self {
            metrics: format!("{prefix}metrics"),
            partials: format!("{prefix}partials"),
            aggregates: format!("{prefix}aggregates"),
            progress: format!("{prefix}progress"),
            dead_letters: format!("{prefix}dead-letters"),
            ledger: format!("{prefix}ledger"),
        }
    }

    /// The raw topic with `partitions`, the others with at most eight; `partials` and `aggregates` always have as many as
    /// each other.
    pub fn specs(&self, partitions: i32) -> Vec<TopicSpec> {
        let append_time = ("message.timestamp.type", "LogAppendTime");
        let derived = partitions.min(DERIVED_PARTITIONS_MAX);
        let spec = |name: &str, retention: &'static str| TopicSpec {
            name: name.to_owned(),
            partitions: derived,
            config: vec![append_time, ("retention.ms", retention)],
        };
        let mut dead_letters = spec(&self.dead_letters, WEEK_MS);
        // A producer may compress what it sends; a dead letter holds the bytes as they were.
        dead_letters.config.push(("max.message.bytes", "8388608"));
        let mut ledger = spec(&self.ledger, WEEK_MS);
        ledger.config.push(("max.message.bytes", "8388608"));
        let progress = TopicSpec {
            name: self.progress.clone(),
            partitions: derived,
            config: vec![append_time, ("cleanup.policy", "compact"), ("segment.ms", HOUR_MS)],
        };
        vec![
            TopicSpec { partitions, ..spec(&self.metrics, WEEK_MS) },
            spec(&self.partials, DAY_MS),
            spec(&self.aggregates, WEEK_MS),
            progress,
            dead_letters,
            ledger,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stages_write_has_few_partitions_and_rows_as_many_as_states() {
        let counts = |partitions| {
            let specs = Topics::with_prefix("t.").specs(partitions).into_iter();
            specs.map(|spec| (spec.name, spec.partitions)).collect::<Vec<_>>()
        };
        let derived = ["t.partials", "t.aggregates", "t.progress", "t.dead-letters", "t.ledger"];
        for (raw, others) in [(1, 1), (8, 8), (9, 8), (300, 8)] {
            let expected = [("t.metrics", raw)].into_iter().chain(derived.map(|name| (name, others)));
            let expected: Vec<_> = expected.map(|(name, count)| (name.to_owned(), count)).collect();
            assert_eq!(counts(raw), expected);
        }
    }
}

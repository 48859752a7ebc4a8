//! Sends dead letters through once more: key and value as they were, into the partition that they came from, so that a
//! repeat meets its first try there. Only an edge's mark is left off: this one comes from no edge.

use super::{Letter, LetterId};
use millrace_log::LogSettings;
use millrace_schemas::{dead_letter::REPLAYED_FROM, ledger::EDGE_END};
use rdkafka::{
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use serde::Serialize;
use std::time::Duration;
use tokio::sync::OnceCell;

/// How long the log may take to acknowledge a record.
const DELIVERY_LIMIT: Duration = Duration::from_secs(5);
/// A producer may have compressed what it sent: what was one message may be larger than usual.
const MESSAGE_BYTES_MAX: &str = "8388608";

/// Why a letter was not sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    pub id: String,
    pub why: String,
}

/// What became of letters.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The log has them.
    pub replayed: usize,
    pub refused: Vec<Refused>,
    /// Of those refused, how many the log did not take or acknowledge: they may be there all the same.
    pub unacknowledged: usize,
}

/// Makes its producer when it is first needed.
pub struct Replay {
    log: LogSettings,
    topic: String,
    producer: OnceCell<FutureProducer>,
}

impl Outcome {
    pub fn refuse(&mut self, id: LetterId, why: impl Into<String>) {
        self.refused.push(Refused { id: id.to_string(), why: why.into() });
    }
}

impl Replay {
    pub fn new(log: LogSettings) -> Self {
        let topic = log.topics().metrics;
        Self { log, topic, producer: OnceCell::new() }
    }

    /// Returns when the log has answered for all of them.
    pub async fn send(&self, letters: &[Letter], outcome: &mut Outcome) -> Result<(), KafkaError> {
        let producer = self.producer.get_or_try_init(async || self.connect()).await?;
        let mut sent = Vec::new();
        for letter in letters {
            let id = letter.entry.id;
            match partition(letter, &self.topic) {
                Ok(partition) => sent.push((id, self.send_one(producer, letter, partition))),
                Err(why) => outcome.refuse(id, why),
            }
        }
        let (ids, sends): (Vec<LetterId>, Vec<_>) = sent.into_iter().unzip();
        for (id, result) in ids.into_iter().zip(futures::future::join_all(sends).await) {
            match result {
                Ok(()) => outcome.replayed += 1,
                Err(error) => {
                    outcome.unacknowledged += 1;
                    outcome.refuse(id, format!("the log did not acknowledge it: {error}"));
                }
            }
        }
        Ok(())
    }

    async fn send_one(
        &self,
        producer: &FutureProducer,
        letter: &Letter,
        partition: i32,
    ) -> Result<(), KafkaError> {
        let id = letter.entry.id.to_string();
        let header = Header { key: REPLAYED_FROM, value: Some(&id) };
        let record = FutureRecord::<[u8], [u8]>::to(&self.topic)
            .partition(partition)
            .headers(OwnedHeaders::new().insert(header));
        let record = letter.key.iter().fold(record, |record, key| record.key(key.as_slice()));
        let record = value(letter).into_iter().fold(record, FutureRecord::payload);
        producer.send(record, DELIVERY_LIMIT).await.map(|_| ()).map_err(|(error, _)| error)
    }

    fn connect(&self) -> Result<FutureProducer, KafkaError> {
        self.log.producer(DELIVERY_LIMIT).set("message.max.bytes", MESSAGE_BYTES_MAX).create()
    }
}

/// As it was sent at first, before an edge marked it.
fn value(letter: &Letter) -> Option<&[u8]> {
    letter.value.as_deref().map(|value| value.strip_suffix(EDGE_END).unwrap_or(value))
}

/// The partition to send a letter to, or why it can't be sent.
fn partition(letter: &Letter, topic: &str) -> Result<i32, String> {
    let source = &letter.source;
    if let Some(bytes) = &letter.cut_from_bytes {
        return Err(format!("only the beginning of it is kept: its value had {bytes} bytes"));
    }
    match (&source.topic, source.partition) {
        (Some(from), Some(partition)) if from == topic && partition >= 0 => Ok(partition),
        (Some(from), Some(_)) if from != topic => Err(format!("it came from the topic {from}, not {topic}")),
        _ => Err("it does not say which partition it came from".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letters::{Source, tests::entry};

    fn letter(topic: Option<&str>, partition: Option<i32>, cut: Option<&str>) -> Letter {
        Letter {
            entry: entry(0, 1, 1),
            error: None,
            source: Source { topic: topic.map(str::to_owned), partition, ..Source::default() },
            key: None,
            value: None,
            cut_from_bytes: cut.map(str::to_owned),
        }
    }

    #[test]
    fn an_edge_s_mark_is_left_off() {
        let sent = |sent: &str| {
            let letter = Letter { value: Some(sent.as_bytes().to_vec()), ..letter(None, None, None) };
            value(&letter).map(<[u8]>::to_vec)
        };
        assert_eq!(sent("{} \t"), Some(b"{}".to_vec()));
        assert_eq!(sent("{} "), Some(b"{} ".to_vec()));
        assert_eq!(value(&letter(None, None, None)), None);
    }

    #[test]
    fn a_letter_goes_where_it_came_from_or_nowhere() {
        let partition = |topic, number, cut| partition(&letter(topic, number, cut), "metrics");
        assert_eq!(partition(Some("metrics"), Some(3), None), Ok(3));
        let refused = [
            partition(Some("metrics"), Some(3), Some("9000000")),
            partition(Some("others"), Some(3), None),
            partition(Some("metrics"), None, None),
            partition(None, Some(3), None),
            partition(Some("metrics"), Some(-1), None),
        ];
        let refused = refused.map(|result| result.expect_err("refused"));
        insta::assert_snapshot!(refused.join("\n"), @r"
        only the beginning of it is kept: its value had 9000000 bytes
        it came from the topic others, not metrics
        it does not say which partition it came from
        it does not say which partition it came from
        it does not say which partition it came from
        ");
    }
}

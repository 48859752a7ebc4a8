//! Transactions that Kafka has left open.
//!
//! Kafka (seen with 4.3.1) takes a partition that has no leader for one that was deleted, and does not write the end of a
//! transaction there, ever: so it goes with the only broker of a cluster, if that is killed between the decision to commit
//! and the marks for it. Nobody who reads committed records gets past such a place, and the group's offsets in it are
//! neither there nor not. What ends it is the end of the next transaction of the same producer that touches the partition.
//!
//! So each member *closes* what it may have left, when it starts ([`super::ended`]) and after it has lost a broker: with a
//! transaction that holds a record without meaning for each partition that it writes ([`millrace_schemas::key::CLOSING`]) and
//! an offset of the group, and ends as its last transaction did; and, should something stand nevertheless, as it commits.

use super::{StageError, lock, past::Past};
use millrace_log::{LogSettings, NextOffset};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// No transaction of a stage is open for so long: of one that was killed the brokers know it by then.
const LEFT_AFTER: Duration = Duration::from_secs(25);
/// By then whoever can has closed it.
const TOLD_AFTER: Duration = Duration::from_secs(90);

/// Where transactions begin that are open, by topic and partition.
pub(crate) type Open = BTreeMap<(String, i32), NextOffset>;

/// What is open for too long, in all topics; one for a process.
pub struct LeftOpen {
    log: LogSettings,
    /// Connected when it is needed.
    past: Mutex<Option<Past>>,
    standing: Mutex<Standing>,
}

impl LeftOpen {
    pub fn new(log: &LogSettings) -> Arc<Self> {
        Arc::new(Self { log: log.clone(), past: Mutex::default(), standing: Mutex::default() })
    }

    /// Looks from time to time, until `shutdown`.
    pub(crate) async fn watch(self: Arc<Self>, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let this = Arc::clone(&self);
            let looking = tokio::task::spawn_blocking(move || this.look_at_all());
            if let Some(Err(panic)) = shutdown.run_until_cancelled(looking).await {
                tracing::error!(%panic, "it was not seen which transactions are open");
            }
        }
    }

    fn look_at_all(&self) {
        let topics = self.log.topics();
        let written =
            [topics.partials, topics.aggregates, topics.progress, topics.dead_letters, topics.ledger];
        let looked = self.look(&written);
        let mut standing = lock(&self.standing);
        match looked {
            Ok(open) => standing.saw(open, Instant::now()).into_iter().for_each(tell),
            // What stood before and after an outage may be about to end.
            Err(error) => {
                *standing = Standing::default();
                unseen(&error);
            }
        }
    }

    fn look(&self, topics: &[String]) -> Result<Open, StageError> {
        let mut past = lock(&self.past);
        let past = match &mut *past {
            Some(past) => past,
            none => none.insert(Past::connect(&self.log)?),
        };
        let mut open = Open::new();
        for topic in topics {
            let of_topic = past.open(topic)?.into_iter();
            open.extend(of_topic.map(|(partition, at)| ((topic.clone(), partition), at)));
        }
        Ok(open)
    }

    /// What has been open in these topics for too long.
    pub(crate) fn standing(&self, topics: &[String]) -> Open {
        lock(&self.standing).longer_than(LEFT_AFTER, topics)
    }
}

fn unseen(error: &StageError) {
    tracing::debug!(%error, "it can't be seen which transactions are open");
}

fn tell(((topic, partition), at): ((String, i32), NextOffset)) {
    tracing::error!(
        topic,
        partition,
        offset = %at,
        open_s = TOLD_AFTER.as_secs(),
        "a transaction is left open: nothing behind it can be read; if it was that of a processor which is gone, start one \
         with the --instance-id and as many --combine-workers as it had; else end it by Kafka's own kafka-transactions.sh"
    );
}

/// What has stood where, and since when.
#[derive(Default)]
struct Standing(BTreeMap<(String, i32), Since>);

#[derive(Clone, Copy)]
struct Since {
    at: NextOffset,
    first_seen: Instant,
    last_seen: Instant,
    told: bool,
}

impl Standing {
    /// What is open now; returns what should be told of.
    fn saw(&mut self, open: Open, now: Instant) -> Open {
        let before = std::mem::take(&mut self.0);
        let mut to_tell = Open::new();
        for (partition, at) in open {
            let new = Since { at, first_seen: now, last_seen: now, told: false };
            let mut since = before.get(&partition).filter(|since| since.at == at).copied().unwrap_or(new);
            since.last_seen = now;
            if !since.told && since.stood() >= TOLD_AFTER {
                since.told = true;
                to_tell.insert(partition.clone(), at);
            }
            self.0.insert(partition, since);
        }
        to_tell
    }

    fn longer_than(&self, limit: Duration, topics: &[String]) -> Open {
        let left =
            |((topic, _), since): &(&(String, i32), &Since)| since.stood() >= limit && topics.contains(topic);
        self.0.iter().filter(left).map(|(partition, since)| (partition.clone(), since.at)).collect()
    }
}

impl Since {
    fn stood(&self) -> Duration {
        self.last_seen.saturating_duration_since(self.first_seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(at: i64) -> Open {
        Open::from([(("t.aggregates".to_owned(), 3), NextOffset::exclusive(at))])
    }

    #[test]
    fn stands_what_is_at_the_same_place_from_look_to_look() {
        let (began, topics) = (Instant::now(), ["t.aggregates".to_owned()]);
        let mut standing = Standing::default();
        let mut saw = |seconds, seen| {
            standing.saw(seen, began + Duration::from_secs(seconds));
            standing.longer_than(LEFT_AFTER, &topics)
        };
        assert_eq!(saw(0, open(5)), Open::new());
        assert_eq!(saw(24, open(5)), Open::new());
        assert_eq!(saw(25, open(5)), open(5));
        assert_eq!(saw(60, open(7)), Open::new(), "another one");
        assert_eq!(saw(80, Open::new()), Open::new(), "it has ended");
        assert_eq!(saw(90, open(7)), Open::new(), "one that ended can't come back: the first look was wrong");
        assert_eq!(saw(115, open(7)), open(7));
        assert_eq!(standing.longer_than(LEFT_AFTER, &["t.ledger".to_owned()]), Open::new());
    }

    #[test]
    fn is_told_once() {
        let (began, mut standing) = (Instant::now(), Standing::default());
        let mut saw = |seconds, seen| standing.saw(seen, began + Duration::from_secs(seconds));
        assert_eq!(saw(0, open(5)), Open::new());
        assert_eq!(saw(90, open(5)), open(5));
        assert_eq!(saw(100, open(5)), Open::new());
    }
}

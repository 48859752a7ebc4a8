//! Tells the ledger what was acknowledged, about every second, on a thread of its own.

use super::Accepted;
use millrace_log::{LogSettings, Publisher};
use millrace_schemas::ledger::{self, Entry, Row, VERSION};
use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

const INTERVAL: Duration = Duration::from_secs(1);
/// Rows of one entry.
const ROWS_MAX: usize = 2_000;

/// Ends, having told the last, when it is dropped; [`Teller::end`] waits for that.
pub struct Teller {
    /// Nothing is ever sent: it closes.
    stop: SyncSender<()>,
    ended: Receiver<()>,
}

impl Teller {
    pub fn start(log: &LogSettings, accepted: Arc<Accepted>) -> Result<Self, io::Error> {
        let topics = log.topics();
        let mut work = Work {
            publisher: Publisher::new(log, &topics.ledger),
            topic: topics.metrics,
            accepted,
            is_broken: false,
        };
        let (stop, stopped) = sync_channel(1);
        let (ending, ended) = sync_channel::<()>(1);
        thread::Builder::new().name("edge-ledger".to_owned()).spawn(move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                work.tell();
            }
            work.tell();
            drop(ending);
        })?;
        Ok(Self { stop, ended })
    }

    /// Tells the last, if that takes no longer than `limit`.
    pub fn end(self, limit: Duration) {
        let Self { stop, ended } = self;
        drop(stop);
        if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the ledger was not told of the last records that were accepted");
        }
    }
}

struct Work {
    publisher: Publisher,
    topic: String,
    accepted: Arc<Accepted>,
    is_broken: bool,
}

impl Work {
    /// What fails is told with the next.
    fn tell(&mut self) {
        for rows in self.accepted.untold().chunks(ROWS_MAX) {
            let entry = Entry::Edge(ledger::Accepted {
                version: VERSION,
                instance: self.accepted.instance,
                topic: self.topic.clone(),
                rows: rows.to_vec(),
            });
            let was_broken = self.is_broken;
            match self.publisher.publish(&[(self.partition(), entry.write())]) {
                Ok(()) => self.told(rows),
                Err(error) if !was_broken => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "the ledger can't be told what is accepted; trying on");
                    self.is_broken = true;
                    return;
                }
                Err(_) => return,
            }
        }
    }

    fn told(&mut self, rows: &[Row]) {
        self.accepted.told(rows);
        if std::mem::take(&mut self.is_broken) {
            tracing::info!("the ledger is told again what is accepted");
        }
    }

    /// All of one run in one partition, the runs in any.
    fn partition(&self) -> i32 {
        let (_, number, ..) = self.accepted.instance.as_fields();
        i32::from(number)
    }
}

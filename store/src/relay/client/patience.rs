//! How long a client may take for what it does, and what it is told when that is over.

use super::{Client, Hold};
use crate::relay::end::End;
use tokio::time::Instant;

impl Client {
    /// Keeps the books of the time for which the backend waits for this client to read.
    pub(super) fn note_stall(&mut self) {
        let full = self.outgoing.len() >= self.hub.settings.limits.answer_bytes;
        let stalls = full && matches!(self.hold, Hold::Turn(_));
        match (stalls, self.stalled_since) {
            (true, None) => self.stalled_since = Some(Instant::now()),
            (false, Some(since)) => {
                self.stalled += since.elapsed();
                self.stalled_since = None;
            }
            _ => {}
        }
    }

    /// When patience ends, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let times = &self.hub.settings.times;
        match &self.hold {
            Hold::Nothing => None,
            Hold::Waiting { since, .. } => Some(*since + times.waiting),
            Hold::Turn(turn) => match self.stalled_since {
                Some(since) => Some(since + times.reading.saturating_sub(self.stalled)),
                None => turn.pipe.is_idle().then(|| self.active + times.idle_in_transaction),
            },
        }
    }

    /// It ended.
    pub(super) fn late(&self) -> End {
        match (&self.hold, self.stalled_since) {
            (Hold::Turn(_), Some(_)) => End::Cut {
                code: "57014",
                message: "the answer was cut off: the client holds up all others by not reading it"
                    .to_owned(),
            },
            (Hold::Turn(_), None) => {
                End::fatal("25P03", "terminating connection due to idle-in-transaction timeout")
            }
            _ => End::fatal("57014", "the database was busy with other clients for too long"),
        }
    }
}

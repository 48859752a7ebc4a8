//! Whether a client has a lock of its session, and so must keep the backend. A text only hints at it; PostgreSQL knows.

use super::{Client, Hold};
use crate::{relay::end::End, session::Lock};

/// Locks of the session: outside of a transaction there are no others.
const LOCKS: &str = "SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' LIMIT 1";

impl Client {
    /// After a statement that names locks of the session: only one that is really held keeps the backend. True where
    /// that was asked.
    pub(super) async fn look_for_locks(&mut self) -> Result<bool, End> {
        let Hold::Turn(turn) = &mut self.hold else { return Ok(false) };
        if self.session.lock != Lock::Named || !self.exchange.is_over() {
            return Ok(false);
        }
        let rows = turn.run(LOCKS).await.map_err(|_| End::dead())?;
        turn.unsettled = true;
        if rows.iter().any(|frame| frame.tag() == b'D') {
            self.session.lock = Lock::Held;
        } else {
            self.session.lock = Lock::None;
            self.release();
        }
        Ok(true)
    }
}

//! The end of a connection, whatever it was doing.

use super::{Client, Hold};
use crate::{
    relay::end::{End, farewell, tidy},
    wire,
};

impl Client {
    /// Says the last words, and gives the backend back in order.
    pub(super) async fn leave(mut self, end: End) {
        if matches!(end, End::Cut { .. }) {
            self.outgoing.cut();
        }
        if let End::Fatal { code, message } | End::Cut { code, message } = &end {
            tracing::debug!(client = self.id, code, message, "a connection is ended");
            wire::fatal(self.outgoing.buffer(), code, message);
        }
        // A place in the queue is given up before another one is taken.
        let held = match std::mem::replace(&mut self.hold, Hold::Nothing) {
            Hold::Turn(turn) => Some(turn),
            Hold::Waiting { .. } | Hold::Nothing => None,
        };
        let Self { hub, stream, outgoing, mut session, .. } = self;
        let tidy = async {
            if let Err(error) = tidy(&hub, held, &mut session).await {
                tracing::debug!(%error, "a connection left nothing to tidy up");
            }
        };
        tokio::join!(farewell(stream, outgoing, &end), tidy);
    }
}

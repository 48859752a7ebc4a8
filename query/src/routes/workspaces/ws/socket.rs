//! One open WebSocket: sends what its queue holds, pings, and ends in time. What the client sends is ignored.

use crate::{
    feed::{Batch, Format, Subscription},
    routes::readable::ReadableSocket,
};
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures::{SinkExt, Stream, StreamExt, stream::SplitSink};
use millrace_schemas::WorkspaceId;
use prometheus::IntGauge;
use serde_json::json;
use std::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, interval_at, timeout},
};
use tokio_util::sync::CancellationToken;

/// A client that is silent from one ping to the next but one is gone.
const PING: Duration = Duration::from_secs(20);
/// A client that doesn't take one frame in this time is gone.
const SEND_LIMIT: Duration = Duration::from_secs(30);
/// How long the closing frame may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Events taken from the queue at once: they are flushed together.
const BATCH: usize = 64;

/// What a socket needs to live.
pub struct Session {
    pub subscription: Subscription,
    /// Asked at each ping whether the key still opens the workspace.
    pub readable: ReadableSocket,
    pub shutdown: CancellationToken,
    pub _place: Place,
}

/// A place among the sockets that may be open, counted while it is held.
pub struct Place {
    open: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    pub fn new(permit: OwnedSemaphorePermit, open: IntGauge) -> Self {
        open.inc();
        Self { open, _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// Why a socket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    ClientLeft,
    ClientSilent,
    ClientStuck,
    KeyRevoked,
    Shutdown,
}

type Sender = SplitSink<WebSocket, Message>;

/// Runs until the client leaves or `shutdown`.
pub async fn run(socket: WebSocket, session: Session) {
    let (mut sender, receiver) = socket.split();
    let heard = AtomicBool::new(true);
    let mut lost = Lost::new(session.subscription.workspace());
    let end = tokio::select! {
        end = listen(receiver, &heard) => end,
        end = send(&mut sender, &session, &heard, &mut lost) => end,
        () = session.shutdown.cancelled() => End::Shutdown,
    };
    lost.tell(end);
    close(&mut sender, end).await;
}

async fn listen(receiver: impl Stream<Item = Result<Message, axum::Error>>, heard: &AtomicBool) -> End {
    let mut receiver = pin!(receiver);
    while let Some(Ok(_)) = receiver.next().await {
        heard.store(true, Ordering::Relaxed);
    }
    End::ClientLeft
}

async fn send(sender: &mut Sender, session: &Session, heard: &AtomicBool, lost: &mut Lost) -> End {
    let feed = &session.subscription;
    let mut pings = interval_at(Instant::now() + PING, PING);
    let mut sent = greet(sender, feed).await;
    while sent.is_ok() {
        sent = tokio::select! {
            batch = feed.queue().take(BATCH) => {
                lost.add(&batch);
                flush(sender, frames(&batch, feed.format())).await
            }
            _ = pings.tick() => {
                if !heard.swap(false, Ordering::Relaxed) {
                    return End::ClientSilent;
                }
                if !session.readable.is_still_readable().await {
                    return End::KeyRevoked;
                }
                flush(sender, [Message::Ping(axum::body::Bytes::new())]).await
            }
        };
    }
    sent.err().unwrap_or(End::ClientLeft)
}

async fn greet(sender: &mut Sender, feed: &Subscription) -> Result<(), End> {
    match feed.format() {
        Format::V1 => Ok(()),
        Format::V2 => {
            let hello = json!({"type": "hello", "workspace_id": feed.workspace()});
            flush(sender, [Message::text(hello.to_string())]).await
        }
    }
}

/// In format v1 there is no frame for a gap.
fn frames(batch: &Batch, format: Format) -> Vec<Message> {
    let gap = batch.gap.as_ref().filter(|_| format == Format::V2).map(|gap| Utf8Bytes::from(gap.frame()));
    let events = batch.events.iter().map(|event| event.frame(format));
    gap.into_iter().chain(events).map(Message::Text).collect()
}

async fn flush(sender: &mut Sender, messages: impl IntoIterator<Item = Message>) -> Result<(), End> {
    for message in messages {
        within(sender.feed(message)).await?;
    }
    within(sender.flush()).await
}

async fn within(step: impl Future<Output = Result<(), axum::Error>>) -> Result<(), End> {
    match timeout(SEND_LIMIT, step).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::ClientLeft),
        Err(_) => Err(End::ClientStuck),
    }
}

/// Says why, where somebody may still hear it.
async fn close(sender: &mut Sender, end: End) {
    let (code, reason) = match end {
        End::ClientLeft | End::ClientStuck => return,
        End::ClientSilent => (close_code::POLICY, "no answer to pings"),
        End::KeyRevoked => (close_code::POLICY, "the key does not open this workspace any more"),
        End::Shutdown => (close_code::AWAY, "the server is shutting down"),
    };
    let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
    if !matches!(timeout(CLOSE_LIMIT, sender.send(Message::Close(Some(frame)))).await, Ok(Ok(()))) {
        tracing::debug!(?end, "a client did not take the closing frame");
    }
}

/// What a slow client lost: logged when it begins and when the socket ends.
struct Lost {
    workspace: WorkspaceId,
    dropped: u64,
}

impl Lost {
    fn new(workspace: WorkspaceId) -> Self {
        Self { workspace, dropped: 0 }
    }

    fn add(&mut self, batch: &Batch) {
        let Some(gap) = &batch.gap else { return };
        if self.dropped == 0 {
            tracing::warn!(workspace = %self.workspace, dropped = gap.dropped, "a live client is too slow");
        }
        self.dropped += gap.dropped;
    }

    fn tell(&self, end: End) {
        if self.dropped > 0 {
            tracing::warn!(workspace = %self.workspace, dropped = self.dropped, ?end, "a live client that was too slow has ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::{Event, Kind, Limits, Queue};
    use futures::FutureExt;
    use millrace_schemas::ServiceId;
    use std::sync::Arc;
    use uuid::Uuid;

    fn texts(batch: &Batch, format: Format) -> Vec<String> {
        let text = |message: Message| message.into_text().expect("text").to_string();
        frames(batch, format).into_iter().map(text).collect()
    }

    #[test]
    fn only_v2_tells_gaps() {
        let queue = Queue::new(Limits { events: 1, bytes: 1000 });
        for offset in 0..3 {
            let service = ServiceId(Uuid::nil());
            queue.push(Arc::new(Event::new(Kind::Metric, service, (0, offset), r#"{"a":1}"#.into())));
        }
        let batch = queue.take(9).now_or_never().expect("an event");
        assert_eq!(texts(&batch, Format::V1), [r#"{"a":1}"#]);
        let gap = r#"{"type":"gap","dropped":2,"from":{"metric":{"0":0}},"to":{"metric":{"0":1}}}"#;
        let event = r#"{"type":"metric","partition":0,"offset":2,"data":{"a":1}}"#;
        assert_eq!(texts(&batch, Format::V2), [gap, event]);
    }
}

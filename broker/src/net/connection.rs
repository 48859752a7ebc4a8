//! One connection: requests begin in order, answers go out in order.
//!
//! One request is worked on at a time, as in Kafka; but one that only waits for the disk lets the next begin.

use super::{Answer, Answering, Close, Limits, Peer, Service, frame::Frame, frame::Frames, limits::Budget};
use bytes::{Buf, Bytes};
use std::{collections::VecDeque, io::IoSlice, sync::Arc, sync::atomic::Ordering};
use tokio::{io::AsyncWriteExt, net::TcpStream, net::tcp};
use tokio_util::sync::CancellationToken;

/// How many requests may wait for the disk at once.
const PIPELINE_MAX: usize = 64;
/// How many pieces of an answer go into one call.
const PIECES_MAX: usize = 64;

pub struct Connection<S> {
    stream: TcpStream,
    peer: Peer,
    service: Arc<S>,
    limits: Arc<Limits>,
    frames: Frames,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    answering: Answering,
    overlaps: bool,
    /// The request's share of the budget, while it may still hold the frame.
    _budget: Option<Budget>,
}

enum Event {
    Frame(Option<Frame>),
    Answer(Option<Answer>),
    Gone,
    Stop,
}

impl<S: Service> Connection<S> {
    pub fn new(stream: TcpStream, peer: Peer, service: Arc<S>, limits: Arc<Limits>) -> Self {
        limits.traffic.connections_accepted.fetch_add(1, Ordering::Relaxed);
        let frames = Frames::new(Arc::clone(&limits));
        Self { stream, peer, service, limits, frames, waiting: VecDeque::new() }
    }

    /// Until the client leaves, breaks the protocol, or `stop`: then only what waits for the disk is answered.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Close> {
        loop {
            match self.event(&stop).await? {
                Event::Frame(Some(frame)) => self.begin(frame)?,
                Event::Answer(answer) => {
                    self.waiting.pop_front();
                    self.write(answer).await?;
                }
                Event::Frame(None) | Event::Stop => return self.drain().await,
                Event::Gone => return Ok(()),
            }
        }
    }

    async fn event(&mut self, stop: &CancellationToken) -> Result<Event, Close> {
        let (mut reader, _) = self.stream.split();
        let admits =
            self.waiting.len() < PIPELINE_MAX && self.waiting.back().is_none_or(|last| last.overlaps);
        let first = self.waiting.front_mut();
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(Event::Stop),
            answer = ready(first) => answer.map(Event::Answer),
            event = next(&mut self.frames, &mut reader, admits) => event,
        }
    }

    fn begin(&mut self, frame: Frame) -> Result<(), Close> {
        let Frame { bytes, budget } = frame;
        let pending = self.service.begin(&self.peer, bytes)?;
        let (answering, overlaps) = (pending.answering, pending.overlaps);
        self.waiting.push_back(Waiting { answering, overlaps, _budget: (!overlaps).then_some(budget) });
        Ok(())
    }

    /// What waits for the disk is still answered; anything else may wait for ever.
    async fn drain(mut self) -> Result<(), Close> {
        while let Some(waiting) = self.waiting.pop_front() {
            if !waiting.overlaps {
                return Ok(());
            }
            let answer = waiting.answering.await?;
            self.write(answer).await?;
        }
        Ok(())
    }

    async fn write(&mut self, answer: Option<Answer>) -> Result<(), Close> {
        let Some(Answer { pieces, held }) = answer else { return Ok(()) };
        let mut pieces = VecDeque::from(pieces);
        let (_, mut writer) = self.stream.split();
        while !pieces.is_empty() {
            let wrote = tokio::time::timeout(self.limits.idle, write_some(&mut writer, &pieces)).await;
            let wrote = wrote.map_err(|_| Close("the client takes no answers".into()))?;
            let wrote = wrote.map_err(|error| Close(format!("writing: {error}")))?;
            if wrote == 0 {
                return Err(Close("the client takes no more".into()));
            }
            self.limits.traffic.bytes_out.fetch_add(wrote as u64, Ordering::Relaxed);
            advance(&mut pieces, wrote);
        }
        drop(held);
        Ok(())
    }
}

/// The oldest request's answer; never, when none waits.
async fn ready(first: Option<&mut Waiting>) -> Result<Option<Answer>, Close> {
    match first {
        Some(waiting) => waiting.answering.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn next(frames: &mut Frames, reader: &mut tcp::ReadHalf<'_>, admits: bool) -> Result<Event, Close> {
    if admits {
        return frames.next(reader).await.map(Event::Frame);
    }
    frames.gone(reader).await.map(|()| Event::Gone)
}

async fn write_some(writer: &mut tcp::WriteHalf<'_>, pieces: &VecDeque<Bytes>) -> std::io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); PIECES_MAX];
    let count = pieces.len().min(PIECES_MAX);
    for (slice, piece) in slices.iter_mut().zip(pieces) {
        *slice = IoSlice::new(piece);
    }
    writer.write_vectored(&slices[..count]).await
}

/// Takes what was written off the front.
fn advance(pieces: &mut VecDeque<Bytes>, mut wrote: usize) {
    while let Some(first) = pieces.front_mut() {
        if wrote < first.len() {
            first.advance(wrote);
            return;
        }
        wrote -= first.len();
        pieces.pop_front();
    }
}

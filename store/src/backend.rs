//! The one backend as its present holder sees it: its pipe, and what its session has been told. Whoever holds it is
//! alone with it; it is handed from client to client.

use crate::{
    pipe::{Output, Pipe},
    session::{Applied, Wanted},
    wire::{self, Answer, Frame},
};
use bytes::BytesMut;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// PostgreSQL's own limit of a message.
const FRAME_MAX: usize = 1 << 30;
/// Bytes of an unwanted answer that are read after the patience has ended.
const LATE_MAX: usize = 1 << 20;
/// Told apart from every client's rows by the text that precedes the number.
const SENTINEL: &str = "millrace-store-settled-";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    #[error("the embedded database restarts")]
    Dead,
    /// The backend refused what the store asked of it.
    #[error("{message} (SQLSTATE {code})")]
    Refused { code: String, message: String },
}

#[derive(Debug)]
pub struct Backend {
    pub pipe: Arc<Pipe>,
    pub applied: Applied,
    /// All settings that the session reports, under the names it gives them.
    pub reported: BTreeMap<String, String>,
    /// Somebody left without taking leave: it must be settled before anybody else uses it.
    pub unsettled: bool,
    buffer: BytesMut,
    settled: u64,
}

impl Backend {
    /// A backend that was just opened; `greeting` is what it said to that.
    pub fn new(pipe: Arc<Pipe>, greeting: &[u8]) -> Self {
        let mut backend = Self {
            pipe,
            applied: Applied::default(),
            reported: BTreeMap::new(),
            unsettled: false,
            buffer: BytesMut::from(greeting),
            settled: 0,
        };
        while let Ok(Some(frame)) = wire::next_frame(&mut backend.buffer, FRAME_MAX) {
            backend.note(&Answer::of(&frame));
        }
        backend
    }

    /// The next message that is there, without waiting.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, BackendError> {
        loop {
            let frame = wire::next_frame(&mut self.buffer, FRAME_MAX).map_err(|error| {
                tracing::error!(%error, "the embedded database breaks the protocol; it is restarted");
                self.pipe.cut();
                BackendError::Dead
            })?;
            if let Some(frame) = frame {
                return Ok(Some(frame));
            }
            match self.pipe.take() {
                Output::Bytes(bytes) if self.buffer.is_empty() => self.buffer = bytes,
                Output::Bytes(bytes) => self.buffer.extend_from_slice(&bytes),
                Output::Nothing => return Ok(None),
                Output::Dead => return Err(BackendError::Dead),
            }
        }
    }

    /// Remembers what the session reports.
    pub fn note(&mut self, answer: &Answer) {
        if let Answer::Setting { name, value } = answer {
            self.reported.insert(name.clone(), value.clone());
        }
    }

    /// Everything said up to the next readiness; what it means is the caller's.
    pub async fn until_ready(&mut self) -> Result<Vec<Frame>, BackendError> {
        let mut frames = Vec::new();
        loop {
            while let Some(frame) = self.next_frame()? {
                let answer = Answer::of(&frame);
                self.note(&answer);
                frames.push(frame);
                if matches!(answer, Answer::Ready(_)) {
                    return Ok(frames);
                }
            }
            self.pipe.changed().await;
        }
    }

    /// Runs SQL of the store's own; its rows come back.
    pub async fn run(&mut self, sql: &str) -> Result<Vec<Frame>, BackendError> {
        let mut request = BytesMut::new();
        wire::put_query(&mut request, sql);
        self.request(request).await
    }

    /// Sends messages that end in exactly one readiness, and waits for that.
    pub async fn request(&mut self, mut request: BytesMut) -> Result<Vec<Frame>, BackendError> {
        self.unsettled = true;
        self.pipe.offer(&mut request);
        let frames = self.until_ready().await?;
        self.unsettled = false;
        match frames.iter().find(|frame| frame.tag() == b'E') {
            Some(frame) => Err(BackendError::Refused {
                code: wire::field(frame, b'C').unwrap_or_default(),
                message: wire::field(frame, b'M').unwrap_or_default(),
            }),
            None => Ok(frames),
        }
    }

    /// Makes the session fit for a client, or for the store itself.
    pub async fn suit(&mut self, client: Option<u32>, wanted: &Wanted) -> Result<(), BackendError> {
        if let Some(sql) = self.applied.change_to(client, wanted) {
            self.applied.changed(0);
            self.run(&sql).await?;
            self.applied.changed_to(wanted);
        }
        Ok(())
    }

    /// Brings a backend whose client went away back to where anybody can use it: ends a copy, the skipping after an
    /// error and the transaction, and drops what is still said. After `patience` of dropping, it is restarted.
    pub async fn settle(&mut self, patience: Duration) -> Result<(), BackendError> {
        self.settled += 1;
        let sentinel = format!("{SENTINEL}{}", self.settled);
        let mut request = BytesMut::new();
        wire::put_frame(&mut request, b'f', |out| wire::put_text(out, b"the client is gone"));
        wire::put_sync(&mut request);
        wire::put_query(&mut request, "ROLLBACK");
        wire::put_query(&mut request, &format!("SELECT '{sentinel}'"));
        self.unsettled = true;
        self.drop_until(&sentinel, request, Instant::now() + patience).await?;
        self.until_ready().await?;
        self.unsettled = false;
        Ok(())
    }

    /// Drops what is said up to the sentinel. A statement that computes is waited for, as nothing can stop it; one that
    /// still pours out rows after the deadline is ended by ending the backend.
    async fn drop_until(
        &mut self,
        sentinel: &str,
        mut request: BytesMut,
        deadline: Instant,
    ) -> Result<(), BackendError> {
        let mut late = 0;
        loop {
            self.pipe.offer(&mut request);
            while let Some(frame) = self.next_frame()? {
                self.note(&Answer::of(&frame));
                if frame.tag() == b'D' && frame.body().ends_with(sentinel.as_bytes()) {
                    return Ok(());
                }
                late += if Instant::now() > deadline { frame.bytes().len() } else { 0 };
                if late > LATE_MAX {
                    tracing::warn!(
                        "a statement whose client is gone does not end; restarting the embedded database"
                    );
                    self.pipe.cut();
                    self.until_dead().await;
                    return Err(BackendError::Dead);
                }
            }
            self.pipe.changed().await;
        }
    }

    async fn until_dead(&mut self) {
        while !matches!(self.pipe.take(), Output::Dead) {
            self.pipe.changed().await;
        }
    }
}

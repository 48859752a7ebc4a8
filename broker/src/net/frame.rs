//! Reads frames: four bytes of length, then so many. The buffer grows as bytes come, not as a length claims.

use super::{Close, Limits, limits::Budget};
use bytes::{Buf, Bytes, BytesMut};
use std::sync::{Arc, atomic::Ordering};
use tokio::{io::AsyncRead, io::AsyncReadExt, time::Instant};

const LENGTH_BYTES: usize = 4;
/// What a connection may hold without a share of the budget, and how much is read at once at first.
const UNBUDGETED: usize = 64 << 10;
const READ_MIN: usize = 4 << 10;

/// A whole frame, and its share of the budget until it is worked off.
pub struct Frame {
    pub bytes: Bytes,
    pub budget: Budget,
}

/// Reads the frames of one connection. `next` and `peek` may be dropped at any await and called again.
pub struct Frames {
    buffer: BytesMut,
    limits: Arc<Limits>,
    budget: Budget,
    /// When the frame that is being read must be whole.
    deadline: Option<Instant>,
}

impl Frames {
    pub fn new(limits: Arc<Limits>) -> Self {
        Self { buffer: BytesMut::new(), limits, budget: Budget::default(), deadline: None }
    }

    /// The next frame; None when the client has closed between two.
    pub async fn next(&mut self, from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Frame>, Close> {
        loop {
            let length = self.length()?;
            if let Some(length) = length
                && self.buffer.len() >= LENGTH_BYTES + length
            {
                return Ok(Some(self.cut(length)));
            }
            let end = self.fund(length.unwrap_or(0)).await;
            if !self.read(from, end - self.buffer.len()).await? {
                return Ok(None);
            }
        }
    }

    /// Takes a share of the budget for as many bytes again as are there: what is only claimed takes nothing from others.
    /// Up to where the buffer may grow.
    async fn fund(&mut self, length: usize) -> usize {
        let allowed = self.budget.bytes.max(UNBUDGETED);
        if length > allowed && self.buffer.len() >= allowed {
            let (began, is_first) = (Instant::now(), self.budget.bytes == 0);
            let bytes = length.min(2 * self.buffer.len());
            self.limits.admit(&mut self.budget, bytes, length).await;
            self.deadline = match self.deadline {
                Some(deadline) if !is_first => Some(deadline + began.elapsed()),
                _ => Some(Instant::now() + self.limits.frame_time(length)),
            };
        }
        LENGTH_BYTES + length.min(self.budget.bytes.max(UNBUDGETED))
    }

    /// Waits for the client's end, reading no more than the length of the next frame: while a request is answered that
    /// the next one has to wait for. Never returns when there is a next one.
    pub async fn gone(&mut self, from: &mut (impl AsyncRead + Unpin)) -> Result<(), Close> {
        while self.buffer.is_empty() {
            if !self.read(from, LENGTH_BYTES).await? {
                return Ok(());
            }
        }
        std::future::pending().await
    }

    /// The length of the frame that begins in the buffer, if that much of it is there.
    fn length(&self) -> Result<Option<usize>, Close> {
        let Some(prefix) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = i32::from_be_bytes(*prefix);
        let max = self.limits.request_bytes_max;
        match usize::try_from(length) {
            Ok(length) if length <= max => Ok(Some(length)),
            _ => Err(Close(format!("a frame of {length} bytes; at most {max} (--log-request-bytes)"))),
        }
    }

    /// Small frames are copied, so that what keeps a part of one does not keep the whole buffer.
    fn cut(&mut self, length: usize) -> Frame {
        let budget = std::mem::take(&mut self.budget);
        self.buffer.advance(LENGTH_BYTES);
        let bytes = if length <= READ_MIN {
            let copy = Bytes::copy_from_slice(&self.buffer[..length]);
            self.buffer.advance(length);
            copy
        } else {
            self.buffer.split_to(length).freeze()
        };
        self.deadline = (!self.buffer.is_empty()).then(|| Instant::now() + self.limits.frame_grace);
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new(); // an idle connection holds nothing
        }
        Frame { bytes, budget }
    }

    /// Reads once; false at the client's end between two frames.
    async fn read(&mut self, from: &mut (impl AsyncRead + Unpin), wanted: usize) -> Result<bool, Close> {
        if self.buffer.capacity() - self.buffer.len() < wanted.min(READ_MIN) {
            // Doubling: what is copied in all stays below the frame's own size.
            let grow = if self.buffer.is_empty() { READ_MIN } else { self.buffer.len().max(UNBUDGETED) };
            self.buffer.reserve(grow.min(wanted.max(READ_MIN)));
        }
        // Time for a large frame is for one that comes, not for one that stops.
        let pause = Instant::now() + self.limits.frame_grace;
        let waits = self.deadline.map_or(Instant::now() + self.limits.idle, |deadline| deadline.min(pause));
        let read = match tokio::time::timeout_at(waits, from.read_buf(&mut self.buffer)).await {
            Ok(read) => read.map_err(|error| Close(format!("reading: {error}")))?,
            Err(_) if self.buffer.is_empty() => return Err(Close("idle for too long".into())),
            Err(_) => return Err(Close("a frame does not come to its end".into())),
        };
        self.limits.traffic.bytes_in.fetch_add(read as u64, Ordering::Relaxed);
        if read == 0 {
            let whole = self.buffer.is_empty();
            return if whole { Ok(false) } else { Err(Close("the client left in a frame".into())) };
        }
        self.deadline.get_or_insert_with(|| Instant::now() + self.limits.frame_grace);
        Ok(true)
    }
}

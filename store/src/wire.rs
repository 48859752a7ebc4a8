//! PostgreSQL's wire protocol, version 3: cutting frames out of a stream of bytes, and making those that the relay
//! says by itself. It decides nothing and performs no input or output.
//! Source: PostgreSQL 18 documentation, chapter 54 "Frontend/Backend Protocol".

mod answers;
mod startup;
#[cfg(test)]
mod tests;

pub use answers::{Answer, fatal, field, greeting, negotiate, ready};
pub use startup::{Startup, StartupError, parse_options, startup};

use bytes::{BufMut, Bytes, BytesMut};

/// A tag and a length come first; the length counts itself.
pub const HEADER: usize = 5;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a message of type {tag:?} gives the impossible length {length}")]
    Length { tag: char, length: u32 },
    #[error("a message of {length} bytes is larger than the limit of {limit}")]
    TooLong { length: usize, limit: usize },
    #[error("a message of type {tag:?} is malformed")]
    Malformed { tag: char },
}

/// One whole message: tag, length, body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    pub fn tag(&self) -> u8 {
        self.0[0]
    }

    pub fn body(&self) -> &[u8] {
        &self.0[HEADER..]
    }

    /// The message as it travels.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The body cut at its first zero byte: a name, and what follows it.
    pub fn name_and_rest(&self, from: usize) -> Result<(&[u8], &[u8]), FrameError> {
        let body = self.body().get(from..).unwrap_or_default();
        split_zero(body).ok_or(FrameError::Malformed { tag: char::from(self.tag()) })
    }
}

/// Cuts the first frame off `buffer`, or says that it isn't there yet.
pub fn next_frame(buffer: &mut BytesMut, limit: usize) -> Result<Option<Frame>, FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
    let [tag, length @ ..] = *header;
    let length = u32::from_be_bytes(length);
    let whole = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(1);
    if !(4..=u32::MAX / 2).contains(&length) {
        return Err(FrameError::Length { tag: char::from(tag), length });
    }
    if whole > limit {
        return Err(FrameError::TooLong { length: whole, limit });
    }
    if buffer.len() < whole {
        return Ok(None);
    }
    Ok(Some(Frame(buffer.split_to(whole).freeze())))
}

/// Appends one message whose body is written by `body`.
pub fn put_frame(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let start = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// A text with its closing zero byte.
pub fn put_text(out: &mut BytesMut, text: &[u8]) {
    out.put_slice(text);
    out.put_u8(0);
}

/// A simple query.
pub fn put_query(out: &mut BytesMut, sql: &str) {
    put_frame(out, b'Q', |out| put_text(out, sql.as_bytes()));
}

/// The end of a unit of the extended protocol.
pub fn put_sync(out: &mut BytesMut) {
    put_frame(out, b'S', |_| {});
}

/// Closes a prepared statement.
pub fn put_close(out: &mut BytesMut, name: &[u8]) {
    put_frame(out, b'C', |out| {
        out.put_u8(b'S');
        put_text(out, name);
    });
}

/// What stands before the first zero byte, and what after it.
pub fn split_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

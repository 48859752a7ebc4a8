//! What a server says: reading the little that the relay must know of the backend's answers, and making its own.

use super::{Frame, put_frame, put_text, split_zero};
use bytes::{BufMut, BytesMut};
use std::collections::BTreeMap;

/// What the relay acts upon; everything else passes through unseen.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The backend waits for the next request: `I` idle, `T` in a transaction, `E` in a failed one.
    Ready(u8),
    /// A setting of the session has this value now.
    Setting {
        name: String,
        value: String,
    },
    /// A notification on a channel.
    Notification {
        channel: String,
    },
    /// A command is done, for example `SET`.
    Done(String),
    CloseDone,
    CopyIn,
    Failed,
    Other,
}

impl Answer {
    pub fn of(frame: &Frame) -> Self {
        let body = frame.body();
        match frame.tag() {
            b'Z' => body.first().map_or(Self::Other, |status| Self::Ready(*status)),
            b'S' => setting(body).unwrap_or(Self::Other),
            b'A' => notification(body).unwrap_or(Self::Other),
            b'C' => split_zero(body).map_or(Self::Other, |(tag, _)| Self::Done(text(tag))),
            b'3' => Self::CloseDone,
            b'G' => Self::CopyIn,
            b'E' => Self::Failed,
            _ => Self::Other,
        }
    }
}

fn setting(body: &[u8]) -> Option<Answer> {
    let (name, rest) = split_zero(body)?;
    let (value, _) = split_zero(rest)?;
    Some(Answer::Setting { name: text(name), value: text(value) })
}

fn notification(body: &[u8]) -> Option<Answer> {
    let (channel, _) = split_zero(body.get(4..)?)?;
    Some(Answer::Notification { channel: text(channel) })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A field of an error or a notice: `C` the code, `M` the message.
pub fn field(frame: &Frame, wanted: u8) -> Option<String> {
    let mut rest = frame.body();
    while let Some((kind, after)) = rest.split_first() {
        let (value, after) = split_zero(after)?;
        if *kind == wanted {
            return Some(text(value));
        }
        rest = after;
    }
    None
}

/// Appends an error, with its SQLSTATE, after which the connection ends.
pub fn fatal(out: &mut BytesMut, code: &str, message: &str) {
    put_frame(out, b'E', |out| {
        for (kind, value) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', message)] {
            out.put_u8(kind);
            put_text(out, value.as_bytes());
        }
        out.put_u8(0);
    });
}

/// Ready for the next request, outside of a transaction.
pub fn ready(out: &mut BytesMut) {
    put_frame(out, b'Z', |out| out.put_u8(b'I'));
}

/// Everything from the accepted authentication to the first readiness.
pub fn greeting(out: &mut BytesMut, client: u32, secret: u32, settings: &BTreeMap<String, String>) {
    put_frame(out, b'R', |out| out.put_u32(0));
    for (name, value) in settings {
        put_frame(out, b'S', |out| {
            put_text(out, name.as_bytes());
            put_text(out, value.as_bytes());
        });
    }
    put_frame(out, b'K', |out| {
        out.put_u32(client);
        out.put_u32(secret);
    });
    ready(out);
}

/// Tells a client that asked for more which version and which of its protocol options there are: none of them.
pub fn negotiate(out: &mut BytesMut, version: u32, unknown: &[String]) {
    put_frame(out, b'v', |out| {
        out.put_u32(version);
        out.put_u32(u32::try_from(unknown.len()).unwrap_or(u32::MAX));
        for name in unknown {
            put_text(out, name.as_bytes());
        }
    });
}

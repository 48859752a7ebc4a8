//! Requests of the protocol as steps of the state machines, and their answers.
//!
//! A request is answered when what it changed is as durable as the settings promise.

mod groups;
mod members;
mod offsets;
mod transactions;

use bytes::Bytes;
use kafka_protocol::{ResponseError, protocol::StrBytes};

fn code<T>(result: &Result<T, ResponseError>) -> i16 {
    result.as_ref().err().map_or(0, ResponseError::code)
}

/// A copy, so that the state does not keep the whole request in memory.
fn owned(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

fn text_of(instance: &Option<StrBytes>) -> Option<String> {
    instance.as_ref().map(|instance| instance.as_str().to_owned())
}

//! The Arrow part of a frame: partial states as an IPC stream, which anyone may have written.
//!
//! Arrow's reader panics at some damaged streams and takes as much memory as a message says that it has: so lengths are
//! looked at before, and a panic is an error like any other.

use arrow::{
    array::RecordBatch,
    datatypes::Schema,
    error::ArrowError,
    ipc::{MessageHeader, reader::StreamReader, root_as_message},
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Before each message of a stream.
const CONTINUATION: [u8; 4] = [0xff; 4];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading an Arrow stream")]
    Arrow(#[from] ArrowError),
    #[error("an Arrow stream that is damaged, or not of a kind that is written here")]
    Damaged,
}

/// The batches of a stream whose columns pass `check`: of others no batch is read.
pub fn read<E: From<Error>>(
    stream: &[u8],
    check: impl FnOnce(&Schema) -> Result<(), E>,
) -> Result<Vec<RecordBatch>, E> {
    messages_are_whole(stream).ok_or(Error::Damaged)?;
    let read = || {
        let reader = StreamReader::try_new(stream, None).map_err(Error::from)?;
        check(&reader.schema())?;
        let batches: Result<Vec<_>, ArrowError> = reader.collect();
        Ok(batches.map_err(Error::from)?)
    };
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(Error::Damaged.into()))
}

/// `Some` if every message lies within the stream and is as they are written here: a schema or an uncompressed batch.
fn messages_are_whole(mut stream: &[u8]) -> Option<()> {
    while !stream.is_empty() {
        let (continuation, rest) = stream.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(i32::from_le_bytes(*length)).ok()?;
        if *continuation != CONTINUATION {
            return None;
        }
        if length == 0 {
            // The end of the stream; what follows is not read.
            return Some(());
        }
        let (metadata, rest) = rest.split_at_checked(length)?;
        let message = root_as_message(metadata).ok()?;
        match message.header_type() {
            MessageHeader::Schema => {}
            MessageHeader::RecordBatch if message.header_as_record_batch()?.compression().is_none() => {}
            _ => return None,
        }
        (_, stream) = rest.split_at_checked(usize::try_from(message.bodyLength()).ok()?)?;
    }
    Some(())
}

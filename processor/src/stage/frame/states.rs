//! The Arrow part of a frame: partial states as an IPC stream, which anyone may have written.

use arrow::{array::RecordBatch, datatypes::Schema, error::ArrowError, ipc::reader::StreamReader};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading an Arrow stream")]
    Arrow(#[from] ArrowError),
    #[error("an Arrow stream that is damaged")]
    Damaged,
}

/// The batches of a stream whose columns pass `check`: of others no batch is read.
pub fn read<E: From<Error>>(
    stream: &[u8],
    check: impl FnOnce(&Schema) -> Result<(), E>,
) -> Result<Vec<RecordBatch>, E> {
    let reader = StreamReader::try_new(stream, None).map_err(Error::from)?;
    check(&reader.schema())?;
    let batches: Result<Vec<_>, ArrowError> = reader.collect();
    Ok(batches.map_err(Error::from)?)
}

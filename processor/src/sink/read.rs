//! Reads a record of the `aggregates` topic.

use crate::{aggregate, sketch::SketchError};
use millrace_schemas::{
    AggregateRow,
    aggregate::{Kind, VERSION},
};
use serde::Deserialize;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A newer Millrace writes here: to skip its rows would lose them.
    #[error("an aggregate row of version {0}; this build reads up to {VERSION}: upgrade the sink first")]
    Newer(u64),
    #[error("not an aggregate row")]
    Json(#[source] serde_json::Error),
    #[error("the sketch of an aggregate row")]
    Sketch(#[source] SketchError),
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

/// The row in `bytes`. Its sketch is checked when it will have to be merged.
pub fn read(bytes: &[u8]) -> Result<AggregateRow, Error> {
    let row: AggregateRow = serde_json::from_slice(bytes).map_err(|error| explain(bytes, error))?;
    if row.version > VERSION {
        return Err(Error::Newer(row.version.into()));
    }
    if row.kind == Kind::Delta {
        aggregate::decode_sketch(&row.sketch).map_err(Error::Sketch)?;
    } else {
        aggregate::sketch_bytes(&row.sketch).map_err(Error::Sketch)?;
    }
    Ok(row)
}

/// A newer row may have any shape but its version.
fn explain(bytes: &[u8], error: serde_json::Error) -> Error {
    match serde_json::from_slice::<Versioned>(bytes) {
        Ok(Versioned { version }) if version > VERSION.into() => Error::Newer(version),
        _ => Error::Json(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::batch::tests::row, *};
    use serde_json::{Value, json};

    fn with(field: &str, value: Value) -> Result<AggregateRow, Error> {
        let mut json = serde_json::to_value(row(1, 1)).expect("serializes");
        json[field] = value;
        read(&serde_json::to_vec(&json).expect("serializes"))
    }

    #[test]
    fn reads_a_row() {
        assert_eq!(with("version", json!(1)).expect("a row"), row(1, 1));
    }

    #[test]
    fn a_newer_version_is_told_from_garbage() {
        assert!(matches!(with("version", json!(2)), Err(Error::Newer(2))));
        assert!(matches!(read(br#"{"version": 900, "other": "shape"}"#), Err(Error::Newer(900))));
        assert!(matches!(read(br#"{"version": 1, "other": "shape"}"#), Err(Error::Json(_))));
        assert!(matches!(read(b"garbage"), Err(Error::Json(_))));
        assert!(matches!(read(b""), Err(Error::Json(_))));
    }

    #[test]
    fn a_sketch_that_can_not_be_stored_or_merged_is_garbage() {
        assert!(matches!(with("sketch", json!("%")), Err(Error::Sketch(_))));
        let mut delta = serde_json::to_value(row(1, 1)).expect("serializes");
        delta["kind"] = json!("delta");
        delta["sketch"] = json!("AAAA");
        assert!(matches!(read(delta.to_string().as_bytes()), Err(Error::Sketch(_))));
    }
}

//! Reads a record of the `aggregates` topic.

use crate::{aggregate, sketch::SketchError};
use millrace_schemas::{AggregateRow, aggregate::Kind};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Row(#[from] millrace_schemas::aggregate::Error),
    #[error("the sketch of an aggregate row")]
    Sketch(#[source] SketchError),
}

/// The row in `bytes`. Its sketch is checked when it will have to be merged.
pub fn read(bytes: &[u8]) -> Result<AggregateRow, Error> {
    let row = AggregateRow::read(bytes)?;
    if row.kind == Kind::Delta {
        aggregate::decode_sketch(&row.sketch).map_err(Error::Sketch)?;
    } else {
        aggregate::sketch_bytes(&row.sketch).map_err(Error::Sketch)?;
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::{super::batch::tests::row, *};
    use millrace_schemas::aggregate::Error::{Json, Newer};
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
        assert!(matches!(with("version", json!(2)), Err(Error::Row(Newer(2)))));
        assert!(matches!(read(br#"{"version": 900, "other": "shape"}"#), Err(Error::Row(Newer(900)))));
        assert!(matches!(read(br#"{"version": 1, "other": "shape"}"#), Err(Error::Row(Json(_)))));
        assert!(matches!(read(b"garbage"), Err(Error::Row(Json(_)))));
        assert!(matches!(read(b""), Err(Error::Row(Json(_)))));
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

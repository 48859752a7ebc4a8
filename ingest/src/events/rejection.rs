//! What a producer is told of the events that were refused.

use millrace_schemas::FieldError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An answer describes no more refused events than this; it counts all of them.
const DESCRIBED_MAX: usize = 100;
/// A message may quote what was sent; it is cut at this many bytes.
const MESSAGE_BYTES_MAX: usize = 300;
/// An id that is no UUID is quoted up to this many bytes.
const ID_BYTES_MAX: usize = 64;

/// One refused event: where it is, which field is wrong ("" for the whole of it), and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// From 0, in the order of the request.
    pub index: usize,
    /// From 1; only in a body of lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub field: String,
    pub message: String,
}

/// The refused events of one request.
#[derive(Debug, Default)]
pub struct Rejections {
    described: Vec<Rejection>,
    count: usize,
    forbidden: usize,
}

impl Rejection {
    pub fn new(index: usize, error: FieldError) -> Self {
        Self {
            index,
            line: None,
            id: None,
            field: error.field,
            message: cut(error.message, MESSAGE_BYTES_MAX),
        }
    }

    pub fn at_line(self, line: Option<usize>) -> Self {
        Self { line, ..self }
    }

    pub fn with_id(self, id: String) -> Self {
        Self { id: Some(cut(id, ID_BYTES_MAX)), ..self }
    }

    /// With the id that stands in the event's text, if one can be made out.
    pub fn with_id_of(self, event: &str) -> Self {
        #[derive(Deserialize)]
        struct Identified {
            id: Value,
        }
        match serde_json::from_str(event) {
            Ok(Identified { id: Value::String(id) }) => self.with_id(id),
            _ => self,
        }
    }
}

impl Rejections {
    pub fn add(&mut self, rejection: Rejection) {
        self.count += 1;
        if self.described.len() < DESCRIBED_MAX {
            self.described.push(rejection);
        }
    }

    /// One that names a workspace which the key may not write.
    pub fn add_forbidden(&mut self, rejection: Rejection) {
        self.forbidden += 1;
        self.add(rejection);
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn all_forbidden(&self) -> bool {
        self.count > 0 && self.forbidden == self.count
    }

    /// As JSON, in the order of the request.
    pub fn describe(mut self) -> Value {
        self.described.sort_by_key(|rejection| rejection.index);
        serde_json::to_value(self.described).expect("a rejection is always JSON")
    }
}

fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_the_first_hundred_and_counts_all() {
        let mut rejections = Rejections::default();
        for index in (0..250).rev() {
            rejections.add(Rejection::new(index, FieldError::new("id", "is required")));
        }
        assert_eq!(rejections.count(), 250);
        assert!(!rejections.all_forbidden());
        let described = rejections.describe();
        assert_eq!(described.as_array().map(Vec::len), Some(DESCRIBED_MAX));
        assert_eq!(described[0], serde_json::json!({"index": 150, "field": "id", "message": "is required"}));
    }

    #[test]
    fn a_quoted_text_is_cut_between_characters() {
        let rejection = Rejection::new(0, FieldError::new("status", "ä".repeat(1000)));
        assert_eq!(rejection.message.chars().count(), MESSAGE_BYTES_MAX / 2 + 1);
        assert_eq!(rejection.with_id_of(r#"{"id":"x","a":[1]}"#).id.as_deref(), Some("x"));
    }
}

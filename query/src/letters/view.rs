//! A dead letter as clients see it.

use super::Letter;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use millrace_schemas::{EventTime, WorkspaceId};
use serde::Serialize;

/// The bytes are the original ones: as text where they are UTF-8.
#[derive(Debug, Serialize)]
pub struct LetterView {
    id: String,
    /// When it became a dead letter, by the log's clock.
    at: EventTime,
    workspace_id: Option<WorkspaceId>,
    reason: Option<String>,
    error: Option<String>,
    source: SourceView,
    key: Option<Bytes>,
    value: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_from_bytes: Option<String>,
}

#[derive(Debug, Serialize)]
struct SourceView {
    topic: Option<String>,
    partition: Option<i32>,
    offset: Option<i64>,
    time: Option<EventTime>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Bytes {
    Text(String),
    Base64(String),
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes)
            .map_or_else(|error| Self::Base64(STANDARD.encode(error.as_bytes())), Self::Text)
    }
}

impl From<Letter> for LetterView {
    fn from(letter: Letter) -> Self {
        let Letter { entry, error, source, key, value, cut_from_bytes } = letter;
        Self {
            id: entry.id.to_string(),
            at: entry.at,
            workspace_id: entry.workspace,
            reason: entry.reason,
            error,
            source: SourceView {
                topic: source.topic,
                partition: source.partition,
                offset: source.offset,
                time: source.time,
            },
            key: key.map(Bytes::from),
            value: value.map(Bytes::from),
            cut_from_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::entry, *};
    use crate::letters::Source;

    #[test]
    fn bytes_are_text_where_they_can_be() {
        let letter = Letter {
            entry: entry(0, 17, 1),
            error: Some("not JSON".to_owned()),
            source: Source {
                topic: Some("metrics".to_owned()),
                partition: Some(2),
                offset: Some(5),
                time: None,
            },
            key: None,
            value: Some(b"\xff{".to_vec()),
            cut_from_bytes: None,
        };
        let text = Letter { key: Some(b"k".to_vec()), value: Some(b"{".to_vec()), ..letter.clone() };
        let view = |letter| serde_json::to_string(&LetterView::from(letter)).expect("serializes");
        insta::assert_snapshot!(view(letter), @r#"{"id":"0-17","at":"1970-01-01T00:00:01Z","workspace_id":null,"reason":"invalid","error":"not JSON","source":{"topic":"metrics","partition":2,"offset":5,"time":null},"key":null,"value":{"base64":"/3s="}}"#);
        assert!(view(text).ends_with(r#""key":{"text":"k"},"value":{"text":"{"}}"#));
    }
}

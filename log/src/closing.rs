//! Records that say nothing.

use millrace_schemas::key::{CLOSING, TRANSACTION};
use rdkafka::{Message, message::Headers};

/// Whether a record is there only to end a transaction ([`CLOSING`]): readers of the topics that stages write pass it over.
pub fn is_closing(message: &impl Message) -> bool {
    message.payload().is_none()
        && message.key() == Some(CLOSING.as_bytes())
        // A dead letter has more.
        && message.headers().is_none_or(|headers| headers.iter().all(|header| header.key == TRANSACTION))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::{
        Timestamp,
        message::{Header, OwnedHeaders, OwnedMessage},
    };

    fn message(key: &str, payload: Option<&str>, headers: Option<OwnedHeaders>) -> OwnedMessage {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let (payload, key) = (payload.map(bytes), Some(bytes(key)));
        OwnedMessage::new(payload, key, "t.ledger".to_owned(), Timestamp::NotAvailable, 0, 0, headers)
    }

    #[test]
    fn only_a_record_without_value_and_headers_but_the_name_says_nothing() {
        let with = |key| Some(OwnedHeaders::new().insert(Header { key, value: Some("a value") }));
        assert!(is_closing(&message(CLOSING, None, None)));
        assert!(is_closing(&message(CLOSING, None, with(TRANSACTION))));
        assert!(!is_closing(&message("another", None, None)));
        assert!(!is_closing(&message(CLOSING, Some(""), None)));
        assert!(!is_closing(&message(CLOSING, None, with("millrace.reason"))), "a dead letter with this key");
    }
}

//! PostgreSQL's jsonlog (15 and later): an object a line.

use crate::replay::{
    entry::{self, Entry},
    parsed::Parsed,
};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;

/// A text that borrows from the line where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow, default)]
    dbname: Cow<'a, str>,
    #[serde(borrow, default)]
    application_name: Cow<'a, str>,
    #[serde(borrow)]
    backend_type: Option<Text<'a>>,
    #[serde(borrow, default)]
    session_id: Cow<'a, str>,
    #[serde(default, deserialize_with = "number_as_text")]
    line_num: String,
    #[serde(borrow)]
    error_severity: Cow<'a, str>,
    #[serde(borrow, default)]
    state_code: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
    #[serde(borrow)]
    statement: Option<Text<'a>>,
}

fn number_as_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    u64::deserialize(deserializer).map(|number| number.to_string())
}

/// Reads one line, with or without its line feed. Bytes that are not UTF-8 (a database may hold any) are replaced.
pub fn parse(line: &[u8]) -> Parsed {
    let text = String::from_utf8_lossy(line);
    let line: Line<'_> = match serde_json::from_str(&text) {
        Ok(line) => line,
        Err(error) => return Parsed::Broken(format!("not a jsonlog object: {error}")),
    };
    Parsed::from(entry::statement(&line.into()))
}

impl<'a> From<Line<'a>> for Entry<'a> {
    fn from(line: Line<'a>) -> Self {
        Entry {
            time: line.timestamp,
            database: line.dbname,
            application: line.application_name,
            backend_type: line.backend_type.map(|text| text.0),
            session_id: line.session_id,
            session_line: line.line_num.into(),
            severity: line.error_severity,
            sqlstate: line.state_code,
            message: line.message,
            statement: line.statement.map(|text| text.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::entry::Statement;
    use millrace_schemas::Status;

    const FAILED: &str = r#"{"timestamp":"2026-11-21 01:47:10.686 UTC","user":"app","dbname":"billing","pid":30394,"session_id":"6b00f81e.76ba","line_num":1,"ps":"SELECT","error_severity":"ERROR","state_code":"42P01","message":"relation \"no_such_table\" does not exist","statement":"SELECT * FROM no_such_table WHERE naïve = 'ünï✓'","cursor_position":15,"application_name":"worker","backend_type":"client backend","query_id":0}"#;

    fn statement(line: &[u8]) -> Statement {
        match parse(line) {
            Parsed::Statement(statement) => *statement,
            other => panic!("no statement: {other:?}"),
        }
    }

    #[test]
    fn reads_a_line_of_a_real_log() {
        let found = statement(FAILED.as_bytes());
        assert_eq!(found.database, "billing");
        assert_eq!(found.application, "worker");
        assert_eq!(found.status, Status::Failed);
        assert_eq!(found.query_text, "SELECT * FROM no_such_table WHERE naïve = 'ünï✓'");
        assert_eq!(found.error_message.as_deref(), Some("relation \"no_such_table\" does not exist"));
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        let mut line = FAILED.replace('✓', "?").into_bytes();
        let at = line.iter().rposition(|byte| *byte == b'?').expect("a question mark");
        line[at] = 0xff;
        assert!(statement(&line).query_text.ends_with("\u{fffd}'"));
    }

    #[test]
    fn other_entries_and_half_lines_are_told_apart() {
        let other = r#"{"timestamp":"2026-11-21 01:46:58.000 CET","error_severity":"LOG","message":"ready","backend_type":"postmaster"}"#;
        assert_eq!(parse(other.as_bytes()), Parsed::Other);
        assert!(matches!(parse(&FAILED.as_bytes()[..200]), Parsed::Broken(_)));
        assert!(matches!(parse(b""), Parsed::Broken(_)));
        assert!(matches!(parse(b"[]"), Parsed::Broken(_)));
    }
}

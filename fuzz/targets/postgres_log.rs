//! A log of PostgreSQL: it is read to its end, and every statement in it makes a record that the edge takes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_fuzz::replay::{entries::Entries, parsed::Parsed};
use millrace_schemas::{EventTime, metric};

fn can_be_written(time: EventTime) -> bool {
    EventTime::parse(&time.to_string()) == Some(time)
}

fuzz_target!(|data: &[u8]| {
    let mut entries = Entries::new(data);
    let mut last = 0;
    while let Some(located) = entries.next().expect("it reads from memory") {
        assert!(located.line > last, "line {} comes after {last}", located.line);
        last = located.line;
        if let Parsed::Statement(statement) = located.parsed {
            assert!(metric::validate_duration(statement.duration_ms).is_ok());
            assert!(statement.query_text.len() <= metric::QUERY_TEXT_BYTES_MAX);
            assert!(can_be_written(statement.completed_at), "{:?}", statement.completed_at);
            assert!(can_be_written(statement.started_at()), "{:?}", statement.started_at());
        }
    }
});

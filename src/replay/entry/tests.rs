use super::*;

fn entry<'a>(severity: &'a str, message: &'a str) -> Entry<'a> {
    Entry {
        time: "2026-11-21 01:47:00.252 UTC".into(),
        database: "shop".into(),
        application: "pgbench".into(),
        backend_type: Some("client backend".into()),
        session_id: "6b00f812.7488".into(),
        session_line: "49".into(),
        severity: severity.into(),
        message: message.into(),
        ..Entry::default()
    }
}

fn failing<'a>(sqlstate: &'a str, message: &'a str) -> Entry<'a> {
    Entry { sqlstate: sqlstate.into(), statement: Some("SELECT 1/0".into()), ..entry("ERROR", message) }
}

fn read(entry: &Entry<'_>) -> Option<Statement> {
    statement(entry).expect("the entry is whole")
}

#[test]
fn a_timed_statement_is_a_success() {
    let found =
        read(&entry("LOG", "duration: 492.505 ms  statement: select 1: 2\nfrom t")).expect("a statement");
    assert_eq!(found.query_text, "select 1: 2\nfrom t");
    assert_eq!(found.duration_ms, Some(492.505));
    assert_eq!(found.status, Status::Success);
    assert_eq!((found.database.as_str(), found.application.as_str()), ("shop", "pgbench"));
    assert_eq!(found.completed_at.to_string(), "2026-11-21T01:47:00.252Z");
    assert_eq!(found.started_at().to_string(), "2026-11-21T01:46:59.759495Z");
}

#[test]
fn the_extended_protocol_counts_at_execute_only() {
    for (message, text) in [
        ("duration: 0.1 ms  execute <unnamed>: SELECT $1", Some("SELECT $1")),
        ("duration: 0.1 ms  execute fetch from S_1: SELECT $1", Some("SELECT $1")),
        ("duration: 0.1 ms  fastpath function call: \"lowrite\" (OID 954)", Some("\"lowrite\" (OID 954)")),
        ("duration: 0.1 ms  parse <unnamed>: SELECT $1", None),
        ("duration: 0.1 ms  bind <unnamed>: SELECT $1", None),
        ("duration: 0.1 ms  plan:\nSeq Scan", None),
        ("duration: 0.1 ms", None),
        ("statement: select 1", None),
        ("duration: soon ms  statement: select 1", None),
    ] {
        assert_eq!(read(&entry("LOG", message)).map(|s| s.query_text).as_deref(), text, "{message}");
    }
}

#[test]
fn an_error_with_its_statement_failed_and_has_no_duration() {
    let found = read(&failing("22012", "division by zero")).expect("a statement");
    assert_eq!((found.status, found.duration_ms), (Status::Failed, None));
    assert_eq!(found.query_text, "SELECT 1/0");
    assert_eq!(found.error_message.as_deref(), Some("division by zero"));
    assert_eq!(found.started_at(), found.completed_at);
    assert_eq!(read(&entry("ERROR", "no statement logged")), None);
    assert_eq!(read(&entry("WARNING", "there is no transaction in progress")), None);
}

#[test]
fn cancels_and_time_outs_are_told_apart() {
    for (sqlstate, message, status) in [
        ("57014", "canceling statement due to statement timeout", Status::Timeout),
        ("", "canceling statement due to statement timeout", Status::Timeout),
        ("57014", "canceling statement due to user request", Status::Cancelled),
        ("57P01", "terminating connection due to administrator command", Status::Failed),
        ("55P03", "canceling statement due to lock timeout", Status::Failed),
    ] {
        assert_eq!(read(&failing(sqlstate, message)).map(|s| s.status), Some(status), "{message}");
    }
}

#[test]
fn only_clients_count_where_the_log_says_who() {
    let message = "duration: 1 ms  statement: select 1";
    let worker = Entry { backend_type: Some("parallel worker".into()), ..entry("LOG", message) };
    assert_eq!(read(&worker), None);
    assert!(read(&Entry { backend_type: None, ..entry("LOG", message) }).is_some());
}

#[test]
fn a_statement_that_cannot_be_placed_is_an_error() {
    let message = "duration: 1 ms  statement: select 1";
    let error = |entry: Entry<'_>| statement(&entry).expect_err("it lacks something").to_string();
    assert_eq!(error(Entry { database: "".into(), ..entry("LOG", message) }), "it has no database");
    assert_eq!(error(Entry { session_id: "".into(), ..entry("LOG", message) }), "it has no session id");
    assert!(error(Entry { time: "2026-11-21 01:47:00 CET".into(), ..entry("LOG", message) }).contains("CET"));
    assert!(error(entry("LOG", "duration: 1.2.3 ms  statement: select 1")).contains("1.2.3"));
}

#[test]
fn the_same_line_always_has_the_same_id() {
    let message = "duration: 1 ms  statement: select 1";
    let id = |entry: Entry<'_>| read(&entry).map(|s| s.id);
    assert_eq!(id(entry("LOG", message)), id(entry("LOG", "duration: 2 ms  statement: select 2")));
    assert_ne!(id(entry("LOG", message)), id(Entry { session_line: "50".into(), ..entry("LOG", message) }));
}

#[test]
fn texts_are_cut_to_what_a_record_may_hold() {
    let long = format!("duration: 1 ms  statement: x{}", "é".repeat(QUERY_TEXT_BYTES_MAX));
    let text = read(&entry("LOG", &long)).expect("a statement").query_text;
    assert_eq!(text.len(), QUERY_TEXT_BYTES_MAX - 1);
}

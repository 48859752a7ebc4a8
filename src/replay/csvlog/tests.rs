use super::*;
use crate::replay::entry::Statement;
use millrace_schemas::Status;

/// An entry of PostgreSQL 15; without its last columns, of an older one.
fn entry(severity: &str, message: &str, query: &str) -> String {
    format!(
        "2026-11-21 01:47:00.252 UTC,\"app\",\"shop\",29832,\"127.0.0.1:60282\",6b00f812.7488,49,\"SELECT\",\
         2026-11-21 01:46:58 UTC,3/0,0,{severity},22012,\"{message}\",,,,,,{query},,,\"pgbench\",\
         \"client backend\",,0\n"
    )
}

fn statement(record: &str) -> Statement {
    match Parser::new().parse(record.as_bytes()) {
        Ok(Parsed::Statement(statement)) => *statement,
        other => panic!("no statement: {other:?}"),
    }
}

#[test]
fn reads_a_statement_over_several_lines_with_quotes() {
    let record = entry("LOG", "duration: 1.5 ms  statement: select \"\"a\"\",\n'b'", "");
    let found = statement(&record);
    assert_eq!(found.query_text, "select \"a\",\n'b'");
    assert_eq!(found.duration_ms, Some(1.5));
    assert_eq!((found.database.as_str(), found.application.as_str()), ("shop", "pgbench"));
}

#[test]
fn reads_an_error_with_its_statement() {
    let found = statement(&entry("ERROR", "division by zero", "\"SELECT 1/0\""));
    assert_eq!((found.status, found.query_text.as_str()), (Status::Failed, "SELECT 1/0"));
    let without = Parser::new().parse(entry("ERROR", "division by zero", "").as_bytes());
    assert_eq!(without, Ok(Parsed::Other));
}

#[test]
fn a_line_of_jsonlog_and_of_csvlog_give_the_same_record() {
    let json = r#"{"timestamp":"2026-11-21 01:47:00.252 UTC","dbname":"shop","session_id":"6b00f812.7488","line_num":49,"error_severity":"LOG","message":"duration: 1.5 ms  statement: select 1","application_name":"pgbench","backend_type":"client backend"}"#;
    let csv = statement(&entry("LOG", "duration: 1.5 ms  statement: select 1", ""));
    assert_eq!(crate::replay::jsonlog::parse(json.as_bytes()), Parsed::Statement(Box::new(csv)));
}

#[test]
fn older_versions_have_fewer_columns() {
    let record = entry("LOG", "duration: 1 ms  statement: select 1", "");
    let version_13 = record.replace(",,0\n", "\n");
    let version_12 = version_13.replace(",\"client backend\"\n", "\n");
    assert_eq!(statement(&version_13), statement(&record));
    assert_eq!(statement(&version_12), statement(&record));
}

#[test]
fn what_is_no_entry_is_told_by_its_columns() {
    let record = entry("LOG", "duration: 1 ms  statement: select 1", "");
    let parse = |text: &str| Parser::new().parse(text.as_bytes());
    assert_eq!(parse("a,b\n"), Err(NotAnEntry(2)));
    assert_eq!(parse("\n"), Err(NotAnEntry(0)));
    assert_eq!(parse(&format!("{record}{record}")), Err(NotAnEntry(0)));
    assert_eq!(parse(&format!("{}\n", ",".repeat(40))), Err(NotAnEntry(COLUMNS_MAX + 1)));
}

#[test]
fn quotes_say_where_an_entry_goes_on() {
    assert!(open_after(false, b"a,\"b"));
    assert!(!open_after(false, b"a,\"\"\"b\"\"\""));
    assert!(!open_after(true, b"b\",c"));
}

#[test]
fn an_entry_starts_with_a_date() {
    assert!(may_start(b"2026-11-21 01:47:00.252 UTC,"));
    assert!(!may_start(b"  from t where d = '2026-11-21 01:47'"));
    assert!(!may_start(b"2026-11-21"));
}

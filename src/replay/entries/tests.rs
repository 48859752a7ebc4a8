use super::*;

const JSON: &str = r#"{"timestamp":"2026-11-21 01:47:00.252 UTC","dbname":"shop","session_id":"6b.1","line_num":1,"error_severity":"LOG","message":"duration: 1 ms  statement: select 1"}"#;

fn csv(text: &str) -> String {
    format!(
        "2026-11-21 01:47:00.252 UTC,\"app\",\"shop\",1,\"[local]\",6b.1,1,\"SELECT\",2026-11-21 01:46:58 UTC,3/0,0,\
         LOG,00000,\"duration: 1 ms  statement: {text}\",,,,,,,,,\"psql\",\"client backend\",,0\n"
    )
}

/// Line number and the statement's text, `other` or `broken` of each entry.
fn read(log: &str) -> Vec<(u64, String)> {
    let mut entries = Entries::new(log.as_bytes());
    std::iter::from_fn(|| entries.next().expect("reads from memory")).map(shown).collect()
}

fn shown(located: Located) -> (u64, String) {
    let text = match located.parsed {
        Parsed::Statement(statement) => statement.query_text,
        Parsed::Other => "other".to_owned(),
        Parsed::Broken(_) => "broken".to_owned(),
    };
    (located.line, text)
}

fn expected(entries: &[(u64, &str)]) -> Vec<(u64, String)> {
    entries.iter().map(|(line, text)| (*line, (*text).to_owned())).collect()
}

/// What a crash leaves of an entry.
fn half(entry: &str) -> String {
    entry.split("HERE").next().expect("there is a start").to_owned()
}

#[test]
fn the_first_entry_tells_the_format() {
    assert_eq!(read(&format!("{JSON}\n{JSON}")), expected(&[(1, "select 1"), (2, "select 1")]));
    assert_eq!(read(&csv("a")), expected(&[(1, "a")]));
    assert_eq!(read("garbage\n"), expected(&[(1, "broken")]));
    assert_eq!(read(&format!("half\" of a line\n{JSON}\n")), expected(&[(1, "broken"), (2, "select 1")]));
    assert_eq!(read(""), expected(&[]));
}

#[test]
fn csv_entries_have_the_number_of_their_first_line() {
    let log = format!("{}{}{}", csv("a\n b"), csv("c"), csv("d\n\n\"\"e\"\""));
    assert_eq!(read(&log), expected(&[(1, "a\n b"), (3, "c"), (4, "d\n\n\"e\"")]));
}

#[test]
fn windows_line_ends_are_taken() {
    assert_eq!(read(&csv("a").replace('\n', "\r\n").repeat(2)), expected(&[(1, "a"), (2, "a")]));
}

#[test]
fn half_an_entry_takes_none_of_the_others_with_it() {
    let whole = csv("whole\n of two lines");
    let half = half(&csv("half\n over HERE"));
    for others in [whole.clone(), csv("one line"), format!("{}{whole}", csv("first"))] {
        let log = format!("{half}\n{others}{whole}");
        let mut all = read(&log);
        assert_eq!(all.remove(0), (1, "broken".to_owned()));
        let lines_of_half = 2;
        let alone = read(&format!("{others}{whole}"));
        let moved: Vec<_> = alone.into_iter().map(|(line, text)| (line + lines_of_half, text)).collect();
        assert_eq!(all, moved);
    }
}

#[test]
fn a_log_that_ends_in_the_middle_loses_only_that_entry() {
    let log = format!("{}{}", csv("a"), half(&csv("b\nc HERE")));
    assert_eq!(read(&log), expected(&[(1, "a"), (2, "broken")]));
}

//! Names, settings and channels of one client.

use super::*;
use crate::wire::{Answer, next_frame, put_sync};
use proptest::prelude::*;

fn session() -> Session {
    Session::new(10, 3, Wanted::new())
}

fn frame(tag: u8, body: &[u8]) -> Frame {
    let mut out = BytesMut::new();
    put_frame(&mut out, tag, |out| out.put_slice(body));
    next_frame(&mut out, 1000).unwrap().unwrap()
}

fn translate(session: &mut Session, exchange: &mut Exchange, tag: u8, body: &[u8]) -> Vec<Frame> {
    let mut out = BytesMut::new();
    session.translate(&frame(tag, body), exchange, &mut out).unwrap();
    std::iter::from_fn(|| next_frame(&mut out, 1000).unwrap()).collect()
}

#[test]
fn statements_are_renamed() {
    let (mut session, mut exchange) = (session(), Exchange::default());
    let parsed = translate(&mut session, &mut exchange, b'P', b"s1\0SELECT 1\0\0\0");
    assert_eq!(parsed, [frame(b'P', b"millrace_a_1\0SELECT 1\0\0\0")]);
    let bound = translate(&mut session, &mut exchange, b'B', b"p\0s1\0\0\0\0\0\0\0");
    assert_eq!(bound, [frame(b'B', b"p\0millrace_a_1\0\0\0\0\0\0\0")]);
    assert_eq!(translate(&mut session, &mut exchange, b'D', b"Ss1\0"), [frame(b'D', b"Smillrace_a_1\0")]);
    assert_eq!(translate(&mut session, &mut exchange, b'D', b"Ps1\0"), [frame(b'D', b"Ps1\0")], "a portal");
    assert_eq!(translate(&mut session, &mut exchange, b'C', b"Ss1\0"), [frame(b'C', b"Smillrace_a_1\0")]);
    assert_eq!(translate(&mut session, &mut exchange, b'D', b"Ss1\0"), [frame(b'D', b"Ss1\0")], "closed");
}

#[test]
fn the_unnamed_statement_is_closed_before_it_is_prepared_again() {
    let (mut session, mut exchange) = (session(), Exchange::default());
    translate(&mut session, &mut exchange, b'P', b"\0SELECT 1\0\0\0");
    let again = translate(&mut session, &mut exchange, b'P', b"\0SELECT 2\0\0\0");
    assert_eq!(again, [frame(b'C', b"Smillrace_a_1\0"), frame(b'P', b"millrace_a_2\0SELECT 2\0\0\0")]);
    assert_eq!(exchange.answered(&Answer::CloseDone), crate::exchange::Verdict::Swallow);
}

#[test]
fn statements_are_limited_and_closed_in_the_end() {
    let (mut session, mut exchange) = (session(), Exchange::default());
    for name in [b"a", b"b", b"c"] {
        translate(&mut session, &mut exchange, b'P', &[&name[..], b"\0SELECT 1\0\0\0"].concat());
    }
    let one_more = frame(b'P', b"d\0SELECT 1\0\0\0");
    let refused = session.translate(&one_more, &mut exchange, &mut BytesMut::new());
    assert_eq!(refused, Err(SessionError::Statements(3)));
    let mut out = BytesMut::new();
    session.close_all(&mut out);
    put_sync(&mut out);
    assert_eq!(std::iter::from_fn(|| next_frame(&mut out, 1000).unwrap()).count(), 4);
    assert!(!session.has_statements());
}

#[test]
fn what_is_not_of_the_protocol_is_refused() {
    let (mut session, mut exchange) = (session(), Exchange::default());
    let mut refused = |frame| session.translate(&frame, &mut exchange, &mut BytesMut::new()).unwrap_err();
    assert_eq!(refused(frame(b'!', b"")), SessionError::Unexpected('!'));
    assert!(matches!(refused(frame(b'P', b"no zero")), SessionError::Frame(_)));
    assert!(matches!(refused(frame(b'B', b"portal\0no zero")), SessionError::Frame(_)));
    assert!(matches!(refused(frame(b'C', b"Sno zero")), SessionError::Frame(_)));
    assert!(matches!(refused(frame(b'Q', b"no zero")), SessionError::Frame(_)));
}

proptest! {
    #[test]
    fn rubbish_is_survived(messages in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..30)), 0..30)) {
        let (mut session, mut exchange) = (session(), Exchange::default());
        for (tag, body) in messages {
            if session.translate(&frame(tag, &body), &mut exchange, &mut BytesMut::new()).is_err() {
                break;
            }
        }
    }
}

#[test]
fn channels() {
    let mut listening = Listening::default();
    listening.follow(b"LISTEN a; listen \"B \"\"c\"");
    assert!(listening.contains("a") && listening.contains("B \"c"));
    listening.follow(b"UNLISTEN A");
    assert_eq!(listening.channels().collect::<Vec<_>>(), ["B \"c"]);
    listening.follow(b"SELECT 'listen x'");
    listening.follow(b"unlisten *");
    assert!(listening.is_empty());
}

#[test]
fn the_session_is_changed_only_where_it_differs() {
    let utc = Wanted::from([("timezone".to_owned(), "UTC".to_owned())]);
    let mut applied = Applied::default();
    let sql = applied.change_to(Some(1), &utc).unwrap();
    assert_eq!(sql, "SELECT set_config(E'timezone',E'UTC',false);");
    applied.changed_to(&utc);
    assert_eq!(applied.change_to(Some(2), &utc), None);
    assert_eq!(applied.change_to(Some(2), &Wanted::new()).unwrap(), "RESET \"timezone\";");
}

#[test]
fn what_a_client_changed_is_reset_for_the_next_one_only() {
    let mut applied = Applied::default();
    applied.changed(1);
    assert_eq!(applied.change_to(Some(1), &Wanted::new()), None);
    assert!(applied.change_to(Some(2), &Wanted::new()).unwrap().contains("RESET ALL"));
    applied.changed_to(&Wanted::new());
    assert_eq!(applied.change_to(Some(1), &Wanted::new()), None);
}

#[test]
fn reported_settings_go_on_being_wanted() {
    let (mut applied, mut wanted) = (Applied::default(), Wanted::new());
    applied.reported("TimeZone", "Asia/Tokyo", &mut wanted);
    applied.reported("is_superuser", "on", &mut wanted);
    assert_eq!(wanted, Wanted::from([("timezone".to_owned(), "Asia/Tokyo".to_owned())]));
    assert_eq!(applied.change_to(Some(1), &wanted), None);
}

#[test]
fn values_are_quoted() {
    let wanted = Wanted::from([("application_name".to_owned(), "o'b\\".to_owned())]);
    let sql = Applied::default().change_to(None, &wanted).unwrap();
    assert_eq!(sql, "SELECT set_config(E'application_name',E'o''b\\\\',false);");
}

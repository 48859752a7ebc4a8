//! The dialogues that clients really have, and the ones they have when something fails.

use super::*;

fn exchange(sent: &[u8]) -> Exchange {
    let mut exchange = Exchange::default();
    sent.iter().for_each(|tag| exchange.sent(*tag));
    exchange
}

fn ready(exchange: &mut Exchange, status: u8) {
    exchange.answered(&Answer::Ready(status));
}

#[test]
fn a_query_is_over_when_the_backend_is_ready() {
    let mut exchange = exchange(b"Q");
    assert!(!exchange.is_over());
    ready(&mut exchange, b'I');
    assert!(exchange.is_over());
}

#[test]
fn a_transaction_keeps_the_backend() {
    let mut exchange = exchange(b"Q");
    ready(&mut exchange, b'T');
    assert!(!exchange.is_over());
    exchange.sent(b'Q');
    exchange.answered(&Answer::Failed);
    ready(&mut exchange, b'E');
    assert!(!exchange.is_over());
    exchange.sent(b'Q');
    ready(&mut exchange, b'I');
    assert!(exchange.is_over());
}

#[test]
fn each_sync_of_a_pipeline_is_awaited() {
    let mut exchange = exchange(b"PBESPBES");
    ready(&mut exchange, b'I');
    assert!(!exchange.is_over());
    ready(&mut exchange, b'I');
    assert!(exchange.is_over());
}

#[test]
fn a_unit_without_its_sync_is_not_over() {
    let mut exchange = exchange(b"PDH");
    assert!(!exchange.is_over());
    exchange.answered(&Answer::Failed);
    assert!(!exchange.is_over(), "the backend skips up to the next Sync");
    exchange.sent(b'S');
    ready(&mut exchange, b'I');
    assert!(exchange.is_over());
}

#[test]
fn own_closes_are_swallowed_and_the_clients_are_not() {
    let mut exchange = Exchange::default();
    exchange.sent_own_close();
    exchange.sent(b'P');
    exchange.sent(b'C');
    exchange.sent(b'S');
    assert_eq!(exchange.answered(&Answer::CloseDone), Verdict::Swallow);
    assert_eq!(exchange.answered(&Answer::CloseDone), Verdict::Forward);
    ready(&mut exchange, b'I');
    assert!(exchange.is_over());
}

#[test]
fn closes_after_an_error_are_never_answered() {
    let mut exchange = exchange(b"P");
    exchange.sent_own_close();
    exchange.sent(b'S');
    exchange.answered(&Answer::Failed);
    ready(&mut exchange, b'I');
    assert!(exchange.is_over());
}

#[test]
fn copy_in_by_query() {
    let mut exchange = exchange(b"Q");
    exchange.answered(&Answer::CopyIn);
    exchange.sent(b'd');
    exchange.sent(b'c');
    assert!(!exchange.is_over());
    ready(&mut exchange, b'I');
    assert!(exchange.is_over());
}

#[test]
fn copy_in_skips_the_sync_that_was_under_way() {
    let mut exchange = exchange(b"PBES");
    exchange.answered(&Answer::CopyIn);
    for tag in *b"ddcS" {
        exchange.sent(tag);
    }
    ready(&mut exchange, b'I');
    assert!(exchange.is_over());
}

#[test]
fn copy_in_sent_in_one_go() {
    let mut exchange = exchange(b"PBESdcS");
    exchange.answered(&Answer::CopyIn);
    ready(&mut exchange, b'I');
    assert!(exchange.is_over());
}

#[test]
fn a_failed_copy_by_query_leaves_nothing_behind() {
    let mut exchange = exchange(b"Q");
    exchange.answered(&Answer::CopyIn);
    exchange.sent(b'd');
    exchange.sent(b'c');
    exchange.answered(&Answer::Failed);
    ready(&mut exchange, b'I');
    assert!(exchange.is_over());
}

#[test]
fn a_failed_copy_in_the_extended_protocol_waits_for_its_sync() {
    let mut exchange = exchange(b"PBES");
    exchange.answered(&Answer::CopyIn);
    exchange.answered(&Answer::Failed);
    assert!(!exchange.is_over());
    exchange.sent(b'c');
    exchange.sent(b'S');
    ready(&mut exchange, b'I');
    assert!(exchange.is_over());
}

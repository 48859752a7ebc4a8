//! The broker as its clients meet it: librdkafka, Kafka's own Java tools, Python's clients, and the bare protocol.
//!
//! Each check runs on an embedded broker, and on a real Kafka too where `MILLRACE_TEST_KAFKA=host:port` names one: one
//! suite, two backends. Each has topics and groups of its own and waits on conditions with a deadline, never for a length
//! of time. What needs more than Rust says on standard error that it is skipped where that is not there.

mod cleanup;
mod crash;
mod differential;
mod fuzz;
mod groups;
mod harness;
mod java;
mod positions;
mod protocol;
mod python;
mod rebalance;
mod records;
mod topics;
mod transactions;

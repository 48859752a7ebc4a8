//! Millrace as its users meet it: the real binary from outside, on either of two backends.
//!
//! Without services of its own the suite runs on embedded ones. Where `MILLRACE_TEST_KAFKA` (`host:port`) and
//! `MILLRACE_TEST_DATABASE_URL` (a role that may create databases) are set, the same tests run on a real Kafka and a
//! real PostgreSQL with TimescaleDB. Each test has topics, a database and an archive of its own, and waits on conditions
//! with a deadline, never for a length of time.

mod archive;
mod audit;
mod backpressure;
mod bench;
mod chaos;
mod cluster;
mod commit_tokens;
mod dead_letter_queue;
mod dead_letters;
mod edge;
mod edge_limits;
mod embedded;
mod event_time;
mod harness;
mod independent;
mod ledger;
mod live;
mod namesakes;
mod outage;
mod pipeline;
mod query;
mod rebalance;
mod rebuild;
mod reference;
mod replay;
mod restart;
mod retention;
mod shutdown;
mod startup;
mod store;

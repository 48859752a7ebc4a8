//! What every test starts from: a broker to talk to, clients of it, and waiting on conditions.

mod backend;
mod batch;
mod clients;
mod member;
mod process;
mod random;
mod services;
mod wait;
mod wire;

pub use backend::{Backend, Kind, on_embedded, on_embedded_syncing, on_kafka};
pub use batch::{Batch, Codec, sealed};
pub use clients::{Consumer, Delivery, Producer, drain, list, number, offset_of, record};
pub use member::Member;
pub use process::{Process, free_port, run};
pub use random::Random;
pub use services::{kafka, kafka_jars, program, python, rounds, say_skipped, seed, seed_or};
pub use wait::{PATIENCE, until};
pub use wire::{Wire, frame, text, topic_name};

/// Makes of each check two tests: one on the embedded broker, one on the Kafka that the environment names.
macro_rules! on_each_backend {
    ($($check:ident),* $(,)?) => {$(
        mod $check {
            #[test]
            fn embedded() -> anyhow::Result<()> {
                crate::harness::on_embedded(stringify!($check), super::$check)
            }

            #[test]
            fn kafka() -> anyhow::Result<()> {
                crate::harness::on_kafka(stringify!($check), super::$check)
            }
        }
    )*};
}
pub(crate) use on_each_backend;

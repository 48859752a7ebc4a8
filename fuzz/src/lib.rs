//! The decoders of bytes from outside, taken from where they lie by symbolic links: the processor's would bring DataFusion
//! along, which takes many minutes to build for a fuzzer, and the replay's are in the binary. What lies in crates that
//! build quickly is used from there.

#![allow(dead_code, reason = "only the decoders are called")]

/// The offset is used by the name of its crate, whose Kafka client is C.
extern crate self as millrace_log;

mod offset;
pub use offset::NextOffset;

pub mod admission {
    //! Of the admission, what a record's reader names.
    mod identity;
    pub use identity::Identity;
}
pub mod archive {
    //! Of the archive, its manifests and names.
    pub mod manifest;
    pub mod path;
}
pub mod frame {
    //! Of a frame, its Arrow part.
    pub mod states;
}
pub mod ledger {
    //! Of the ledger, what a manifest has of it.
    mod tally;
    pub use tally::Span;
}
pub mod record;
pub mod replay {
    //! Of the replay, the reader of PostgreSQL's logs.
    mod csvlog;
    pub mod entries;
    pub mod entry;
    mod jsonlog;
    mod lines;
    pub mod parsed;
    mod timestamp;
}
pub mod sketch;
pub mod window {
    //! Of the windows, what is committed with an offset.
    mod checkpoint;
    mod watermark;
    pub use checkpoint::Checkpoint;
    pub use watermark::Source;
}

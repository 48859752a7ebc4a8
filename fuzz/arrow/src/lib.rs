//! The names that `processor/src/stage/frame/states.rs` uses, where `arrow` has them.

pub use arrow_array as array;
pub use arrow_ipc as ipc;
pub use arrow_schema as datatypes;
pub mod error {
    //! As in `arrow`.
    pub use arrow_schema::ArrowError;
}

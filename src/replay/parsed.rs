//! What became of one log entry.

use crate::replay::entry::{EntryError, Statement};

#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    Statement(Box<Statement>),
    /// Well formed, and about something else.
    Other,
    /// Why it can't be read.
    Broken(String),
}

impl From<Result<Option<Statement>, EntryError>> for Parsed {
    fn from(result: Result<Option<Statement>, EntryError>) -> Self {
        match result {
            Ok(Some(statement)) => Self::Statement(Box::new(statement)),
            Ok(None) => Self::Other,
            Err(error) => Self::Broken(error.to_string()),
        }
    }
}

//! The offset newtype: exclusive, so that "committed" and "next to read" are the same number everywhere.

use std::fmt;

/// The next offset to read: one past the last that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextOffset(i64);

impl NextOffset {
    pub const START: Self = Self(0);

    /// After the record at `offset`.
    pub fn after(offset: i64) -> Self {
        Self(offset + 1)
    }

    /// From a number that is exclusive already: a stored one, or a high watermark.
    pub fn exclusive(next: i64) -> Self {
        Self(next)
    }

    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for NextOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

//! Bugs planted in the shell of the simulation, never in what it tests: each must be found.

/// What a shell could do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Combine commits the offset after the next record: one is never read.
    CombineOffsetAhead,
    /// Combine commits the offset of the last record, as if it were the next: it is read again.
    CombineOffsetBehind,
    /// The windows stage commits the offset after the next frame.
    WindowsOffsetAhead,
    /// The sink stores the offset of the last row, as if it were the next.
    SinkOffsetBehind,
    /// A late revision has the number of the one before.
    RevisionNotRaised,
    /// A worker that takes over a raw partition remembers no ids.
    DuplicatesForgotten,
    /// It takes the ids of dead letters for counted ones.
    DeadLettersForgotten,
    /// A worker that takes over windows does not look at what was emitted of them.
    RowsNotRestored,
    /// It does not read their states again.
    StatesNotRestored,
    /// The watermark is not committed with the offsets.
    WatermarkForgotten,
    /// Combine tells its progress before the states that it speaks of.
    ProgressBeforeStates,
    /// Offsets are committed without saying by which member: one that was put out goes on.
    MemberNotNamed,
    /// The sink writes rows and offset in two transactions.
    SinkOffsetApart,
    /// Consumers read what was aborted.
    AbortedRead,
    /// Combine writes its output, and its offsets in a transaction after it.
    CombineOffsetApart,
    /// Open windows are told to be in rows.
    ToldTooEarly,
}

impl Fault {
    pub const ALL: [Self; 16] = [
        Self::CombineOffsetAhead,
        Self::CombineOffsetBehind,
        Self::WindowsOffsetAhead,
        Self::SinkOffsetBehind,
        Self::RevisionNotRaised,
        Self::DuplicatesForgotten,
        Self::DeadLettersForgotten,
        Self::RowsNotRestored,
        Self::StatesNotRestored,
        Self::WatermarkForgotten,
        Self::ProgressBeforeStates,
        Self::MemberNotNamed,
        Self::SinkOffsetApart,
        Self::AbortedRead,
        Self::CombineOffsetApart,
        Self::ToldTooEarly,
    ];
}

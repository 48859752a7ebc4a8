//! What a stage reads back when it begins: the checkpoint beside an offset, rows, progress and entries of the ledger.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_fuzz::window::Checkpoint;
use millrace_schemas::{AggregateRow, ledger::Entry, progress::Progress};

fuzz_target!(|data: &[u8]| {
    if let Ok(checkpoint) = Checkpoint::decode(&String::from_utf8_lossy(data)) {
        assert!(Checkpoint::decode(&checkpoint.encode()).is_ok());
    }
    if let Ok(row) = AggregateRow::read(data) {
        let written = serde_json::to_vec(&row).expect("plain data");
        assert_eq!(AggregateRow::read(&written).expect("our own"), row);
    }
    if let Ok(progress) = Progress::read(data) {
        let written = serde_json::to_vec(&progress).expect("plain data");
        assert_eq!(Progress::read(&written).expect("our own"), progress);
    }
    if let Ok(entry) = Entry::read(data) {
        assert_eq!(Entry::read(&entry.write()).expect("our own"), entry);
    }
});

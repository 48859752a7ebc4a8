//! A coordinator opens on any journal, or says what is wrong with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_broker::{Fsync, clock::now_ms, coordinator::Coordinator, log::syncer::Syncer, topics::Topics};
use std::{fs, sync::Arc};

fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("coordinator.journal"), data).expect("the disk takes it");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let syncer = Syncer::start(Fsync::Os).expect("a thread");
        let topics = Topics::open(folder.path(), Arc::clone(&syncer), now_ms()).expect("no topics");
        if let Ok(coordinator) = Coordinator::open(folder.path(), Arc::new(topics), Arc::clone(&syncer)) {
            coordinator.close().await.expect("the disk takes it");
        }
        syncer.stop();
    });
});

//! What the archive finds on its object store: manifests, attempts, and their names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_fuzz::archive::{
    manifest::{Attempt, Manifest},
    path,
};

fuzz_target!(|data: &[u8]| {
    if let Ok(manifest) = Manifest::parse(data) {
        let written = serde_json::to_vec(&manifest).expect("plain data");
        assert_eq!(Manifest::parse(&written).expect("our own"), manifest);
        let files: Vec<String> = manifest.files.iter().map(|file| file.path.clone()).collect();
        assert!(manifest.orphans(&files).is_empty());
    }
    if let Ok(attempt) = Attempt::parse(data) {
        let written = serde_json::to_vec(&attempt).expect("plain data");
        assert_eq!(Attempt::parse(&written).expect("our own"), attempt);
    }
    let name = String::from_utf8_lossy(data);
    let _read = (path::manifest_from(&name), path::attempt_range(&name));
});

//! A raw record: the reader of the windows and the reader of the archive take the same ones, and what is taken can be
//! written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_fuzz::{admission::Identity, record};
use millrace_schemas::QueryMetric;

fuzz_target!(|data: &[u8]| {
    match (record::parse(data), QueryMetric::from_slice(data)) {
        (Ok((identity, measured)), Ok(metric)) => {
            assert_eq!(identity, Identity::from(&metric));
            assert_eq!((measured.service, measured.status), (metric.service_id, metric.status));
            assert_eq!((measured.duration_ms, measured.rows_affected), (metric.duration_ms, metric.rows_affected));
            let written = serde_json::to_vec(&metric).expect("plain data");
            assert_eq!(QueryMetric::from_slice(&written), Ok(metric));
        }
        (Err(_), Err(error)) => assert!(!error.to_string().is_empty()),
        (lean, whole) => panic!("{lean:?} but {whole:?}"),
    }
});

//! A raw record: the reader of the windows, that of the archive and both that read it whole take the same ones, and what is
//! taken can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_fuzz::{
    admission::Identity,
    record::{self, Texts, Whole},
};
use millrace_schemas::QueryMetric;

fuzz_target!(|data: &[u8]| {
    let mut texts = Texts::default();
    let full = QueryMetric::from_any_form(data);
    assert_eq!(QueryMetric::from_slice(data), full);
    match (record::parse(data), record::read(data, &mut texts), full) {
        (Ok((identity, measured)), Ok(whole), Ok(metric)) => {
            let Whole { strings, started_at, .. } = whole;
            assert_eq!((whole.identity, whole.measured, started_at), (identity, measured, metric.started_at));
            assert_eq!(texts.query_text(strings), metric.query_text);
            assert_eq!(texts.error_message(strings), metric.error_message.as_deref());
            assert!(texts.tags(strings).eq(metric.tags.iter()));
            assert_eq!(identity, Identity::from(&metric));
            assert_eq!((measured.service, measured.status), (metric.service_id, metric.status));
            assert_eq!((measured.duration_ms, measured.rows_affected), (metric.duration_ms, metric.rows_affected));
            let written = serde_json::to_vec(&metric).expect("plain data");
            assert_eq!(QueryMetric::from_slice(&written), Ok(metric));
        }
        (Err(_), Err(_), Err(error)) => assert!(!error.to_string().is_empty() && texts.bytes() == 0),
        (lean, whole, full) => panic!("{lean:?} and {whole:?} but {full:?}"),
    }
});

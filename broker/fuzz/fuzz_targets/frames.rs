//! The guard that a request passes before it is decoded, and the decoder: whatever passes is decoded without a panic and
//! without memory that the request does not justify.
#![no_main]

use bytes::{Buf as _, Bytes};
use kafka_protocol::messages::{ApiKey, RequestKind};
use libfuzzer_sys::fuzz_target;
use millrace_broker::api::{guard, layout::Layout};

fuzz_target!(|data: &[u8]| {
    let mut body = Bytes::copy_from_slice(data);
    let (Ok(key), Ok(version)) = (body.try_get_i16(), body.try_get_i16()) else { return };
    let Ok(key) = ApiKey::try_from(key) else { return };
    let Some(layout) = Layout::of(key).filter(|layout| (layout.min..=layout.max).contains(&version)) else { return };
    if guard::walk(&layout, version, &body).is_ok() {
        // An error is an answer too.
        drop(RequestKind::decode(key, &mut body, version));
    }
});

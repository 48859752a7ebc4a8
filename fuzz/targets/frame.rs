//! A frame of the partials topic: its header, and its Arrow part as far as the columns are the aggregation's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_fuzz::frame::states;
use millrace_schemas::partial::Partial;
use std::sync::LazyLock;

/// The columns of a frame that Millrace wrote.
static SCHEMA: LazyLock<arrow::datatypes::SchemaRef> = LazyLock::new(|| {
    let golden = include_bytes!("../../schemas/golden/partial-1.bin");
    let frame = Partial::decode(golden).expect("a frame");
    states::read(frame.states, |_| Ok::<_, states::Error>(())).expect("states")[0].schema()
});

/// A panic of Arrow's reader is caught, where libfuzzer would end at once.
fn tell_other_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if !panic.location().is_some_and(|location| location.file().contains("/arrow-")) {
            eprintln!("{panic}");
        }
    }));
}

fuzz_target!(init: tell_other_panics(), |data: &[u8]| {
    let Ok(Partial { header, states }) = Partial::decode(data) else { return };
    let written = header.encode(states).expect("it was read");
    assert_eq!(Partial::decode(&written).expect("our own"), Partial { header, states });
    let check = |found: &arrow::datatypes::Schema| match found.fields() == SCHEMA.fields() {
        true => Ok(()),
        false => Err(states::Error::Damaged),
    };
    if let Ok(batches) = states::read(states, check) {
        for batch in batches {
            for column in batch.columns() {
                column.to_data().validate_full().expect("what is read is valid");
            }
        }
    }
});

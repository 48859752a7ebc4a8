//! Tests: memory and files say the same.

use super::*;
use crate::log::tests::Made;
use proptest::prelude::*;

proptest! {
    #[test]
    fn files_answer_as_memory_does(batches in prop::collection::vec((1usize..5, 0i64..5000), 1..60), base in 0i64..1000) {
        let folder = tempfile::tempdir().unwrap();
        let (mut index, mut offset, mut position) = (Index::new(base), base, 0);
        let mut all = Vec::new();
        for (count, timestamp) in batches {
            let mut header = Header::parse(&Made::values(count).bytes()).unwrap();
            (header.base_offset, header.size, header.max_timestamp) = (offset, 1500, timestamp);
            index.push(&header, position);
            all.push((header, position));
            (offset, position) = (header.next_offset(), position + 1500);
        }
        index.save(folder.path(), "").unwrap();
        let loaded = Index::load(folder.path(), base, position, offset).unwrap();
        for (header, at) in &all {
            for wanted in header.base_offset..header.next_offset() {
                let found = index.position(wanted);
                prop_assert!(found <= *at && *at - found <= 3 * 1500, "{} for {}", found, at);
                prop_assert_eq!(position_in_file(folder.path(), base, wanted).unwrap(), found);
                prop_assert_eq!(loaded.position(wanted), found);
                prop_assert!(index.position_after(header.next_offset()).is_none_or(|after| after >= at + 1500));
            }
            let first = all.iter().find(|(other, _)| other.max_timestamp >= header.max_timestamp).unwrap().0;
            prop_assert!(index.offset_before(header.max_timestamp) <= first.last_offset());
            // The files have the greatest timestamp as an entry of its own.
            let in_file = offset_before_in_file(folder.path(), base, header.max_timestamp).unwrap();
            prop_assert!(in_file <= first.last_offset() && in_file >= index.offset_before(header.max_timestamp));
        }
        prop_assert_eq!(largest_in_files(folder.path(), base, position), Some(index.largest));
        prop_assert_eq!(loaded.largest, index.largest);
    }
}

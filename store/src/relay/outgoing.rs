//! What a client is still to be sent. It knows where messages end, so that an answer can be cut off between two.

use crate::wire::HEADER;
use bytes::{Buf, BytesMut};

#[derive(Debug, Default)]
pub struct Outgoing {
    buffer: BytesMut,
    /// Bytes at the front that belong to a message of which a part is sent already.
    begun: usize,
}

impl Outgoing {
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// So many bytes were sent.
    pub fn sent(&mut self, count: usize) {
        let mut end = self.begun;
        while end < count {
            let length =
                self.buffer[end + 1..].first_chunk::<{ HEADER - 1 }>().map_or(0, |l| u32::from_be_bytes(*l));
            end += 1 + usize::try_from(length).unwrap_or(usize::MAX - end - 1);
        }
        self.begun = end - count;
        self.buffer.advance(count);
    }

    /// Drops what isn't begun.
    pub fn cut(&mut self) {
        self.buffer.truncate(self.begun);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{put_query, ready};
    use proptest::prelude::*;

    proptest! {
        /// Wherever it is cut, whole messages were sent.
        #[test]
        fn a_cut_is_between_messages(texts in prop::collection::vec("[a-z]{0,20}", 1..10), sent in prop::collection::vec(1usize..40, 0..10)) {
            let mut outgoing = Outgoing::default();
            texts.iter().for_each(|text| put_query(outgoing.buffer(), text));
            let all = outgoing.bytes().to_vec();
            let mut received = Vec::new();
            for count in sent {
                let count = count.min(outgoing.len());
                received.extend_from_slice(&outgoing.bytes()[..count]);
                outgoing.sent(count);
            }
            outgoing.cut();
            ready(outgoing.buffer());
            received.extend_from_slice(outgoing.bytes());
            let received = &received[..received.len() - 6];
            prop_assert!(all.starts_with(received));
            let mut rest = BytesMut::from(received);
            while crate::wire::next_frame(&mut rest, usize::MAX).unwrap().is_some() {}
            prop_assert!(rest.is_empty());
        }
    }
}

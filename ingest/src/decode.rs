//! Decompression with an end: a small body must not unfold into a large one.

use crate::{admission::Reservation, content::Encoding};
use flate2::read::MultiGzDecoder;
use std::io::{self, Read};

/// A zstd frame may ask for a window of 2^31 bytes; the reference tool's levels up to 19 need no more than this.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Bytes decompressed between two looks at the limits.
const CHUNK_BYTES: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the body has more than {0} bytes when decompressed")]
    TooLarge(usize),
    #[error("too many bytes are in flight")]
    Busy,
    #[error("the body is not what its Content-Encoding says: {0}")]
    Corrupt(io::Error),
}

/// The decompressed body: at most `bytes_max` bytes, and no more than `reserved` can grow to with the compressed ones.
pub fn decode(
    encoding: Encoding,
    body: Vec<u8>,
    bytes_max: usize,
    reserved: &mut Reservation,
) -> Result<Vec<u8>, Error> {
    match encoding {
        Encoding::Identity => Ok(body),
        Encoding::Gzip => drain(MultiGzDecoder::new(body.as_slice()), body.len(), bytes_max, reserved),
        Encoding::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(body.as_slice()).map_err(Error::Corrupt)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(Error::Corrupt)?;
            drain(decoder, body.len(), bytes_max, reserved)
        }
    }
}

fn drain(
    mut decoder: impl Read,
    compressed_bytes: usize,
    bytes_max: usize,
    reserved: &mut Reservation,
) -> Result<Vec<u8>, Error> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut decoded = Vec::new();
    loop {
        let count = decoder.read(&mut chunk).map_err(Error::Corrupt)?;
        if count == 0 {
            return Ok(decoded);
        }
        if decoded.len() + count > bytes_max {
            return Err(Error::TooLarge(bytes_max));
        }
        if !reserved.grow_to(compressed_bytes + decoded.len() + count) {
            return Err(Error::Busy);
        }
        decoded.extend_from_slice(&chunk[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Budget;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    const LIMIT: usize = 1 << 20;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("writes to memory");
        encoder.finish().expect("writes to memory")
    }

    fn unpack(encoding: Encoding, body: Vec<u8>) -> Result<Vec<u8>, Error> {
        let mut reserved = Budget::new(4 * LIMIT).reserve(body.len()).expect("there is enough");
        decode(encoding, body, LIMIT, &mut reserved)
    }

    #[test]
    fn unpacks_what_was_packed() {
        let text = b"SELECT 1; ".repeat(1000);
        let zstd = zstd::encode_all(text.as_slice(), 3).expect("packs");
        assert_eq!(unpack(Encoding::Gzip, gzip(&text)).expect("gzip"), text);
        assert_eq!(unpack(Encoding::Zstd, zstd).expect("zstd"), text);
        let two_members = [gzip(&text), gzip(&text)].concat();
        assert_eq!(unpack(Encoding::Gzip, two_members).expect("two members").len(), 2 * text.len());
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let zeros = vec![0; 64 * LIMIT];
        let zstd = zstd::encode_all(zeros.as_slice(), 19).expect("packs");
        for (encoding, bomb) in [(Encoding::Gzip, gzip(&zeros)), (Encoding::Zstd, zstd)] {
            assert!(bomb.len() < LIMIT / 4);
            assert!(matches!(unpack(encoding, bomb), Err(Error::TooLarge(LIMIT))), "{encoding:?}");
        }
    }

    #[test]
    fn a_frame_that_asks_for_a_huge_window_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
        encoder.window_log(27).expect("a window");
        encoder.write_all(b"small").expect("writes to memory");
        let frame = encoder.finish().expect("writes to memory");
        assert!(matches!(unpack(Encoding::Zstd, frame), Err(Error::Corrupt(_))));
    }

    #[test]
    fn what_is_cut_or_not_compressed_at_all_is_an_error() {
        let mut cut = gzip(b"SELECT 1");
        cut.truncate(cut.len() - 4);
        assert!(matches!(unpack(Encoding::Gzip, cut), Err(Error::Corrupt(_))));
        assert!(matches!(unpack(Encoding::Zstd, b"SELECT 1".to_vec()), Err(Error::Corrupt(_))));
    }

    #[test]
    fn unfolding_counts_against_the_bytes_in_flight() {
        let body = gzip(&vec![0; LIMIT]);
        let mut reserved = Budget::new(LIMIT / 2).reserve(body.len()).expect("there is enough");
        assert!(matches!(decode(Encoding::Gzip, body, LIMIT, &mut reserved), Err(Error::Busy)));
    }
}

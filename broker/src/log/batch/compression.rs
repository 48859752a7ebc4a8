//! The five codecs of Kafka's batches: decompressing as a stream with a hard limit, and compressing.
//!
//! It sizes nothing by what the compressed bytes claim.

use bytes::Buf;
use std::io::{self, Read, Write};

/// Snappy can't expand further than this; what claims to is refused before memory is taken.
const SNAPPY_RATIO_MAX: usize = 64;
/// The framing of snappy-java: magic, version, oldest reader.
const XERIAL: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_BLOCK: usize = 32 << 10;
/// Long distances cost the reader memory; this is what zstd itself allows by default.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

pub const NONE: i16 = 0;
const GZIP: i16 = 1;
const SNAPPY: i16 = 2;
const LZ4: i16 = 3;
const ZSTD: i16 = 4;

/// Reads `compressed` as `codec` says, at most `limit` bytes of it; past them it is an error.
pub fn reader<'a>(codec: i16, compressed: &'a [u8], limit: u64) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match codec {
        NONE => Box::new(Limited { inner: compressed, left: limit }),
        GZIP => Box::new(Limited { inner: flate2::read::MultiGzDecoder::new(compressed), left: limit }),
        SNAPPY => Box::new(Limited { inner: Snappy::new(compressed), left: limit }),
        LZ4 => Box::new(Limited { inner: lz4::Decoder::new(compressed)?, left: limit }),
        ZSTD => {
            let mut inner = zstd::stream::read::Decoder::with_buffer(compressed)?;
            inner.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(Limited { inner, left: limit })
        }
        other => return Err(invalid(&format!("{other} is no codec"))),
    })
}

pub fn compress(codec: i16, plain: &[u8]) -> io::Result<Vec<u8>> {
    match codec {
        NONE => Ok(plain.to_vec()),
        GZIP => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(plain)?;
            encoder.finish()
        }
        SNAPPY => compress_snappy(plain),
        LZ4 => {
            // Java's reader takes independent blocks only.
            let mut builder = lz4::EncoderBuilder::new();
            builder.block_mode(lz4::BlockMode::Independent);
            let mut encoder = builder.build(Vec::new())?;
            encoder.write_all(plain)?;
            let (compressed, result) = encoder.finish();
            result.map(|()| compressed)
        }
        ZSTD => zstd::stream::encode_all(plain, 0),
        other => Err(invalid(&format!("{other} is no codec"))),
    }
}

fn compress_snappy(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut framed = XERIAL.to_vec();
    for block in plain.chunks(XERIAL_BLOCK) {
        let compressed = snap::raw::Encoder::new().compress_vec(block).map_err(io::Error::other)?;
        let length = u32::try_from(compressed.len()).map_err(io::Error::other)?;
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&compressed);
    }
    Ok(framed)
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.to_owned())
}

/// Fails, rather than ends, past the limit: a bomb is refused, not cut.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left =
            self.left.checked_sub(read as u64).ok_or_else(|| invalid("it decompresses to too much"))?;
        Ok(read)
    }
}

/// Snappy as Java clients send it (xerial frames) and as others do (one raw block).
struct Snappy<'a> {
    rest: &'a [u8],
    framed: bool,
    block: io::Cursor<Vec<u8>>,
}

impl<'a> Snappy<'a> {
    fn new(compressed: &'a [u8]) -> Self {
        let framed = compressed.len() >= XERIAL.len() && compressed.starts_with(&XERIAL[..8]);
        let rest = if framed { &compressed[XERIAL.len()..] } else { compressed };
        Self { rest, framed, block: io::Cursor::default() }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let length = match self.framed {
            true if self.rest.len() < 4 => return Err(invalid("a snappy frame is cut short")),
            true => self.rest.get_u32() as usize,
            false => self.rest.len(),
        };
        if length > self.rest.len() {
            return Err(invalid("a snappy frame is cut short"));
        }
        let (block, rest) = self.rest.split_at(length);
        self.rest = rest;
        let claimed = snap::raw::decompress_len(block).map_err(|_| invalid("this is no snappy block"))?;
        if claimed > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
            return Err(invalid("a snappy block claims too much"));
        }
        let plain = snap::raw::Decoder::new()
            .decompress_vec(block)
            .map_err(|_| invalid("a snappy block is broken"))?;
        self.block = io::Cursor::new(plain);
        Ok(())
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.block.has_remaining() && !self.rest.is_empty() {
            self.next_block()?;
        }
        self.block.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(codec: i16, plain: &[u8]) -> io::Result<Vec<u8>> {
        let compressed = compress(codec, plain)?;
        let mut read = Vec::new();
        reader(codec, &compressed, plain.len() as u64)?.read_to_end(&mut read)?;
        Ok(read)
    }

    #[test]
    fn every_codec_gives_back_what_it_got() {
        let plain: Vec<u8> = (0..200_000u32).map(|i| (i / 7) as u8).collect();
        for codec in NONE..=ZSTD {
            assert_eq!(round_trip(codec, &plain).unwrap(), plain, "codec {codec}");
            assert_eq!(round_trip(codec, b"").unwrap(), b"", "codec {codec}");
        }
        let raw = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        let mut read = Vec::new();
        reader(SNAPPY, &raw, 1 << 20).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, plain);
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let bomb = vec![0; 8 << 20];
        for codec in NONE..=ZSTD {
            let compressed = compress(codec, &bomb).unwrap();
            let mut read = Vec::new();
            let error = reader(codec, &compressed, 1 << 20).unwrap().read_to_end(&mut read).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "codec {codec}");
            assert!(read.len() <= (1 << 20) + (64 << 10), "codec {codec}: {}", read.len());
        }
        let claims_4_gib = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        assert!(reader(SNAPPY, &claims_4_gib, 1 << 20).unwrap().read_to_end(&mut Vec::new()).is_err());
    }
}

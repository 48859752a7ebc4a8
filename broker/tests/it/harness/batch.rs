//! Kafka's record batches (format v2) made by hand, right or wrong in every field.

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use std::io::Write as _;

/// From the leader epoch on: what the length counts.
const LENGTH_END: usize = 12;
/// From the attributes on: what the checksum is of.
const CHECKSUM_END: usize = 21;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Codec {
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];
}

/// Without a producer: sequence, epoch and id are -1.
#[derive(Clone, Debug)]
pub struct Batch {
    pub base_offset: i64,
    pub magic: i8,
    pub codec: Codec,
    pub transactional: bool,
    pub control: bool,
    pub producer_id: i64,
    pub epoch: i16,
    pub sequence: i32,
    pub timestamp: i64,
    /// Instead of the number of records, where it is to be wrong.
    pub count: Option<i32>,
    /// Instead of one less than the number of records.
    pub last_delta: Option<i32>,
    /// Key and value of each record.
    pub records: Vec<(Option<Bytes>, Option<Bytes>)>,
}

impl Batch {
    /// `count` records with keys and values that can be told apart.
    pub fn of(count: usize, tag: &str, timestamp: i64) -> Self {
        let record = |n| (Some(Bytes::from(format!("k{n}"))), Some(Bytes::from(format!("{tag}{n}"))));
        Self {
            base_offset: 0,
            magic: 2,
            codec: Codec::None,
            transactional: false,
            control: false,
            producer_id: -1,
            epoch: -1,
            sequence: -1,
            timestamp,
            count: None,
            last_delta: None,
            records: (0..count).map(record).collect(),
        }
    }

    pub fn by(mut self, producer_id: i64, epoch: i16, sequence: i32) -> Self {
        (self.producer_id, self.epoch, self.sequence) = (producer_id, epoch, sequence);
        self
    }

    pub fn encode(&self) -> Result<Bytes> {
        let count = i32::try_from(self.records.len())?;
        let flags = i16::from(self.transactional) << 4 | i16::from(self.control) << 5;
        let mut batch = BytesMut::new();
        batch.put_i64(self.base_offset);
        batch.put_i32(0);
        batch.put_i32(-1); // leader epoch
        batch.put_i8(self.magic);
        batch.put_u32(0);
        batch.put_i16(self.codec as i16 | flags);
        batch.put_i32(self.last_delta.unwrap_or(count - 1));
        batch.put_i64(self.timestamp);
        batch.put_i64(self.timestamp);
        batch.put_i64(self.producer_id);
        batch.put_i16(self.epoch);
        batch.put_i32(self.sequence);
        batch.put_i32(self.count.unwrap_or(count));
        batch.extend_from_slice(&compress(self.codec, &self.records()?)?);
        Ok(sealed(batch))
    }

    fn records(&self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        for (delta, (key, value)) in self.records.iter().enumerate() {
            let mut record = vec![0]; // attributes
            put_varint(&mut record, 0); // timestamp
            put_varint(&mut record, i64::try_from(delta)?);
            put_bytes(&mut record, key.as_ref())?;
            put_bytes(&mut record, value.as_ref())?;
            put_varint(&mut record, 0); // headers
            put_varint(&mut all, i64::try_from(record.len())?);
            all.extend(record);
        }
        Ok(all)
    }
}

/// Writes length and checksum of what has been put together or changed.
pub fn sealed(mut batch: BytesMut) -> Bytes {
    let length = i32::try_from(batch.len() - LENGTH_END).expect("it is small");
    batch[8..LENGTH_END].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32c::crc32c(&batch[CHECKSUM_END..]);
    batch[17..CHECKSUM_END].copy_from_slice(&checksum.to_be_bytes());
    batch.freeze()
}

fn put_bytes(into: &mut Vec<u8>, bytes: Option<&Bytes>) -> Result<()> {
    let Some(bytes) = bytes else {
        put_varint(into, -1);
        return Ok(());
    };
    put_varint(into, i64::try_from(bytes.len())?);
    into.extend_from_slice(bytes);
    Ok(())
}

/// Zigzag, then seven bits at a time.
fn put_varint(into: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    loop {
        let low = rest.to_le_bytes()[0] & 0x7f;
        rest >>= 7;
        if rest == 0 {
            into.push(low);
            return;
        }
        into.push(low | 0x80);
    }
}

fn compress(codec: Codec, records: &[u8]) -> Result<Vec<u8>> {
    match codec {
        Codec::None => Ok(records.to_vec()),
        Codec::Gzip => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            writer.write_all(records)?;
            Ok(writer.finish()?)
        }
        Codec::Snappy => snap::raw::Encoder::new().compress_vec(records).context("snappy"),
        Codec::Lz4 => {
            // Kafka can't read blocks that depend on each other.
            let mut builder = lz4::EncoderBuilder::new();
            let mut writer = builder.block_mode(lz4::BlockMode::Independent).build(Vec::new())?;
            writer.write_all(records)?;
            let (compressed, result) = writer.finish();
            result?;
            Ok(compressed)
        }
        Codec::Zstd => Ok(zstd::encode_all(records, 0)?),
    }
}

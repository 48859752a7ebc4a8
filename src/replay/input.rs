//! The bytes of a log: a file or standard input, plain, gzip or zstd as their first bytes say, read as they come.

use flate2::bufread::MultiGzDecoder;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const BUFFER_BYTES: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("opening {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("reading {name} after line {line}")]
    Read { name: String, line: u64, source: io::Error },
}

/// How many bytes have been read, before decompression.
#[derive(Clone, Default)]
pub struct BytesRead(Arc<AtomicU64>);

impl BytesRead {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Counting<R> {
    inner: R,
    count: BytesRead,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(buffer)?;
        self.count.0.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// The size of all `paths` together, as they lie on the disk; `None` if one of them is not a file.
pub fn total_bytes(paths: &[PathBuf]) -> Result<Option<u64>, InputError> {
    let mut total = 0;
    for path in paths.iter().filter(|path| !is_stdin(path)) {
        let metadata = path.metadata().map_err(|source| InputError::Open { path: path.clone(), source })?;
        if !metadata.is_file() {
            return Ok(None);
        }
        total += metadata.len();
    }
    Ok((!paths.iter().any(|path| is_stdin(path))).then_some(total))
}

/// Opens the file at `path`, or standard input for `-`, and adds what is read of it to `count`.
pub fn open(path: &Path, count: &BytesRead) -> Result<Box<dyn BufRead + Send>, InputError> {
    let failed = |source| InputError::Open { path: path.to_owned(), source };
    let raw: Box<dyn Read + Send> =
        if is_stdin(path) { Box::new(io::stdin()) } else { Box::new(File::open(path).map_err(failed)?) };
    decompressed(Counting { inner: raw, count: count.clone() }).map_err(failed)
}

/// What messages call the input.
pub fn name(path: &Path) -> String {
    if is_stdin(path) { "standard input".to_owned() } else { path.display().to_string() }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn decompressed(mut raw: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let mut start = Vec::new();
    (&mut raw).take(ZSTD.len() as u64).read_to_end(&mut start)?;
    let compression = start.clone();
    let whole = Cursor::new(start).chain(BufReader::with_capacity(BUFFER_BYTES, raw));
    Ok(if compression.starts_with(&GZIP) {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(whole)))
    } else if compression == ZSTD {
        let decoder = zstd::Decoder::with_buffer(whole)?;
        Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
    } else {
        Box::new(whole)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).expect("compresses in memory")
    }

    fn read(bytes: Vec<u8>) -> io::Result<String> {
        let mut text = String::new();
        decompressed(Cursor::new(bytes))?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn the_first_bytes_tell_the_compression() {
        assert_eq!(read(b"plain".to_vec()).ok().as_deref(), Some("plain"));
        assert_eq!(read(b"p".to_vec()).ok().as_deref(), Some("p"));
        assert_eq!(read(Vec::new()).ok().as_deref(), Some(""));
        assert_eq!(read([gzip("two "), gzip("members")].concat()).ok().as_deref(), Some("two members"));
        let frame = |text: &str| zstd::encode_all(text.as_bytes(), 1).expect("compresses in memory");
        assert_eq!(read([frame("two "), frame("frames")].concat()).ok().as_deref(), Some("two frames"));
    }

    #[test]
    fn half_a_compressed_file_is_an_error() {
        let whole = gzip(&"text ".repeat(1000));
        assert!(read(whole[..whole.len() - 9].to_vec()).is_err());
    }

    #[test]
    fn files_are_opened_and_their_bytes_counted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("log.gz");
        std::fs::write(&path, gzip("text")).expect("writes a file");
        let count = BytesRead::default();
        let mut text = String::new();
        open(&path, &count).expect("opens").read_to_string(&mut text).expect("reads");
        assert_eq!(text, "text");
        assert_eq!(Some(count.get()), total_bytes(&[path]).expect("it has a size"));
        assert!(open(&folder.path().join("none"), &count).is_err());
    }
}

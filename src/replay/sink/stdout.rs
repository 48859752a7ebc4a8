//! Records as JSON, one a line, on standard output: for other tools, such as kcat.

use super::{Counts, SinkError};
use millrace_schemas::QueryMetric;
use std::io::{self, Write};

#[derive(Default)]
pub struct StdoutSink {
    written: u64,
}

impl StdoutSink {
    pub async fn send(&mut self, batch: &[QueryMetric]) -> Result<(), SinkError> {
        let lines = encode(batch).map_err(SinkError::Encode)?;
        let written = tokio::task::spawn_blocking(move || write(&lines)).await?;
        written.map_err(SinkError::Stdout)?;
        self.written += batch.len() as u64;
        Ok(())
    }

    pub fn counts(&self) -> Counts {
        Counts { accepted: self.written, ..Counts::default() }
    }
}

fn encode(batch: &[QueryMetric]) -> Result<Vec<u8>, serde_json::Error> {
    let mut lines = Vec::new();
    for metric in batch {
        serde_json::to_writer(&mut lines, metric)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

fn write(lines: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(lines)?;
    stdout.flush()
}

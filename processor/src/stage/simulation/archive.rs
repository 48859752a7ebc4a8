//! An archiver on manifests in memory: what [`crate::archive`] does around its partition.

use super::{
    combine::dead_letters,
    log::index,
    site::{Ending, Site},
};
use crate::{
    admission::Admission,
    archive::{
        chunk::Chunk,
        partition::{Judged, Partition, Record},
    },
    record::Texts,
};
use hashbrown::HashMap;
use millrace_log::NextOffset;
use std::time::Instant;

/// `[from, to)` is archived, and these records of it are in files.
pub struct Manifest {
    pub from: NextOffset,
    pub to: NextOffset,
    pub offsets: Vec<i64>,
}

pub struct Archiver {
    partition: i32,
    core: Option<Partition>,
    /// Written or not, and not heard of yet.
    out: Option<Result<Chunk, Chunk>>,
    pub manifests: Vec<Manifest>,
}

impl Archiver {
    pub fn new(partition: i32) -> Self {
        Self { partition, core: None, out: None, manifests: Vec::new() }
    }

    pub fn die(&mut self) {
        self.core = None;
        self.out = None;
    }

    pub fn next(&self) -> NextOffset {
        self.manifests.last().map_or(NextOffset::START, |manifest| manifest.to)
    }

    /// Takes in up to `records`, and writes them, or not yet.
    pub fn step(&mut self, site: &mut Site<'_>, records: usize, write: Option<Ending>) {
        let next = self.next();
        let core = self.core.get_or_insert_with(|| begin(site, self.partition, next));
        let created: HashMap<_, _> = site.created.iter().map(|(id, since)| (*id, *since)).collect();
        let now = Instant::now();
        for (offset, raw) in site.log.raw[index(self.partition)].from(core.reached().get()).take(records) {
            let mut texts = Texts::default();
            let content = core.parse(offset, raw.payload.as_deref(), &mut texts);
            let record = Record { offset, append_time: raw.append_time, content };
            core.take((record, &texts), &created, now);
        }
        match self.out.take() {
            Some(Ok(chunk)) => core.written(chunk),
            Some(Err(chunk)) => core.failed(chunk),
            None => {}
        }
        let Some(ending) = write.filter(|_| !core.is_empty()) else { return };
        let mut chunk = core.hand_out();
        let groups = chunk.groups();
        let mut offsets: Vec<i64> =
            groups.iter().flat_map(|(_, rows)| rows.rows.iter().map(|row| row.archived.offset)).collect();
        offsets.sort_unstable();
        let manifest = Manifest { from: chunk.from(), to: chunk.to(), offsets };
        let line = format!("archive: partition {}, [{}, {})", self.partition, manifest.from, manifest.to);
        site.tell(format_args!("{line}, {} records, {ending:?}", manifest.offsets.len()));
        match ending {
            Ending::Committed => {
                self.manifests.push(manifest);
                core.written(chunk);
            }
            // More is taken before it hears of it.
            Ending::Stalls => {
                self.manifests.push(manifest);
                self.out = Some(Ok(chunk));
            }
            Ending::DiesAfter => {
                self.manifests.push(manifest);
                self.core = None;
            }
            // The same; it is written again, with nothing else before.
            Ending::Aborted => self.out = Some(Err(chunk)),
            // Its files are orphans: no manifest names them.
            Ending::DiesBefore => self.core = None,
        }
    }
}

/// Reads back what the duplicate memory must hold.
fn begin(site: &Site<'_>, partition: i32, next: NextOffset) -> Partition {
    let settings = site.admission();
    let from = Admission::restore_from(next, &settings).get();
    let dead = dead_letters(site, partition).into_iter().filter(|offset| (from..next.get()).contains(offset));
    let to = NextOffset::exclusive(site.log.raw_offsets.get(&partition).copied().unwrap_or(0));
    Partition::archived_to(next, None, &settings, Judged { to, dead: dead.collect() })
}

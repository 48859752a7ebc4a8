//! Ids in the order in which they came.

/// Half a megabyte.
const BLOCK_IDS: usize = 32_768;

/// Like a vector, but of blocks: beyond the first one nothing is copied as it grows, and little is empty.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// All but the last are full, but for those behind it, that are empty: kept for their memory.
    blocks: Vec<Vec<[u64; 2]>>,
    len: usize,
}

impl Blocks {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// It must be there.
    pub(super) fn get(&self, at: usize) -> [u64; 2] {
        self.blocks[at / BLOCK_IDS][at % BLOCK_IDS]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = [u64; 2]> {
        self.blocks.iter().flatten().copied()
    }

    pub(super) fn push(&mut self, id: [u64; 2]) {
        let block = self.len / BLOCK_IDS;
        if block == self.blocks.len() {
            // The first one grows as it fills: most partitions of small installations never have more.
            let ids = if block == 0 { Vec::new() } else { Vec::with_capacity(BLOCK_IDS) };
            self.blocks.push(ids);
        }
        self.blocks[block].push(id);
        self.len += 1;
    }

    /// Keeps the memory.
    pub(super) fn clear(&mut self) {
        self.blocks.iter_mut().for_each(Vec::clear);
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_came_in_its_order_also_in_blocks_that_were_used_before() {
        let mut all = Blocks::default();
        for count in [2 * BLOCK_IDS + 1, BLOCK_IDS, 3] {
            let ids: Vec<[u64; 2]> = (0..count as u64).map(|number| [number, number ^ 7]).collect();
            all.clear();
            ids.iter().for_each(|id| all.push(*id));
            assert_eq!(all.len(), count);
            assert!(all.iter().eq(ids.iter().copied()));
            assert!((0..count).all(|at| all.get(at) == ids[at]));
        }
    }
}

//! In which regions' boxes rows lie, as far as was looked at them.

/// One bit for each row and region.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Inside {
    words: Vec<u64>,
    by_row: usize,
}

impl Inside {
    /// Nothing was looked at yet: each row may be in each of the regions, of which there is one at least.
    pub fn new(rows: usize, regions: usize) -> Self {
        let by_row = regions.div_ceil(64);
        let mut words = vec![u64::MAX; rows * by_row];
        for row in words.chunks_exact_mut(by_row) {
            row[by_row - 1] >>= by_row * 64 - regions;
        }
        Inside { words, by_row }
    }

    /// Leave a row in those of its regions only that `contain` what was just looked at.
    pub fn keep(&mut self, row: usize, contain: impl Fn(usize) -> bool) {
        for (at, word) in self.words[row * self.by_row..][..self.by_row].iter_mut().enumerate() {
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros() as usize;
                left &= left - 1;
                if !contain(at * 64 + bit) {
                    *word &= !(1 << bit);
                }
            }
        }
    }

    /// Whether a row lies in a region's box.
    pub fn has(&self, row: usize, region: usize) -> bool {
        self.words[row * self.by_row + region / 64] >> (region % 64) & 1 == 1
    }
}

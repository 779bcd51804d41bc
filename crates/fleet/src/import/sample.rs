//! Some rows of many, for the comparisons at the end of an import.

/// Rows of a kind that are compared.
pub const COMPARED: usize = 50;

/// At most [`COMPARED`] of the rows that it is offered; the later a row comes, the rarer it is kept.
#[derive(Debug)]
pub struct Sample<T> {
    pub rows: Vec<T>,
    offered: usize,
}

impl<T> Default for Sample<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            offered: 0,
        }
    }
}

impl<T> Sample<T> {
    /// Keeps every row at first, then every second, third, fourth …, in the places of the oldest.
    pub fn offer(&mut self, row: T) {
        let every = self.offered / COMPARED + 1;
        if self.offered.is_multiple_of(every) {
            if self.rows.len() < COMPARED {
                self.rows.push(row);
            } else {
                let place = self.offered / every % COMPARED;
                self.rows[place] = row;
            }
        }
        self.offered += 1;
    }
}

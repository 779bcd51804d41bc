//! Positions of keys in a file.

use std::collections::HashMap;

/// Line from 1, column from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// By flat key, `a.b[0]`.
pub type Positions = HashMap<String, Position>;

/// Returns the position of a key, or of the nearest enclosing one.
pub fn nearest(positions: &Positions, key: &str) -> Option<Position> {
    let mut key = key;
    loop {
        if let Some(position) = positions.get(key) {
            return Some(*position);
        }
        key = &key[..key.rfind(['.', '['])?];
    }
}

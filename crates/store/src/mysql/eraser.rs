//! Erased rows: the server purges and overwrites them by itself, and its logs expire by its own settings (docs/security.md).

use jiff::Timestamp;
use sosohappy_common::Context;

use super::Tx;
use super::sql::Database;
use crate::StoreError;

/// Does nothing: there is no file to rewrite.
pub async fn note_erasure(_tx: &mut Tx, _now: Timestamp) -> Result<(), StoreError> {
    Ok(())
}

pub(super) fn spawn(_database: &Database, _context: &Context) {}

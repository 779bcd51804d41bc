//! The memory for the files of one upload.

use std::ops::Range;

use bytes::Bytes;
use memmap2::MmapMut;

/// Pages that are mapped outside of the allocator: only written pages are resident, and all are unmapped when the last file is dropped.
/// The allocator keeps freed blocks of such a size (glibc raises its threshold for `mmap` with each of
/// them), and a vector that grows holds up to twice its bytes.
#[derive(Debug)]
pub(super) struct UploadBuffer {
    capacity: usize,
    /// Mapped at the first byte.
    pages: Option<MmapMut>,
    len: usize,
}

/// The capacity is used up, or the system has no memory.
#[derive(Debug)]
pub(super) struct Full;

impl UploadBuffer {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            pages: None,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.pages.is_none() {
            let pages = MmapMut::map_anon(self.capacity.max(1));
            self.pages = Some(pages.map_err(|error| {
                tracing::error!(%error, bytes = self.capacity, "failed to map memory for an upload");
                Full
            })?);
        }
        let end = self.len + bytes.len();
        let room = self.pages.as_mut().and_then(|pages| pages.get_mut(self.len..end));
        room.ok_or(Full)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    pub(super) fn get(&self, range: Range<usize>) -> &[u8] {
        let pages = self.pages.as_ref().and_then(|pages| pages.get(range));
        pages.unwrap_or_default()
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Returns the files at these ranges, which share the ownership of the pages.
    pub(super) fn into_files(self, ranges: impl IntoIterator<Item = Range<usize>>) -> Vec<Bytes> {
        let whole = self.pages.map_or_else(Bytes::new, Bytes::from_owner);
        ranges.into_iter().map(|range| whole.slice(range)).collect()
    }
}

//! Files in `state.folder`: copies of published versions, uses of flags, and the audit record.

pub mod archive;
pub mod flag_uses;
pub mod record;

use std::io::Write as _;
use std::path::Path;

/// Writes a file atomically: after a crash the old or the new content is there. Readable by its owner only, since configuration holds secrets.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let beside = path.with_extension("part");
    let mut file = private().create(true).truncate(true).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    std::fs::File::open(folder)?.sync_all()
}

/// Options for a file that only its owner may read and write.
fn private() -> std::fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

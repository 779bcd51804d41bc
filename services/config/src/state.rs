//! What config keeps on disk: copies of published versions and the record of who did what.

pub mod archive;
pub mod flag_uses;
pub mod record;

use std::io::Write as _;
use std::path::Path;

/// A file that is there whole or not at all, whatever dies when; readable by its owner only, since configuration holds
/// secrets.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let beside = path.with_extension("part");
    let mut file = private().create(true).truncate(true).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    std::fs::File::open(folder)?.sync_all()
}

/// To write, by the owner only.
fn private() -> std::fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

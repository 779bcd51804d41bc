//! The ledger of resignations (`resignation.ledger`): a file beside the database, which no restore of the database takes back. Who resigned
//! after the backup that a database was restored from is resigned again before auth answers its first request.
//!
//! A line is the keyed hash of an account in hexadecimal, a space, and the moment of a resignation.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

use crate::store::ResignationProof;

/// The mode of a new file: other users of the machine need not know how many have resigned.
const PRIVATE: u32 = 0o600;

#[derive(Debug)]
pub struct Ledger(PathBuf);

impl Ledger {
    pub fn new(file: PathBuf) -> Self {
        Self(file)
    }

    /// Appends a line for each; they are on the disk when it returns. Makes the file if there is none.
    ///
    /// # Errors
    /// If the file cannot be written: some of the lines may be there.
    pub async fn append(&self, proofs: &[ResignationProof]) -> io::Result<()> {
        let mut lines = String::new();
        for proof in proofs {
            // The line break in front ends a line that a crash has cut.
            let _ = write!(lines, "\n{} {}\n", hex::encode(proof.account_hash), proof.resigned_at);
        }
        let mut options = OpenOptions::new();
        let mut file = options.create(true).append(true).mode(PRIVATE).open(&self.0).await?;
        file.write_all(lines.as_bytes()).await?;
        file.flush().await?;
        file.sync_all().await
    }

    /// Puts the name of the file on the disk.
    ///
    /// # Errors
    /// If the folder cannot be opened.
    pub async fn sync_folder(&self) -> io::Result<()> {
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new("."))).await?.sync_all().await
    }

    /// Returns what the lines say; one that a crash has cut says nothing.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub async fn read(&self) -> io::Result<HashSet<ResignationProof>> {
        let bytes = match tokio::fs::read(&self.0).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        Ok(String::from_utf8_lossy(&bytes).lines().filter_map(parse).collect())
    }
}

fn parse(line: &str) -> Option<ResignationProof> {
    let (hash, at) = line.split_once(' ')?;
    let mut account_hash = [0; 32];
    hex::decode_to_slice(hash, &mut account_hash).ok()?;
    Some(ResignationProof {
        account_hash,
        resigned_at: at.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn proof(account: u8, second: i64) -> ResignationProof {
        ResignationProof {
            account_hash: [account; 32],
            resigned_at: Timestamp::from_millisecond(second * 1000 + 7).expect("a time"),
        }
    }

    #[tokio::test]
    async fn a_line_that_a_crash_has_cut_takes_no_other_along() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("resigned");
        let ledger = Ledger::new(file.clone());
        assert_eq!(ledger.read().await.expect("no file is no error"), HashSet::new());
        ledger.append(&[proof(1, 5)]).await.expect("a file can be made");
        let whole = std::fs::read_to_string(&file).expect("the file");
        for cut in 1..whole.trim().len() {
            std::fs::write(&file, &whole.trim()[..cut]).expect("a file can be written");
            ledger
                .append(&[proof(2, 6), proof(3, 7)])
                .await
                .expect("a file can be written");
            let read = ledger.read().await.expect("the file can be read");
            assert_eq!(read, HashSet::from([proof(2, 6), proof(3, 7)]), "cut after {cut} bytes");
        }
    }
}

//! The ledger of resignations (`resignation.ledger`): a file beside the database, which no restore of the database takes back. Who resigned
//! after the backup that a database was restored from is resigned again before auth answers its first request.
//!
//! A line is the keyed hash of an account in hexadecimal, a space, and the moment of a resignation.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

use crate::app::App;
use crate::error::Error;
use crate::resignations;
use crate::store::ResignationProof;

/// Accounts that are looked at in one step.
const ACCOUNTS: u32 = 1000;

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
    async fn sync_folder(&self) -> io::Result<()> {
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new("."))).await?.sync_all().await
    }

    /// Returns what the lines say; one that a crash has cut says nothing.
    async fn read(&self) -> io::Result<HashSet<ResignationProof>> {
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

/// Writes resignations into the ledger that it lacks, then resigns every account again whose resignation the database lacks. An account that was
/// made after the resignation stays.
///
/// # Errors
/// If the ledger or the database cannot be read or written.
pub async fn reconcile(app: &App) -> anyhow::Result<()> {
    let Some(ledger) = &app.ledger else { return Ok(()) };
    let written = ledger.read().await?;
    let proofs = app.store.resignation_proofs().await?;
    let unwritten: Vec<_> = proofs
        .iter()
        .filter(|proof| !written.contains(*proof))
        .copied()
        .collect();
    ledger.append(&unwritten).await?;
    ledger.sync_folder().await?;
    let known = latest(proofs);
    let mut lost = latest(written);
    lost.retain(|account, at| known.get(account).is_none_or(|known| known < at));
    if !lost.is_empty() {
        resign_again(app, &lost).await?;
    }
    Ok(())
}

/// Returns the last resignation of each account, by its keyed hash.
fn latest(proofs: impl IntoIterator<Item = ResignationProof>) -> HashMap<[u8; 32], Timestamp> {
    let mut latest = HashMap::new();
    for proof in proofs {
        let last = latest.entry(proof.account_hash).or_insert(proof.resigned_at);
        *last = proof.resigned_at.max(*last);
    }
    latest
}

async fn resign_again(app: &App, lost: &HashMap<[u8; 32], Timestamp>) -> anyhow::Result<()> {
    let mut after = String::new();
    loop {
        let accounts = app.store.accounts_after(&after, ACCOUNTS).await?;
        let Some(last) = accounts.last() else { return Ok(()) };
        last.as_str().clone_into(&mut after);
        for account in &accounts {
            let Some(at) = lost.get(&app.hasher.hash(account)) else {
                continue;
            };
            let person = app.store.person(account).await?;
            if person.is_none_or(|person| person.created_at > *at) {
                continue;
            }
            match resignations::resign(app, account).await {
                Ok(()) => tracing::warn!(resigned_at = %at, "account resigned again: the database did not know it"),
                // Another replica was quicker.
                Err(Error::UnknownAccount) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn the_last_resignation_of_an_account_counts() {
        let latest = latest([proof(1, 9), proof(2, 4), proof(1, 3)]);
        let seconds = |account: u8| latest[&[account; 32]].as_second();
        assert_eq!((seconds(1), seconds(2)), (9, 4));
    }
}

//! Resignations that a restored database lacks, and the ledger has.

use std::collections::HashMap;

use jiff::Timestamp;

use super::resign;
use crate::app::App;
use crate::error::Error;
use crate::store::ResignationProof;

/// Accounts that are looked at in one step.
const ACCOUNTS: u32 = 1000;

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
        let Some(end) = accounts.last() else { return Ok(()) };
        end.as_str().clone_into(&mut after);
        for account in &accounts {
            let Some(at) = lost.get(&app.hasher.hash(account)) else {
                continue;
            };
            let person = app.store.person(account).await?;
            if person.is_none_or(|person| person.created_at > *at) {
                continue;
            }
            match resign(app, account).await {
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

    #[test]
    fn the_last_resignation_of_an_account_counts() {
        let latest = latest([proof(1, 9), proof(2, 4), proof(1, 3)]);
        let seconds = |account: u8| latest[&[account; 32]].as_second();
        assert_eq!((seconds(1), seconds(2)), (9, 4));
    }
}

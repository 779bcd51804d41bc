//! The present nicknames of those who caused notices.

use std::collections::HashMap;

use sosohappy_access::{Denied, Names};
use sosohappy_common::Account;

pub type PresentNames = HashMap<Account, String>;

/// Looks up the present nicknames of all actors at once.
pub async fn present_names(names: &dyn Names, mut actors: Vec<Account>) -> Result<PresentNames, Denied> {
    actors.sort();
    actors.dedup();
    let present = names.nicknames_of(&actors).await?;
    let accounts = actors.into_iter().zip(present);
    Ok(accounts.filter_map(|(actor, name)| Some((actor, name?))).collect())
}

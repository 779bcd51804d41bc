//! The present nicknames of the people of messages.

use std::collections::HashMap;

use sosohappy_access::{Denied, Names};
use sosohappy_common::Account;

use crate::domain::Message;

/// Nicknames as they are now. An account whose nickname is unknown has none.
pub struct PresentNames(HashMap<Account, Option<String>>);

impl PresentNames {
    pub async fn of(names: &dyn Names, messages: impl Iterator<Item = &Message>) -> Result<Self, Denied> {
        let mut people: Vec<Account> = messages.flat_map(Message::people).cloned().collect();
        people.sort();
        people.dedup();
        let present = names.nicknames_of(&people).await?;
        Ok(Self(people.into_iter().zip(present).collect()))
    }

    pub fn get(&self, account: &Account) -> Option<&str> {
        self.0.get(account)?.as_deref()
    }
}

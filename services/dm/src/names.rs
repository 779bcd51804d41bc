//! The present nicknames of the people of messages.

use std::collections::HashMap;

use sosohappy_access::{Denied, Names};
use sosohappy_common::Account;

use crate::domain::Message;

/// Nicknames as they are now. An account whose nickname is unknown has none.
pub struct PresentNames(HashMap<Account, Option<String>>);

impl PresentNames {
    pub async fn of(names: &dyn Names, messages: impl Iterator<Item = &Message>) -> Result<Self, Denied> {
        Self::of_people(names, messages.flat_map(Message::people).cloned()).await
    }

    pub async fn of_people(names: &dyn Names, people: impl Iterator<Item = Account>) -> Result<Self, Denied> {
        let mut people: Vec<Account> = people.collect();
        people.sort();
        people.dedup();
        let present = names.nicknames_of(&people).await?;
        Ok(Self(people.into_iter().zip(present).collect()))
    }

    pub fn get(&self, account: &Account) -> Option<&str> {
        self.0.get(account)?.as_deref()
    }
}

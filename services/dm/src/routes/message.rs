//! The history.

pub mod find;
pub mod find_multiple;

use std::collections::HashMap;

use sosohappy_access::{Denied, Names};
use sosohappy_common::Account;

use crate::domain::{Message, Shown};

/// Puts the present nicknames into messages; a person whose name nobody can tell keeps the one of then.
async fn shown(names: &dyn Names, messages: Vec<Message>) -> Result<Vec<Shown>, Denied> {
    let mut people: Vec<Account> = Vec::new();
    for message in &messages {
        people.extend([message.sender.account.clone(), message.receiver.account.clone()]);
    }
    people.sort();
    people.dedup();
    let present: HashMap<Account, Option<String>> =
        people.iter().cloned().zip(names.nicknames_of(&people).await?).collect();
    let present = |account: &Account| present.get(account).cloned().flatten();
    Ok(messages
        .into_iter()
        .map(|message| {
            let (sender, receiver) = (present(&message.sender.account), present(&message.receiver.account));
            message.shown(sender, receiver)
        })
        .collect())
}

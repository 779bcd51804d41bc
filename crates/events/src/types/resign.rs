//! `resign`: a person left; everything made up to this moment is erased.

use sosohappy_common::Account;

use super::parse;
use crate::{Event, Malformed, Record, Topic};

/// Key: account. Value: nickname. The event's `occurred_at` is the moment of the resignation.
///
/// Whatever stands for the nickname, the person is to be erased: one that is none (null, too long, not UTF-8) reads as empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountResigned {
    pub account: Account,
    pub nickname: String,
}

impl Event for AccountResigned {
    const TOPIC: Topic = Topic::Resign;
    const TYPE: &'static str = "AccountResigned";

    fn key(&self) -> Option<String> {
        Some(self.account.as_str().to_owned())
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(self.nickname.clone().into_bytes())
    }

    fn aggregate(&self) -> String {
        self.account.as_str().to_owned()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        Ok(Self {
            account: parse::key_account(record)?,
            nickname: record
                .value_text()
                .and_then(|text| parse::nickname(text, "the value"))
                .unwrap_or_default(),
        })
    }
}

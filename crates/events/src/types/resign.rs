//! `resign`: an account resigned; every service erases its data up to this moment.

use sosohappy_common::Account;

use super::parse;
use crate::{Event, Malformed, Record, Topic};

/// Key: account. Value: nickname. The event's `occurred_at` is the moment of the resignation.
///
/// The account is erased whatever its nickname: an invalid one (null, too long, not UTF-8) is read as empty.
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

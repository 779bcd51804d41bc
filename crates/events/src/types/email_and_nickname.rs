//! `emailAndNickname`: an account changed its nickname.

use sosohappy_common::Account;

use super::parse;
use crate::{Event, Malformed, Record, Topic};

/// Key: account. Value: nickname; null when the account resigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicknameSet {
    pub account: Account,
    pub nickname: Option<String>,
}

impl NicknameSet {
    /// Creates the event of an account that resigned.
    #[must_use]
    pub const fn forgotten(account: Account) -> Self {
        Self {
            account,
            nickname: None,
        }
    }
}

impl Event for NicknameSet {
    const TOPIC: Topic = Topic::EmailAndNickname;
    const TYPE: &'static str = "NicknameSet";

    fn key(&self) -> Option<String> {
        Some(self.account.as_str().to_owned())
    }

    fn value(&self) -> Option<Vec<u8>> {
        self.nickname.clone().map(String::into_bytes)
    }

    fn aggregate(&self) -> String {
        self.account.as_str().to_owned()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        let nickname = match record.value {
            Some(_) => Some(parse::nickname(record.value_text()?, "the value")?),
            None => None,
        };
        Ok(Self {
            account: parse::key_account(record)?,
            nickname,
        })
    }
}

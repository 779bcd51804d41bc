//! `deviceToken`: a device of an account can be pushed to.

use sosohappy_common::Account;

use super::{SessionId, parse};
use crate::{Event, Malformed, Record, Topic};

/// Bytes of the longest push token that is taken; those of FCM have under 300.
const MAX_TOKEN: usize = 4096;

/// Key: account. Value: push token; null forgets all of the account's. Header `session-id`: one token a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceTokenSet {
    pub account: Account,
    pub token: Option<String>,
    pub session: Option<SessionId>,
}

impl Event for DeviceTokenSet {
    const TOPIC: Topic = Topic::DeviceToken;
    const TYPE: &'static str = "DeviceTokenSet";

    fn key(&self) -> Option<String> {
        Some(self.account.as_str().to_owned())
    }

    fn value(&self) -> Option<Vec<u8>> {
        self.token.clone().map(String::into_bytes)
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        self.session
            .map(|session| (parse::SESSION_ID, session.to_string()))
            .into_iter()
            .collect()
    }

    fn aggregate(&self) -> String {
        self.account.as_str().to_owned()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        let token = match record.value {
            Some(_) => Some(record.value_text()?.to_owned()),
            None => None,
        };
        if token
            .as_ref()
            .is_some_and(|token| token.is_empty() || token.len() > MAX_TOKEN)
        {
            return Err(Malformed::new("the value is no push token"));
        }
        Ok(Self {
            account: parse::key_account(record)?,
            token,
            session: parse::header_session(record)?,
        })
    }
}

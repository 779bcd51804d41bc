//! `expired`: an access token expired, or a session was closed.

use sosohappy_common::Account;

use super::access_token::SESSION_ID;
use super::{SessionId, parse};
use crate::{Event, Malformed, Record, Topic};

/// Key: account. Value: null. Header `session-id` names the session whose tokens issued **up to the event's time** are
/// revoked; tokens that the session gets later (re-issue) stay valid. A Spring service names none: then no session is
/// closed, because expiry is enforced on read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionExpired {
    pub account: Account,
    pub session: Option<SessionId>,
}

impl Event for SessionExpired {
    const TOPIC: Topic = Topic::Expired;
    const TYPE: &'static str = "SessionExpired";

    fn key(&self) -> Option<String> {
        Some(self.account.as_str().to_owned())
    }

    fn value(&self) -> Option<Vec<u8>> {
        None
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        self.session
            .map(|session| (SESSION_ID, session.to_string()))
            .into_iter()
            .collect()
    }

    fn aggregate(&self) -> String {
        self.account.as_str().to_owned()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        Ok(Self {
            account: parse::key_account(record)?,
            session: SessionId::of_header(record)?,
        })
    }
}

//! `deviceToken`: the push tokens of an account's devices.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::{SessionId, parse};
use crate::{Event, Malformed, Record, Topic};

/// The most bytes of a push token; those of FCM have under 300.
const MAX_TOKEN: usize = 4096;

/// JSON `[{"session","token","since"}]`, `since` in milliseconds since the epoch.
const DEVICES: &str = "devices";

/// JSON list of the ids of all open sessions.
const SESSIONS: &str = "sessions";

/// A session with a push token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub session: SessionId,
    pub token: String,
    /// When the session registered the token.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub since: Timestamp,
}

/// Key: account. Value: the push token that was set last; null when none is left. Header `devices`: all devices, because compaction keeps
/// one record an account. Header `sessions`: all open sessions, those without a push token included, so that a reader that knows more
/// devices removes those of closed sessions only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceTokenSet {
    pub account: Account,
    pub token: Option<String>,
    /// `None` from a Spring service, which has one device an account.
    pub devices: Option<Vec<Device>>,
    /// The open sessions of the account; `None` from a Spring service and from a release before this header.
    pub sessions: Option<Vec<SessionId>>,
}

impl DeviceTokenSet {
    /// Creates the event from all devices of an account, in the order in which they registered their tokens.
    #[must_use]
    pub fn all(account: Account, devices: Vec<Device>) -> Self {
        Self {
            account,
            token: devices.last().map(|device| device.token.clone()),
            devices: Some(devices),
            sessions: None,
        }
    }

    /// Names the open sessions of the account, with and without a device.
    #[must_use]
    pub fn with_sessions(self, sessions: Vec<SessionId>) -> Self {
        Self {
            sessions: Some(sessions),
            ..self
        }
    }
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
        let devices = self.devices.as_ref().map(|devices| (DEVICES, json(devices)));
        let sessions = self.sessions.as_ref().map(|sessions| (SESSIONS, json(sessions)));
        devices.into_iter().chain(sessions).collect()
    }

    fn aggregate(&self) -> String {
        self.account.as_str().to_owned()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        let token = match record.value {
            Some(_) => Some(record.value_text()?.to_owned()),
            None => None,
        };
        let devices: Option<Vec<Device>> = record.header_as(DEVICES, |text| serde_json::from_str(text).ok())?;
        let listed = devices.iter().flatten().map(|device| &device.token);
        if token
            .iter()
            .chain(listed)
            .any(|token| token.is_empty() || token.len() > MAX_TOKEN)
        {
            return Err(Malformed::new(
                "a push token in the value or the header is empty or too long",
            ));
        }
        Ok(Self {
            account: parse::key_account(record)?,
            token,
            devices,
            sessions: record.header_as(SESSIONS, |text| serde_json::from_str(text).ok())?,
        })
    }
}

fn json(list: &impl Serialize) -> String {
    serde_json::to_string(list).expect("texts and numbers are JSON")
}

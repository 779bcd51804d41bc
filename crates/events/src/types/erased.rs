//! `erased`: one service's receipt for one resignation.

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::parse;
use crate::{Event, EventId, Malformed, Record, Topic};

/// Key: account. Value: JSON `{"account","service","resignation"}`; `resignation` is the event id of the `resign` it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountErased {
    pub account: Account,
    pub service: String,
    pub resignation: EventId,
}

impl Event for AccountErased {
    const TOPIC: Topic = Topic::Erased;
    const TYPE: &'static str = "AccountErased";

    fn key(&self) -> Option<String> {
        Some(self.account.as_str().to_owned())
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(parse::to_json(self))
    }

    fn aggregate(&self) -> String {
        self.account.as_str().to_owned()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        parse::from_json(record)
    }
}

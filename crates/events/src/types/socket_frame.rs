//! `socketFrame`: a frame that is written to the version 2 sockets of an account and kept nowhere.

use sosohappy_common::Account;

use crate::{Event, Malformed, Record, Topic};

/// Key: the account. Value: the text of the frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFrameSent {
    pub account: Account,
    pub frame: String,
}

impl Event for SocketFrameSent {
    const TOPIC: Topic = Topic::SocketFrame;
    const TYPE: &'static str = "SocketFrameSent";

    fn key(&self) -> Option<String> {
        Some(self.aggregate())
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(self.frame.clone().into_bytes())
    }

    fn aggregate(&self) -> String {
        self.account.as_str().to_owned()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        let account = record.key_text()?.parse();
        Ok(Self {
            account: account.map_err(|_| Malformed::new("the key is no account"))?,
            frame: record.value_text()?.to_owned(),
        })
    }
}

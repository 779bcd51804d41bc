use reqwest::multipart::Form;
use serde::{Deserialize, Serialize};

use super::{Phone, Socket, expect_json};

/// A message in the form of sockets and histories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub sender: String,
    pub receiver: String,
    pub date: i64,
    pub text: String,
}

const DM: &str = "/dm-service/connect-dm";
const NOTICE: &str = "/notice-service/connect-notice";

fn resume(since: i64) -> [(&'static str, String); 2] {
    [("v", "2".to_owned()), ("since", since.to_string())]
}

impl Phone {
    /// Opens the socket of messages.
    pub async fn connect_dm(&self) -> anyhow::Result<Socket> {
        self.connect(&self.addresses.dm, DM, &[]).await
    }

    /// Opens the socket of notices.
    pub async fn connect_notice(&self) -> anyhow::Result<Socket> {
        self.connect(&self.addresses.notice, NOTICE, &[]).await
    }

    /// Opens the socket of messages, with frames of version 2 from the one after this number on.
    pub async fn resume_dm(&self, since: i64) -> anyhow::Result<Socket> {
        self.connect(&self.addresses.dm, DM, &resume(since)).await
    }

    /// Opens the socket of notices, with frames of version 2 from the one after this number on.
    pub async fn resume_notice(&self, since: i64) -> anyhow::Result<Socket> {
        self.connect(&self.addresses.notice, NOTICE, &resume(since)).await
    }

    async fn connect(&self, base: &str, path: &str, query: &[(&str, String)]) -> anyhow::Result<Socket> {
        Socket::connect(base, path, &self.nickname, query, self.tokens()?).await
    }

    /// Returns the 20 newest messages with another nickname before a date, oldest first.
    pub async fn history_with(&self, other: &str, before: i64) -> anyhow::Result<Vec<Message>> {
        let url = format!("{}/dm-service/findDirectMessage", self.addresses.dm);
        let form = Form::new()
            .text("sender", self.nickname.clone())
            .text("receiver", other.to_owned())
            .text("timeBoundary", before.to_string())
            .text("messageCnt", "20");
        expect_json(self.signed(self.http.post(url))?.multipart(form).send().await?).await
    }

    /// Returns the newest message of each conversation, newest first.
    pub async fn conversations(&self) -> anyhow::Result<Vec<Message>> {
        let url = format!("{}/dm-service/findMultipleDirectMessage", self.addresses.dm);
        let form = Form::new().text("sender", self.nickname.clone());
        expect_json(self.signed(self.http.post(url))?.multipart(form).send().await?).await
    }
}

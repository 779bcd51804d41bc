//! The people who make the calls of the bill.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_fleet::app::{Addresses, NewPost, Phone, Socket};
use tokio::time::sleep;

use crate::message::frame;
use crate::noon_of;
use crate::rooms::create_room;
use crate::sockets::sign_up;

/// People who sign in in turn: an account with 20 sessions loses one with each sign-in (`sessions.per-account`).
const VISITORS: usize = 40;
/// Members of the room, its owner included.
const MEMBERS: usize = 10;
/// People that sign up at the same time.
const AT_ONCE: usize = 8;
/// The pause after an acknowledgement, so that no two are handled together.
pub const APART: Duration = Duration::from_millis(10);
const TEXT: &str = "a text as people write it";

/// A kind of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    SignIn,
    ReIssue,
    Post,
    Like,
    Acknowledgement,
    Comment,
    Page,
    Message,
    RoomMessage,
}

/// All operations, in the order in which they are measured: likes and comments need the posts, and acknowledgements the likes.
pub const OPERATIONS: [(Operation, &str); 9] = [
    (Operation::SignIn, "sign-in"),
    (Operation::ReIssue, "re-issue"),
    (Operation::Post, "saveFeed without pictures"),
    (Operation::Like, "like, with its frame"),
    (Operation::Acknowledgement, "a notice acknowledged"),
    (Operation::Comment, "comment, with its frame"),
    (Operation::Page, "findOtherFeed, the first page"),
    (
        Operation::Message,
        "DM message of version 2, with its frame acknowledged",
    ),
    (
        Operation::RoomMessage,
        "message to a room of 10, with its frames acknowledged",
    ),
];

/// The people, with the sockets of the present operation.
pub struct People {
    addresses: Addresses,
    http: reqwest::Client,
    visitors: Vec<Phone>,
    reissuer: Phone,
    author: Phone,
    reader: Phone,
    /// Of the room, the owner first.
    members: Vec<Phone>,
    room: Value,
    /// That of the author's notices, or those of a conversation, the sender's first.
    sockets: Vec<Socket>,
    /// The numbers of the author's notices.
    notices: Vec<Value>,
}

impl People {
    pub async fn sign_up(addresses: &Addresses) -> anyhow::Result<Self> {
        Ok(Self {
            visitors: sign_up_all(addresses, "v", VISITORS).await?,
            members: sign_up_all(addresses, "m", MEMBERS).await?,
            reissuer: sign_up(addresses, "reissuer").await?,
            author: sign_up(addresses, "author").await?,
            reader: sign_up(addresses, "reader").await?,
            addresses: addresses.clone(),
            http: sosohappy_common::tls::client(),
            room: Value::Null,
            sockets: Vec::new(),
            notices: Vec::new(),
        })
    }

    /// Opens the sockets of an operation, and closes those of others.
    pub async fn prepare(&mut self, operation: Operation) -> anyhow::Result<()> {
        match operation {
            // That of the likes stays open.
            Operation::Acknowledgement | Operation::Comment => {}
            Operation::Like => self.sockets = vec![self.author.resume_notice(0).await?],
            Operation::Message => {
                self.sockets = vec![self.author.resume_dm(0).await?, self.reader.resume_dm(0).await?];
            }
            Operation::RoomMessage => {
                let (owner, others) = self.members.split_first().context("a room has members")?;
                let others: Vec<&Phone> = others.iter().collect();
                self.room = create_room(&self.addresses, owner, &others).await?;
                self.sockets = try_join_all(self.members.iter().map(|member| member.resume_dm(0))).await?;
            }
            Operation::SignIn | Operation::ReIssue | Operation::Post | Operation::Page => self.sockets.clear(),
        }
        Ok(())
    }

    /// Makes the call of this number, from 0 on, of an operation.
    pub async fn call(&mut self, operation: Operation, number: u32) -> anyhow::Result<()> {
        let date = noon_of(number.into());
        match operation {
            Operation::SignIn => {
                let visitor = &mut self.visitors[number as usize % VISITORS];
                visitor.sign_in().await?;
            }
            Operation::ReIssue => {
                let status = self.reissuer.re_issue().await?;
                ensure!(status == StatusCode::OK, "re-issue returned {status}");
            }
            Operation::Post => {
                let post = NewPost {
                    date,
                    text: TEXT,
                    pictures: &[],
                };
                self.author.save_post(&post).await?;
            }
            Operation::Like => {
                let is_liked = self.reader.toggle_like(&self.author.nickname, date).await?;
                ensure!(is_liked, "the post was liked before");
                let notice = frame(self.socket()?, "like").await?;
                self.notices.push(notice.seq);
            }
            Operation::Acknowledgement => {
                let seq = self.notices.get(number as usize).context("no such notice")?;
                let acknowledgement = json!({"topic": "ack", "seq": seq});
                self.socket()?.send(&acknowledgement).await?;
                sleep(APART).await;
            }
            Operation::Comment => {
                self.comment(date).await?;
                frame(self.socket()?, "comment").await?;
            }
            Operation::Page => {
                let posts = self.reader.others().await?;
                ensure!(!posts.is_empty(), "the page is empty");
            }
            Operation::Message => {
                let content = json!({"receiver": self.reader.nickname, "text": TEXT});
                self.message(&content, number).await?;
            }
            Operation::RoomMessage => {
                let content = json!({"roomId": self.room, "text": TEXT});
                self.message(&content, number).await?;
            }
        }
        Ok(())
    }

    /// Returns the first socket.
    fn socket(&mut self) -> anyhow::Result<&mut Socket> {
        self.sockets.first_mut().context("no socket is open")
    }

    /// Comments on the author's post of a day.
    async fn comment(&self, date: i64) -> anyhow::Result<()> {
        let tokens = self.reader.tokens.as_ref().context("the reader is signed in")?;
        let date = date.to_string();
        let form = [
            ("srcNickname", self.reader.nickname.as_str()),
            ("nickname", self.author.nickname.as_str()),
            ("date", date.as_str()),
            ("text", TEXT),
        ];
        let request = self
            .http
            .post(format!("{}/feed-service/saveComment", self.addresses.feed))
            .form(&form)
            .header("authorization", &tokens.access)
            .header("email", &tokens.account);
        // Read to its end, so that the connection is used again.
        request.send().await?.error_for_status()?.bytes().await?;
        Ok(())
    }

    /// Sends a message from the first socket. The others get its frame and acknowledge it.
    async fn message(&mut self, data: &Value, number: u32) -> anyhow::Result<()> {
        let (from, others) = self.sockets.split_first_mut().context("no socket is open")?;
        let message = json!({"topic": "message", "id": number.to_string(), "data": data});
        from.send(&message).await?;
        frame(from, "accepted").await?;
        let acknowledged = others.iter_mut().map(|socket| async move {
            let message = frame(socket, "message").await?;
            socket.send(&json!({"topic": "ack", "seq": message.seq})).await
        });
        try_join_all(acknowledged).await?;
        Ok(())
    }
}

/// Signs up so many people, with numbers behind the prefix as names.
async fn sign_up_all(addresses: &Addresses, prefix: &str, people: usize) -> anyhow::Result<Vec<Phone>> {
    let one = |number: usize| async move { sign_up(addresses, &format!("{prefix}{number}")).await };
    stream::iter(0..people).map(one).buffered(AT_ONCE).try_collect().await
}

//! The Spring dm service: messages in MongoDB with an `ObjectId`, sockets by nickname.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::ws::{Message as Frame, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::TryStreamExt as _;
use mongodb::Collection;
use mongodb::bson::{Document, doc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sosohappy_bus::{Bus, Start};
use sosohappy_common::http::Params;
use sosohappy_events::Topic;
use tokio::sync::mpsc::UnboundedReceiver;

use super::tables::{MESSAGE_CLASS, MESSAGES};
use super::{Host, Publisher, Sockets, Tokens};

/// A running Spring dm service.
#[derive(Debug)]
pub struct SpringDm {
    host: Host,
    sockets: Sockets,
    people: Arc<Mutex<People>>,
    pub messages: Collection<Document>,
}

struct Service {
    messages: Collection<Document>,
    tokens: Tokens,
    sockets: Sockets,
    people: Arc<Mutex<People>>,
    publisher: Publisher,
}

/// The nicknames and push tokens by which a push is addressed.
#[derive(Debug, Default)]
struct People {
    /// Nicknames by account.
    names: HashMap<String, String>,
    /// Push tokens by account.
    devices: HashMap<String, String>,
}

impl People {
    /// Returns the push token of a nickname.
    fn device_of(&self, nickname: &str) -> Option<&String> {
        let (account, _) = self.names.iter().find(|(_, name)| *name == nickname)?;
        self.devices.get(account)
    }
}

type Shared = State<Arc<Service>>;

impl SpringDm {
    /// Starts the service on a `MongoDB` database.
    pub async fn start(bus: &Arc<dyn Bus>, database: &str, start: Start) -> Self {
        let client = mongodb::Client::with_uri_str(database).await.expect("a MongoDB URL");
        let database = client.default_database().expect("the URL names a database");
        let messages = database.collection(MESSAGES);
        let mut host = Host::new(bus.clone());
        host.listen_to_tokens(start).await;
        let people = Arc::<Mutex<People>>::default();
        let known = people.clone();
        host.listen(Topic::EmailAndNickname, start, move |account, nickname| {
            known.lock().names.insert(account, nickname);
            async {}
        })
        .await;
        let known = people.clone();
        host.listen(Topic::DeviceToken, start, move |account, token| {
            known.lock().devices.insert(account, token);
            async {}
        })
        .await;
        let sockets = Sockets::default();
        let (closed, tokens) = (sockets.clone(), host.tokens.clone());
        host.listen(Topic::Resign, start, move |account, nickname| {
            tokens.0.lock().remove(&account);
            closed.close(&nickname);
            async {}
        })
        .await;
        let service = Arc::new(Service {
            messages: messages.clone(),
            tokens: host.tokens.clone(),
            sockets: sockets.clone(),
            people: people.clone(),
            publisher: host.publisher(),
        });
        let routes = Router::new()
            .route("/dm-service/connect-dm", get(connect))
            .route("/dm-service/findDirectMessage", post(find))
            .route("/dm-service/findMultipleDirectMessage", post(find_multiple))
            .with_state(service);
        host.serve(routes).await;
        Self {
            host,
            sockets,
            people,
            messages,
        }
    }

    /// Returns the base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.host.url
    }

    /// Returns the number of records with a null value that have blocked a listener.
    #[must_use]
    pub fn stalls(&self) -> usize {
        self.host.stalls()
    }

    /// Returns whether topics have brought this nickname and a push token of its account.
    #[must_use]
    pub fn knows(&self, nickname: &str) -> bool {
        self.people.lock().device_of(nickname).is_some()
    }

    /// Returns whether a user with this nickname has a socket.
    #[must_use]
    pub fn is_online(&self, nickname: &str) -> bool {
        self.sockets.is_open(nickname)
    }
}

#[derive(Serialize, Deserialize)]
struct Message {
    sender: String,
    receiver: String,
    date: i64,
    text: String,
}

/// Returns the id of a conversation: the two nicknames, sorted.
fn room(one: &str, other: &str) -> String {
    let mut names = [one, other];
    names.sort_unstable();
    names.join(",")
}

#[derive(Deserialize)]
struct Connecting {
    nickname: String,
}

async fn connect(
    State(service): Shared,
    headers: HeaderMap,
    Query(who): Query<Connecting>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, StatusCode> {
    service.tokens.caller(&headers)?;
    // Registered before the client knows that it is connected: later frames reach it.
    let frames = service.sockets.open(&who.nickname);
    Ok(upgrade.on_upgrade(async move |socket| service.serve(socket, frames, who.nickname).await))
}

impl Service {
    async fn serve(&self, mut socket: WebSocket, mut frames: UnboundedReceiver<String>, nickname: String) {
        loop {
            tokio::select! {
                frame = frames.recv() => match frame {
                    Some(frame) => if socket.send(Frame::text(frame)).await.is_err() { break },
                    None => break,
                },
                frame = socket.recv() => match frame {
                    Some(Ok(Frame::Text(text))) => {
                        if let Ok(message) = serde_json::from_str(&text) {
                            self.take(message).await;
                        }
                    }
                    Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Binary(_))) => {}
                    Some(Ok(Frame::Close(_)) | Err(_)) | None => break,
                },
            }
        }
        self.sockets.close(&nickname);
    }

    /// Stores a message, then delivers it to the receiver's socket, or publishes it for a push.
    async fn take(&self, message: Message) {
        let document = doc! {
            "messageRoomId": room(&message.sender, &message.receiver),
            "date": message.date,
            "sender": &message.sender,
            "receiver": &message.receiver,
            "text": &message.text,
            "_class": MESSAGE_CLASS,
        };
        self.messages.insert_one(document).await.expect("messages are stored");
        let frame = serde_json::to_string(&message).expect("texts and numbers are JSON");
        if !self.sockets.send(&message.receiver, frame.clone()) {
            let device = self.people.lock().device_of(&message.receiver).cloned();
            let device = device.unwrap_or_else(|| "null".to_owned());
            let published = self.publisher.publish(Topic::DirectMessage, &device, &frame).await;
            if let Err(status) = published {
                eprintln!("a message is not published: {status}");
            }
        }
    }

    /// Returns all messages that match, newest first.
    async fn all(&self, filter: Document) -> Result<Vec<Message>, StatusCode> {
        let failed = |_| StatusCode::INTERNAL_SERVER_ERROR;
        let found = self.messages.find(filter).sort(doc! { "date": -1 }).await;
        let documents: Vec<Document> = found.map_err(failed)?.try_collect().await.map_err(failed)?;
        documents.iter().map(read).collect()
    }
}

/// Decodes a document as the Java service does: it fails if `_id` is not an `ObjectId`.
fn read(document: &Document) -> Result<Message, StatusCode> {
    let message = || {
        document.get_object_id("_id").ok()?;
        Some(Message {
            sender: document.get_str("sender").ok()?.to_owned(),
            receiver: document.get_str("receiver").ok()?.to_owned(),
            date: document.get_i64("date").ok()?,
            text: document.get_str("text").ok()?.to_owned(),
        })
    };
    message().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Find {
    sender: String,
    receiver: String,
    time_boundary: Option<i64>,
    #[serde(default = "twenty")]
    message_cnt: usize,
}

const fn twenty() -> usize {
    20
}

async fn find(State(service): Shared, headers: HeaderMap, Params(asked): Params<Find>) -> Result<Response, StatusCode> {
    service.tokens.caller(&headers)?;
    let filter = doc! {
        "messageRoomId": room(&asked.sender, &asked.receiver),
        "date": { "$lt": asked.time_boundary.unwrap_or(i64::MAX) },
    };
    let mut messages = service.all(filter).await?;
    messages.truncate(asked.message_cnt);
    messages.reverse();
    Ok(Json(messages).into_response())
}

#[derive(Deserialize)]
struct FindMultiple {
    sender: String,
}

async fn find_multiple(
    State(service): Shared,
    headers: HeaderMap,
    Params(asked): Params<FindMultiple>,
) -> Result<Response, StatusCode> {
    service.tokens.caller(&headers)?;
    let either = [doc! { "sender": &asked.sender }, doc! { "receiver": &asked.sender }];
    let mut rooms = Vec::new();
    let mut newest = service.all(doc! { "$or": either.as_slice() }).await?;
    newest.retain(|message| {
        let room = room(&message.sender, &message.receiver);
        let is_new = !rooms.contains(&room);
        rooms.push(room);
        is_new
    });
    Ok(Json(newest).into_response())
}

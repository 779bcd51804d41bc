//! The Spring notice service in its two versions: delivers likes to sockets by nickname or to push tokens, and messages to push tokens.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::ws::{Message as Frame, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use sosohappy_bus::{Bus, Start};
use sosohappy_events::Topic;

use super::{Host, Sockets, Tokens};
use crate::{Offsets, Person, eventually};

/// The form of the author in the value of `noticeLike` that a version expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LikeForm {
    /// An account: the newer version, which only sends pushes.
    Account,
    /// A nickname: the older version, which has sockets.
    Nickname,
}

/// A push that the service sent to FCM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpringPush {
    pub token: String,
    pub title: String,
    pub body: String,
    /// The value of the record that was pushed.
    pub record: String,
}

/// A running Spring notice service.
#[derive(Debug)]
pub struct SpringNotice {
    host: Host,
    people: People,
    sockets: Sockets,
    pushes: Arc<Mutex<Vec<SpringPush>>>,
}

#[derive(Debug, Clone, Default)]
struct People {
    names: Arc<Mutex<HashMap<String, String>>>,
    devices: Arc<Mutex<HashMap<String, String>>>,
}

impl SpringNotice {
    /// The topics whose records it pushes.
    pub const PUSHED: [Topic; 2] = [Topic::NoticeLike, Topic::DirectMessage];

    /// Starts the service in that version. It pushes what is published from then on.
    pub async fn start(bus: &Arc<dyn Bus>, form: LikeForm, start: Start) -> Self {
        let mut service = Self::with_people(bus, start).await;
        service.listen_to_events(form, Start::Latest).await;
        service.serve().await;
        service
    }

    /// Starts the service in that version at these offsets of [`SpringNotice::PUSHED`], as its consumer group has them. It pushes once it knows
    /// these people.
    pub async fn resume(bus: &Arc<dyn Bus>, form: LikeForm, offsets: &Offsets, people: &[Person]) -> Self {
        let mut service = Self::with_people(bus, Start::Earliest).await;
        service.host.offsets.lock().extend(offsets);
        for person in people {
            let known = async || service.knows(person.account.as_str(), &person.nickname).then_some(());
            eventually("the service knows a person", known).await;
        }
        service.listen_to_events(form, Start::Earliest).await;
        service.serve().await;
        service
    }

    /// Stops the service and returns the offsets that its consumer group has committed on [`SpringNotice::PUSHED`].
    pub async fn stop(&mut self) -> Offsets {
        let mut offsets = self.host.stop().await;
        offsets.retain(|(topic, _), _| Self::PUSHED.contains(topic));
        offsets
    }

    /// Starts the listeners to tokens, nicknames, push tokens and resignations.
    async fn with_people(bus: &Arc<dyn Bus>, start: Start) -> Self {
        let mut host = Host::new(bus.clone());
        let (people, sockets) = (People::default(), Sockets::default());
        host.listen_to_tokens(start).await;
        let names = people.names.clone();
        host.listen(Topic::EmailAndNickname, start, move |account, nickname| {
            names.lock().insert(account, nickname);
            async {}
        })
        .await;
        let devices = people.devices.clone();
        host.listen(Topic::DeviceToken, start, move |account, token| {
            devices.lock().insert(account, token);
            async {}
        })
        .await;
        let (closed, tokens) = (sockets.clone(), host.tokens.clone());
        host.listen(Topic::Resign, start, move |account, nickname| {
            tokens.0.lock().remove(&account);
            closed.close(&nickname);
            async {}
        })
        .await;
        Self {
            host,
            people,
            sockets,
            pushes: Arc::default(),
        }
    }

    /// Starts the listeners to likes and messages.
    async fn listen_to_events(&mut self, form: LikeForm, start: Start) {
        let known = self.people.clone();
        let (shown, to_devices) = (self.sockets.clone(), self.pushes.clone());
        let listen = self.host.listen(Topic::NoticeLike, start, move |liker, value| {
            like(form, &known, &shown, &to_devices, &liker, &value);
            async {}
        });
        listen.await;
        let to_devices = self.pushes.clone();
        let listen = self.host.listen(Topic::DirectMessage, start, move |token, value| {
            let message: Message = serde_json::from_str(&value).unwrap_or_default();
            to_devices.lock().push(SpringPush {
                token,
                title: message.sender,
                body: message.text,
                record: value,
            });
            async {}
        });
        listen.await;
    }

    async fn serve(&mut self) {
        let routes = Router::new()
            .route("/notice-service/connect-notice", get(connect))
            .with_state((self.host.tokens.clone(), self.sockets.clone()));
        self.host.serve(routes).await;
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

    /// Returns whether the service has received this nickname and a push token of an account.
    #[must_use]
    pub fn knows(&self, account: &str, nickname: &str) -> bool {
        let has_name = self
            .people
            .names
            .lock()
            .get(account)
            .is_some_and(|known| known == nickname);
        has_name && self.people.devices.lock().contains_key(account)
    }

    /// Returns all pushes that were sent to FCM, including those with invalid tokens.
    #[must_use]
    pub fn pushes(&self) -> Vec<SpringPush> {
        self.pushes.lock().clone()
    }
}

#[derive(Default, Deserialize)]
struct Message {
    sender: String,
    text: String,
}

/// Delivers a like to the author: to a socket in the older version, else as a push. Drops it if the author is unknown in the form of this
/// version.
fn like(form: LikeForm, people: &People, sockets: &Sockets, pushes: &Mutex<Vec<SpringPush>>, liker: &str, value: &str) {
    let Some((author, date)) = value.rsplit_once(',') else {
        return;
    };
    let names = people.names.lock();
    let found = match form {
        LikeForm::Account => names.get_key_value(author),
        LikeForm::Nickname => names.iter().find(|(_, nickname)| *nickname == author),
    };
    let Some((account, nickname)) = found else { return };
    let frame = json!({ "topic": "like", "data": { "liker": liker, "date": date.parse::<i64>().unwrap_or(0) } });
    if form == LikeForm::Nickname && sockets.send(nickname, frame.to_string()) {
        return;
    }
    let Some(token) = people.devices.lock().get(account).cloned() else {
        return;
    };
    pushes.lock().push(SpringPush {
        token,
        title: "소소해피".to_owned(),
        body: format!("{liker}님이 {nickname}님의 행복을 응원합니다🩷"),
        record: value.to_owned(),
    });
}

#[derive(Deserialize)]
struct Connecting {
    nickname: String,
}

async fn connect(
    State((tokens, sockets)): State<(Tokens, Sockets)>,
    headers: HeaderMap,
    Query(who): Query<Connecting>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, StatusCode> {
    tokens.caller(&headers)?;
    // Registered before the client knows that it is connected: later frames reach it.
    let mut frames = sockets.open(&who.nickname);
    Ok(upgrade.on_upgrade(async move |mut socket| {
        loop {
            tokio::select! {
                frame = frames.recv() => match frame {
                    Some(frame) => if socket.send(Frame::text(frame)).await.is_err() { break },
                    None => break,
                },
                frame = socket.recv() => if !matches!(frame, Some(Ok(_))) { break },
            }
        }
        sockets.close(&who.nickname);
    }))
}

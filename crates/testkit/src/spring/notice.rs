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
}

/// A running Spring notice service.
#[derive(Debug)]
pub struct SpringNotice {
    host: Host,
    people: People,
    pushes: Arc<Mutex<Vec<SpringPush>>>,
}

#[derive(Debug, Clone, Default)]
struct People {
    names: Arc<Mutex<HashMap<String, String>>>,
    devices: Arc<Mutex<HashMap<String, String>>>,
}

impl SpringNotice {
    /// Starts the service in that version.
    pub async fn start(bus: &Arc<dyn Bus>, form: LikeForm, start: Start) -> Self {
        let mut host = Host::new(bus.clone());
        let (people, sockets) = (People::default(), Sockets::default());
        let pushes = Arc::<Mutex<Vec<SpringPush>>>::default();
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
        let known = people.clone();
        let (shown, to_devices) = (sockets.clone(), pushes.clone());
        host.listen(Topic::NoticeLike, Start::Latest, move |liker, value| {
            like(form, &known, &shown, &to_devices, &liker, &value);
            async {}
        })
        .await;
        let to_devices = pushes.clone();
        host.listen(Topic::DirectMessage, Start::Latest, move |token, value| {
            let message: Message = serde_json::from_str(&value).unwrap_or_default();
            to_devices.lock().push(SpringPush {
                token,
                title: message.sender,
                body: message.text,
            });
            async {}
        })
        .await;
        let routes = Router::new()
            .route("/notice-service/connect-notice", get(connect))
            .with_state((host.tokens.clone(), sockets));
        host.serve(routes).await;
        Self { host, people, pushes }
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

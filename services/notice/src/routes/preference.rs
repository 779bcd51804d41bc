//! The caller's preferences: which notices come on which way, and when.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use sosohappy_access::Caller;
use sosohappy_common::http::Params;
use sosohappy_common::http::params::comma_list;
use sosohappy_common::{Account, Problem};
use sosohappy_events::date::{NoDateOfPost, of_post};
use sosohappy_store::{StoreError, retrying};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::domain::{AdvertisingConsent, InvalidHours, Kind, Mute, Preferences, QuietHours, UnknownZone, ZoneName};
use crate::error::Error;
use crate::names::present_names;
use crate::store::{Decision, Saved};

/// Posts, conversations and rooms that one account mutes.
const MOST_MUTES: usize = 500;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetPreferences {
    /// All kinds of notices that open sockets do not show, as a list or joined by commas; empty for none. Left out: unchanged, as every
    /// parameter of this call.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Kind>>, example = json!(["like"]))]
    socket_off_list: Option<KindList>,
    /// All kinds that are not pushed.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Kind>>, example = json!(["like", "message"]))]
    push_off_list: Option<KindList>,
    /// The time of day in which only `moderation` and `system` are pushed: `HH:MM-HH:MM` in `timeZone`, or `off`.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(off|[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9])$", example = "22:30-07:00")]
    quiet_hours: Option<AskedHours>,
    /// A name of the IANA time zone database.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 64, example = "Asia/Seoul")]
    time_zone: Option<AskedZone>,
    /// Whether advertisements may be pushed (between 08:00 and 21:00 in `timeZone`). Set together with `advertisingWording`.
    #[serde(default)]
    advertising: Option<bool>,
    /// The version of the wording with which the person was asked.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, example = "2026-11")]
    advertising_wording: Option<WordingVersion>,
    /// The date of an own post of which no notice is shown or pushed any more.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 2_000_010_100_000_000_i64, maximum = 9_999_123_199_999_999_i64, example = 2_023_090_513_248_392_i64)]
    mute_post: Option<PostDate>,
    #[serde(default)]
    unmute_post: Option<i64>,
    /// The nickname of the other person of a conversation of which no message is pushed any more.
    #[serde(default)]
    mute_conversation: Option<String>,
    #[serde(default)]
    unmute_conversation: Option<String>,
    /// The id of a room of dm of which no message is pushed any more.
    #[serde(default, deserialize_with = "room_id")]
    #[schema(value_type = Option<String>, example = "01890000-0000-7000-8000-000000000000")]
    mute_room: Option<Uuid>,
    #[serde(default, deserialize_with = "room_id")]
    #[schema(value_type = Option<String>, example = "01890000-0000-7000-8000-000000000000")]
    unmute_room: Option<Uuid>,
}

/// The date of a post to mute. One that is muted no more may be any number: earlier releases muted any.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
struct PostDate(i64);

impl TryFrom<i64> for PostDate {
    type Error = NoDateOfPost;

    fn try_from(date: i64) -> Result<Self, Self::Error> {
        of_post(date).map(Self)
    }
}

fn room_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
    let id = Option::<String>::deserialize(deserializer)?;
    let id = id.map(|id| id.parse().map_err(|_| D::Error::custom("an id of a room is expected")));
    id.transpose()
}

#[derive(Debug, Default)]
struct KindList(BTreeSet<Kind>);

impl<'de> Deserialize<'de> for KindList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = comma_list(deserializer)?;
        let kinds = names.iter().map(|name| name.parse().map_err(D::Error::custom));
        kinds.collect::<Result<_, _>>().map(Self)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
struct AskedZone(ZoneName);

impl TryFrom<String> for AskedZone {
    type Error = UnknownZone;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse().map(Self)
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
enum AskedHours {
    Off,
    Span(QuietHours),
}

impl TryFrom<String> for AskedHours {
    type Error = InvalidHours;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "off" => Ok(Self::Off),
            span => span.parse().map(Self::Span),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
struct WordingVersion(String);

impl TryFrom<String> for WordingVersion {
    type Error = &'static str;

    fn try_from(version: String) -> Result<Self, Self::Error> {
        if (1..=64).contains(&version.len()) && version.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(version))
        } else {
            Err("a version of a wording has 1 to 64 visible ASCII characters")
        }
    }
}

impl SetPreferences {
    /// Returns the mutes to set and to remove, of posts and rooms.
    fn posts_and_rooms(&self) -> impl Iterator<Item = (Mute, bool)> {
        let post = |date: Option<i64>, muted| date.map(|date| (Mute::Post(date), muted));
        let room = |id: Option<Uuid>, muted| id.map(|id| (Mute::Room(id.to_string()), muted));
        let mutes = [
            post(self.mute_post.map(|PostDate(date)| date), true),
            post(self.unmute_post, false),
            room(self.mute_room, true),
            room(self.unmute_room, false),
        ];
        mutes.into_iter().flatten()
    }

    fn conversations(&self) -> impl Iterator<Item = (&str, bool)> {
        let mute = [(&self.mute_conversation, true), (&self.unmute_conversation, false)];
        let named = mute
            .into_iter()
            .filter_map(|(name, muted)| Some((name.as_deref()?, muted)));
        named.filter(|(name, _)| !name.is_empty())
    }

    fn changes_preferences(&self) -> bool {
        self.socket_off_list.is_some()
            || self.push_off_list.is_some()
            || self.quiet_hours.is_some()
            || self.time_zone.is_some()
            || self.advertising.is_some()
    }

    fn apply(&self, to: &mut Preferences, now: Timestamp) {
        if let Some(KindList(kinds)) = &self.socket_off_list {
            to.socket_off.clone_from(kinds);
        }
        if let Some(KindList(kinds)) = &self.push_off_list {
            to.push_off.clone_from(kinds);
        }
        match self.quiet_hours {
            Some(AskedHours::Off) => to.quiet_hours = None,
            Some(AskedHours::Span(hours)) => to.quiet_hours = Some(hours),
            None => {}
        }
        if let Some(AskedZone(zone)) = &self.time_zone {
            to.time_zone.clone_from(zone);
        }
        if let (Some(allowed), Some(WordingVersion(wording))) = (self.advertising, &self.advertising_wording) {
            to.advertising = AdvertisingConsent {
                allowed,
                at: Some(now),
                wording: Some(wording.clone()),
            };
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct KindPreference {
    kind: Kind,
    /// Whether open sockets show notices of this kind; the inbox keeps them either way. Messages come on the socket of dm.
    socket: bool,
    push: bool,
    /// Whether quiet hours do not delay its pushes.
    urgent: bool,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdvertisingPreference {
    allowed: bool,
    /// When the person decided; `null` before the first decision.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
    /// The version of the wording with which the person was asked.
    wording: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundPreferences {
    kinds: Vec<KindPreference>,
    /// `HH:MM-HH:MM`; `null` without quiet hours.
    quiet_hours: Option<String>,
    time_zone: String,
    advertising: AdvertisingPreference,
    /// Dates of muted posts.
    muted_post_list: Vec<i64>,
    /// Present nicknames of the other people of muted conversations.
    muted_conversation_list: Vec<String>,
    /// Ids of muted rooms.
    muted_room_list: Vec<String>,
}

/// Returns the caller's preferences
#[utoipa::path(
    get,
    path = "/preferences",
    tag = "preferences",
    responses((status = 200, body = FoundPreferences), (status = 503, body = Problem)),
)]
pub async fn get_preferences(State(app): State<App>, caller: Caller) -> Result<Json<FoundPreferences>, Error> {
    found(&app, &caller.account).await
}

/// Changes the caller's preferences and returns all of them
///
/// A parameter that is left out changes nothing. Pushes that wait when a change comes follow it; those of quiet hours are sent when these end.
/// Notices of what is off or muted are in the inbox all the same.
#[utoipa::path(
    post,
    path = "/preferences",
    tag = "preferences",
    request_body = SetPreferences,
    responses(
        (status = 200, body = FoundPreferences),
        (status = 400, body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub async fn set_preferences(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<SetPreferences>,
) -> Result<Json<FoundPreferences>, Error> {
    if params.advertising.is_some() != params.advertising_wording.is_some() {
        return Err(Error::InvalidParameter(
            "advertising and advertisingWording are set together",
        ));
    }
    if params
        .socket_off_list
        .as_ref()
        .is_some_and(|kinds| kinds.0.contains(&Kind::Message))
    {
        return Err(Error::InvalidParameter(
            "socketOffList: messages come on the socket of dm",
        ));
    }
    let present = app.store.mutes(&caller.account).await?;
    let mut mutes: Vec<(Mute, bool)> = params.posts_and_rooms().collect();
    for (nickname, muted) in params.conversations() {
        let unknown = || Error::InvalidParameter("no account has this nickname");
        let other = app.names.account_of(nickname).await?.ok_or_else(unknown)?;
        if muted && other == caller.account {
            return Err(Error::InvalidParameter("muteConversation: this is your own nickname"));
        }
        let is_blocked = app.directory.blocked(&caller.account, &other).await?;
        let mute = Mute::Conversation(other);
        // One that was set before the block can be removed.
        if is_blocked && !present.contains(&mute) {
            return Err(unknown());
        }
        mutes.push((mute, muted));
    }
    let added = mutes.iter().filter(|(_, muted)| *muted).count();
    if added > 0 && present.len() + added > MOST_MUTES {
        return Err(Error::InvalidParameter(
            "at most 500 posts, conversations and rooms are muted",
        ));
    }

    let now = app.context.clock.now();
    let by = Decision {
        account: &caller.account,
        authorized_at: caller.issued_at,
        at: now,
    };
    if params.changes_preferences() {
        let saved = retrying(|| async {
            let mut stored = app.store.preferences(&caller.account).await?;
            params.apply(&mut stored.preferences, now);
            match app
                .store
                .set_preferences(&by, &stored.preferences, stored.version)
                .await?
            {
                // Another device changed them: the change is applied to those.
                Saved::ChangedMeanwhile => Err(StoreError::Retry(anyhow::anyhow!("the preferences changed meanwhile"))),
                saved => Ok(saved),
            }
        });
        if saved.await? == Saved::Erased {
            return Err(Error::SessionClosed);
        }
    }
    for (mute, muted) in &mutes {
        if !app.store.mute(&by, mute, *muted).await? {
            return Err(Error::SessionClosed);
        }
    }
    found(&app, &caller.account).await
}

async fn found(app: &App, account: &Account) -> Result<Json<FoundPreferences>, Error> {
    let preferences = app.store.preferences(account).await?.preferences;
    let mutes = app.store.mutes(account).await?;
    let others: Vec<Account> = mutes.iter().filter_map(|mute| mute.other().cloned()).collect();
    let names = present_names(&*app.names, others).await?;
    let kinds = Kind::ALL.into_iter().map(|kind| KindPreference {
        kind,
        socket: !preferences.socket_off.contains(&kind),
        push: !preferences.push_off.contains(&kind),
        urgent: kind.is_urgent(),
    });
    let dates = mutes.iter().filter_map(|mute| match mute {
        Mute::Post(date) => Some(*date),
        Mute::Conversation(_) | Mute::Room(_) => None,
    });
    let rooms = mutes.iter().filter_map(|mute| match mute {
        Mute::Room(room) => Some(room.clone()),
        Mute::Post(_) | Mute::Conversation(_) => None,
    });
    let AdvertisingConsent { allowed, at, wording } = preferences.advertising;
    Ok(Json(FoundPreferences {
        kinds: kinds.collect(),
        quiet_hours: preferences.quiet_hours.map(|hours| hours.to_string()),
        time_zone: preferences.time_zone.as_str().to_owned(),
        advertising: AdvertisingPreference { allowed, at, wording },
        muted_post_list: dates.collect(),
        muted_conversation_list: mutes
            .iter()
            .filter_map(|mute| names.get(mute.other()?).cloned())
            .collect(),
        muted_room_list: rooms.collect(),
    }))
}

//! The devices that get an account's pushes.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_access::Caller;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use sosohappy_events::types::SessionId;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::{Language, OwnDevice, Platform, Registration};
use crate::error::Error;

/// A push token: a registration token or installation id of FCM, or a device token of APNs.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct PushToken(String);

impl TryFrom<String> for PushToken {
    type Error = &'static str;

    fn try_from(token: String) -> Result<Self, Self::Error> {
        // It becomes a part of a URL at APNs, and a field of a request at FCM.
        if (1..=4096).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(token))
        } else {
            Err("a push token has 1 to 4096 visible ASCII characters")
        }
    }
}

/// A BCP 47 language tag.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct LanguageTag(Language);

impl TryFrom<String> for LanguageTag {
    type Error = &'static str;

    fn try_from(tag: String) -> Result<Self, Self::Error> {
        let is_tag = (2..=35).contains(&tag.len())
            && tag
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if is_tag {
            Ok(Self(Language::of_tag(&tag)))
        } else {
            Err("a language tag has 2 to 35 letters, digits and hyphens")
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisterDevice {
    /// The device's push token of FCM or APNs.
    #[schema(value_type = String, min_length = 1, max_length = 4096, pattern = "^[!-~]+$")]
    device_token: PushToken,
    platform: Platform,
    /// The language of the app as a BCP 47 tag: texts are Korean for `ko`, English for any other.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{2,35}$", example = "ko-KR")]
    language: LanguageTag,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundDevice {
    /// The id of its session; `null` for the device that a Spring service published.
    id: Option<String>,
    /// `null` for a device that never registered itself.
    platform: Option<Platform>,
    language: Language,
    /// When it registered, signed in or opened a socket. It may have opened others up to a day later.
    #[schema(value_type = String, format = DateTime)]
    last_seen: Timestamp,
    /// Whether it is the one that asks.
    current: bool,
}

impl FoundDevice {
    fn of(device: &OwnDevice, caller: &Caller) -> Self {
        Self {
            id: device.session.map(|session| session.to_string()),
            platform: device.platform,
            language: device.language,
            last_seen: device.seen_at,
            current: device.session == Some(caller.session),
        }
    }
}

/// Registers the device of the caller's session for pushes
///
/// Called whenever the app starts, and when the push token or the language changes. It replaces the push token that the session signed in with. A
/// push token belongs to one session: registering it takes it from any other. Sign-out, resignation and `push.device-retention` without a sign of
/// the device remove it.
#[utoipa::path(
    post,
    path = "/registerDevice",
    tag = "device",
    request_body = RegisterDevice,
    responses(
        (status = 200, body = FoundDevice),
        (status = 400, body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub async fn register_device(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<RegisterDevice>,
) -> Result<Json<FoundDevice>, Error> {
    // Not before the sign-in, should auth's clock be ahead: a list with the token of the sign-in does not replace this one.
    let at = app.context.clock.now().max(caller.issued_at);
    let registration = Registration {
        account: caller.account.clone(),
        session: caller.session,
        token: params.device_token.0,
        language: params.language.0,
        platform: params.platform,
        authorized_at: caller.issued_at,
        // As the store keeps it.
        at: Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at),
    };
    if !app.store.register(&registration).await? {
        return Err(Error::SessionClosed);
    }
    let device = OwnDevice {
        session: Some(caller.session),
        platform: Some(registration.platform),
        language: registration.language,
        seen_at: registration.at,
    };
    Ok(Json(FoundDevice::of(&device, &caller)))
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundDevices {
    content: Vec<FoundDevice>,
    /// Always null: an account has few devices.
    next_cursor: Option<String>,
}

/// Lists the caller's devices that get pushes, the one that was seen last first
#[utoipa::path(
    get,
    path = "/devices",
    tag = "device",
    responses((status = 200, body = FoundDevices), (status = 503, body = Problem)),
)]
pub async fn list_devices(State(app): State<App>, caller: Caller) -> Result<Json<FoundDevices>, Error> {
    let devices = app.store.own(&caller.account).await?;
    let content = devices.iter().map(|device| FoundDevice::of(device, &caller));
    Ok(Json(FoundDevices {
        content: content.collect(),
        next_cursor: None,
    }))
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct RemoveDevice {
    /// As `devices` lists it. Left out: the device of the caller's session.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{16}$")]
    id: Option<SessionId>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceRemoved {
    /// False when the account has no such device.
    success: bool,
}

/// Removes a device: it gets no more pushes until it registers again or signs in
///
/// Its session stays open.
#[utoipa::path(
    post,
    path = "/removeDevice",
    tag = "device",
    request_body = RemoveDevice,
    responses(
        (status = 200, body = DeviceRemoved),
        (status = 400, body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub async fn remove_device(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<RemoveDevice>,
) -> Result<Json<DeviceRemoved>, Error> {
    let session = params.id.unwrap_or(caller.session);
    let success = app
        .store
        .remove(&caller.account, Some(session), app.context.clock.now())
        .await?;
    Ok(Json(DeviceRemoved { success }))
}

//! Notifications of sign-in providers.

use std::sync::Arc;

use axum::extract::State;
use http::{HeaderMap, StatusCode, header};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use sosohappy_common::Problem;
use sosohappy_common::http::{Params, WholeBody};
use subtle::ConstantTimeEq as _;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::notification::{self, InvalidNotification, Notification};
use crate::domain::provider::Provider;
use crate::error::Error;
use crate::notifications;

#[derive(Deserialize, ToSchema)]
pub struct AppleNotification {
    /// A JWT that Apple has signed.
    #[schema(max_length = 16384)]
    payload: String,
}

/// Receives Apple's server-to-server notifications: 200 also for people who are not known and for one that was received before.
#[utoipa::path(
    post,
    path = "/apple/notifications",
    tag = "notification",
    request_body = AppleNotification,
    responses((status = 200), (status = 400, body = Problem), (status = 403, body = Problem), (status = 503, body = Problem)),
)]
pub async fn receive_apple(
    State(app): State<Arc<App>>,
    Params(received): Params<AppleNotification>,
) -> Result<StatusCode, Error> {
    let read = async {
        let claims = app.id_tokens.read(Provider::Apple, &received.payload).await?;
        let mut audience = app.settings.get().sign_in.apple.audience.clone();
        audience.extend(app.providers.apple_client().map(ToOwned::to_owned));
        Ok(notification::of_apple(claims, &audience, app.now())?)
    };
    apply(&app, Provider::Apple, read.await).await?;
    Ok(StatusCode::OK)
}

#[derive(Deserialize, ToSchema)]
pub struct KakaoUnlink {
    #[schema(max_length = 64)]
    app_id: String,
    #[schema(min_length = 1, max_length = 255)]
    user_id: String,
    #[schema(max_length = 64, example = "UNLINK_FROM_APPS")]
    referrer_type: String,
}

/// Receives Kakao's unlink webhook, with the admin key of the app: 200 also for people who are not known.
#[utoipa::path(
    post,
    path = "/kakao/unlink",
    tag = "notification",
    params(("authorization" = String, Header, description = "`KakaoAK <admin key>`")),
    request_body = KakaoUnlink,
    responses((status = 200), (status = 400, body = Problem), (status = 403, body = Problem), (status = 503, body = Problem)),
)]
pub async fn receive_kakao_unlink(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Params(received): Params<KakaoUnlink>,
) -> Result<StatusCode, Error> {
    let settings = app.settings.get();
    let kakao = &settings.kakao;
    let read = || {
        let expected = format!("KakaoAK {}", kakao.admin_key.expose_secret());
        let shown = headers
            .get(header::AUTHORIZATION)
            .map_or(&[][..], |value| value.as_bytes());
        if !app.providers.unlinks_kakao() || !bool::from(shown.ct_eq(expected.as_bytes())) {
            return Err(InvalidNotification::Credential);
        }
        if !kakao.app_id.is_empty() && received.app_id != kakao.app_id {
            return Err(InvalidNotification::App);
        }
        notification::of_kakao_unlink(&received.user_id, &received.referrer_type)
    };
    apply(&app, Provider::Kakao, read().map_err(Error::from)).await?;
    Ok(StatusCode::OK)
}

/// Receives Kakao's account status webhook, a signed security event token (RFC 8417, delivered as in RFC 8935): 202 also for people who are not
/// known and for one that was received before.
#[utoipa::path(
    post,
    path = "/kakao/accountStatus",
    tag = "notification",
    request_body(content = String, content_type = "application/secevent+jwt"),
    responses((status = 202), (status = 400, body = Problem), (status = 403, body = Problem), (status = 503, body = Problem)),
)]
pub async fn receive_kakao_status(State(app): State<Arc<App>>, body: WholeBody) -> Result<StatusCode, Error> {
    let read = async {
        let token = str::from_utf8(&body.bytes).map_err(|_| InvalidNotification::Malformed)?;
        let claims = app.id_tokens.read(Provider::Kakao, token.trim()).await?;
        let settings = app.settings.get();
        Ok(notification::of_kakao(
            claims,
            &settings.sign_in.kakao.audience,
            app.now(),
        )?)
    };
    apply(&app, Provider::Kakao, read.await).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn apply(app: &App, provider: Provider, read: Result<Notification, Error>) -> Result<(), Error> {
    let notification = read.map_err(|error| match error {
        Error::InvalidIdToken(reason) => InvalidNotification::Token(reason).into(),
        other => other,
    });
    let notification = notification.inspect_err(|error| {
        let outcome = if matches!(error, Error::InvalidNotification(_)) {
            "refused"
        } else {
            "failed"
        };
        notifications::count(app, provider, outcome);
        tracing::info!(provider = provider.as_str(), reason = %error, "provider notification not accepted");
    })?;
    notifications::receive(app, provider, &notification).await
}

//! E-mail accounts: codes, sign-up and passwords. Signing in is `signIn` with the provider `email`.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use sosohappy_access::Caller;
use sosohappy_common::Problem;
use sosohappy_common::http::rate_limit::AccountLimit;
use sosohappy_common::http::{ClientAddress, Params};
use utoipa::ToSchema;

use super::session::{SignedIn, TokenHeaders, device_token, origin_of};
use crate::app::App;
use crate::domain::email::{Address, EmailCode, Password};
use crate::email_accounts;
use crate::error::Error;

/// Returns the address of a request, where this fleet has e-mail accounts.
fn address_of(app: &App, email: &str) -> Result<Address, Error> {
    if app.mailer.is_on() {
        Ok(Address::parse(email)?)
    } else {
        Err(Error::NoEmailAccounts)
    }
}

#[derive(Deserialize, ToSchema)]
pub struct RequestEmailCode {
    #[schema(min_length = 1, max_length = 249, example = "kim@example.com")]
    email: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct EmailCodeRequested {
    /// Always true, whether or not an account has the address.
    success: bool,
}

/// Sends a code to an address, for `signUp`, `resetPassword` and `linkIdentity`: 8 characters, valid once, for five minutes and five tries. The
/// code before is no longer valid.
#[utoipa::path(
    post,
    path = "/requestEmailCode",
    tag = "email",
    request_body = RequestEmailCode,
    responses(
        (status = 200, body = EmailCodeRequested),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub async fn request_email_code(
    State(app): State<Arc<App>>,
    limit: Option<Extension<AccountLimit>>,
    Params(asked): Params<RequestEmailCode>,
) -> Result<Json<EmailCodeRequested>, Error> {
    let address = address_of(&app, &asked.email)?;
    if let Some(Extension(limit)) = &limit {
        let codes = app.email_codes.get();
        codes
            .check(&address.account.folded())
            .map_err(|limited| limit.refuse(limited))?;
    }
    email_accounts::request_code(&app, &address).await?;
    Ok(Json(EmailCodeRequested { success: true }))
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningUp {
    #[schema(min_length = 1, max_length = 249, example = "kim@example.com")]
    email: String,
    /// As it was sent to the address; blanks, hyphens and letter case make no difference.
    code: String,
    /// 8 to 128 characters; a common or easily guessed one is refused with 400 `weak-password`.
    #[schema(min_length = 8, max_length = 512)]
    password: String,
    /// The push token of the device, up to 4,096 bytes.
    #[schema(max_length = 4096)]
    device_token: Option<String>,
}

/// Makes the account of an address and signs in. A wrong or expired code is 403 `invalid-email-code`; with the right one, an address that has
/// an account is 409 `account-exists`.
#[utoipa::path(
    post,
    path = "/signUp",
    tag = "email",
    request_body = SigningUp,
    responses(
        (status = 200, response = inline(SignedIn)),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
        (status = 409, body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub async fn sign_up(
    State(app): State<Arc<App>>,
    client: Option<Extension<ClientAddress>>,
    headers: HeaderMap,
    Params(asked): Params<SigningUp>,
) -> Result<(TokenHeaders, Json<SignedIn>), Error> {
    let address = address_of(&app, &asked.email)?;
    let password = Password::chosen(&asked.password, &address)?;
    let device = device_token(asked.device_token)?;
    let origin = origin_of(&app, address.identity(), &headers, client.as_deref());
    let code = EmailCode::typed(&asked.code);
    let admitted = email_accounts::sign_up(&app, &address, &code, password, &origin, device.as_deref()).await;
    let outcome = match &admitted {
        Ok(_) => "new",
        Err(Error::InvalidEmailCode | Error::AccountExists) => "refused",
        Err(_) => "failed",
    };
    app.metrics.sign_ins.with_label_values(&["email", outcome]).inc();
    Ok(super::session::signed_in(admitted?))
}

#[derive(Deserialize, ToSchema)]
pub struct ResetPassword {
    #[schema(min_length = 1, max_length = 249, example = "kim@example.com")]
    email: String,
    /// As it was sent to the address.
    code: String,
    /// The new password, as in `signUp`.
    #[schema(min_length = 8, max_length = 512)]
    password: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct PasswordSet {
    success: bool,
}

/// Sets a forgotten password anew and closes every session of the account. A wrong or expired code is 403 `invalid-email-code`; with the right
/// one, an address without an account is 401.
#[utoipa::path(
    post,
    path = "/resetPassword",
    tag = "email",
    request_body = ResetPassword,
    responses(
        (status = 200, body = PasswordSet),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 403, body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub async fn reset_password(
    State(app): State<Arc<App>>,
    Params(asked): Params<ResetPassword>,
) -> Result<Json<PasswordSet>, Error> {
    let address = address_of(&app, &asked.email)?;
    let password = Password::chosen(&asked.password, &address)?;
    email_accounts::reset_password(&app, &address, &EmailCode::typed(&asked.code), password).await?;
    Ok(Json(PasswordSet { success: true }))
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangePassword {
    /// The present password.
    #[schema(max_length = 512)]
    password: String,
    /// As in `signUp`.
    #[schema(min_length = 8, max_length = 512)]
    new_password: String,
}

/// Replaces one's own password and closes the other sessions. A wrong present one is 403 `invalid-credentials` and counts as a failed sign-in; an
/// account without a password is 409 `no-password`.
#[utoipa::path(
    post,
    path = "/changePassword",
    tag = "email",
    request_body = ChangePassword,
    responses(
        (status = 200, body = PasswordSet),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 403, body = Problem),
        (status = 409, body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub async fn change_password(
    State(app): State<Arc<App>>,
    limit: Option<Extension<AccountLimit>>,
    caller: Caller,
    Params(asked): Params<ChangePassword>,
) -> Result<Json<PasswordSet>, Error> {
    let present = Password::shown(&asked.password)?;
    let failures = app.failed_sign_ins.get();
    let account = caller.account.folded();
    if let Some(Extension(limit)) = &limit {
        failures.check(&account).map_err(|limited| limit.refuse(limited))?;
    }
    let changed = email_accounts::change_password(&app, &caller, present, &asked.new_password).await;
    if limit.is_some() && !matches!(changed, Err(Error::InvalidCredentials)) {
        failures.refund(&account);
    }
    changed?;
    Ok(Json(PasswordSet { success: true }))
}

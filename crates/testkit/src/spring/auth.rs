//! The Spring auth service: one refresh token per account; publishes nicknames at `setProfile`, and at a sign-in of an existing account.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sosohappy_bus::Bus;
use sosohappy_common::clock::{Clock as _, Entropy, SystemClock, SystemEntropy};
use sosohappy_common::http::params::FilesOnly;
use sosohappy_common::http::{Params, Upload};
use sosohappy_events::Topic;
use sqlx::MySqlPool;

use super::{Host, Publisher, credentials, tables};

/// The longest nickname of a user. A longer one was generated: the profile is not set yet.
const NICKNAME_CHARS: usize = 10;
const ACCESS_LIFETIME: Duration = Duration::from_hours(10);
const REFRESH_LIFETIME: Duration = Duration::from_hours(14 * 24);

/// A running Spring auth service.
#[derive(Debug)]
pub struct SpringAuth {
    host: Host,
    pub pool: MySqlPool,
}

struct Service {
    pool: MySqlPool,
    publisher: Publisher,
    secret: String,
}

type Shared = State<Arc<Service>>;

impl SpringAuth {
    /// Starts the service on a `MySQL` database, with a secret of its own for tokens.
    pub async fn start(bus: &Arc<dyn Bus>, database: &str) -> Self {
        let entropy: &dyn Entropy = &SystemEntropy;
        Self::start_with_secret(bus, database, &entropy.hex(64)).await
    }

    /// Starts the service on a `MySQL` database, with the HS512 secret that it had before a restart.
    pub async fn start_with_secret(bus: &Arc<dyn Bus>, database: &str, secret: &str) -> Self {
        let pool = tables::open(database, tables::AUTH)
            .await
            .expect("the tables are created");
        let mut host = Host::new(bus.clone());
        let service = Arc::new(Service {
            pool: pool.clone(),
            publisher: host.publisher(),
            secret: secret.to_owned(),
        });
        let routes = Router::new()
            .route("/auth-service/getAuthorizeCode", post(authorize_code))
            .route("/auth-service/signIn", post(sign_in))
            .route("/auth-service/reIssueToken", get(reissue))
            .route("/auth-service/checkDuplicateNickname", get(check_duplicate_nickname))
            .route("/auth-service/findIntroduction", post(find_introduction))
            .route("/auth-service/setProfile", post(set_profile))
            .route("/auth-service/resign", post(resign))
            .with_state(service);
        host.serve(routes).await;
        Self { host, pool }
    }

    /// Returns the base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.host.url
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    email: String,
    exp: i64,
}

impl Service {
    fn token(&self, subject: &str, account: &str, lifetime: Duration) -> String {
        let claims = Claims {
            sub: subject.to_owned(),
            email: account.to_owned(),
            exp: (SystemClock.now() + lifetime).as_second(),
        };
        let key = EncodingKey::from_secret(self.secret.as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &key).expect("claims can be signed")
    }

    /// Authenticates a request. Returns its account, or 403.
    fn caller(&self, headers: &HeaderMap) -> Result<String, StatusCode> {
        let (account, token) = credentials(headers).ok_or(StatusCode::FORBIDDEN)?;
        let key = DecodingKey::from_secret(self.secret.as_bytes());
        let claims = jsonwebtoken::decode::<Claims>(&token, &key, &Validation::new(Algorithm::HS512));
        let claims = claims.map_err(|_| StatusCode::FORBIDDEN)?.claims;
        let is_valid = claims.sub == "AccessToken" && claims.email == account;
        is_valid.then_some(account).ok_or(StatusCode::FORBIDDEN)
    }

    /// Issues both tokens, stores the refresh token as the only one of the account, and publishes the access token.
    async fn issue(&self, account: &str) -> Result<[(&'static str, String); 3], Failed> {
        let access = self.token("AccessToken", account, ACCESS_LIFETIME);
        let refresh = self.token("RefreshToken", account, REFRESH_LIFETIME);
        sqlx::query("UPDATE user SET refresh_token = ? WHERE email = ?")
            .bind(&refresh)
            .bind(account)
            .execute(&self.pool)
            .await?;
        self.publisher.publish(Topic::AccessToken, account, &access).await?;
        Ok([
            ("authorization", format!("Bearer {access}")),
            ("authorization-refresh", format!("Bearer {refresh}")),
            ("email", account.to_owned()),
        ])
    }
}

/// The response to an exception in the Java service.
struct Failed(StatusCode);

impl From<sqlx::Error> for Failed {
    fn from(_: sqlx::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<StatusCode> for Failed {
    fn from(status: StatusCode) -> Self {
        Self(status)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

async fn authorize_code() -> Response {
    let entropy: &dyn Entropy = &SystemEntropy;
    Json(json!({ "authorizeCode": entropy.hex(16) })).into_response()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SigningIn {
    email: String,
    provider: String,
    provider_id: String,
    device_token: String,
}

/// Signs in without a check of the authorize code, which has no effect on other services.
async fn sign_in(State(service): Shared, Params(request): Params<SigningIn>) -> Result<Response, Failed> {
    let account = format!("{}+{}", request.email, request.provider);
    let known: Option<String> = sqlx::query_scalar("SELECT nickname FROM user WHERE email = ?")
        .bind(&account)
        .fetch_optional(&service.pool)
        .await?;
    let nickname = if let Some(nickname) = &known {
        sqlx::query("UPDATE user SET device_token = ? WHERE email = ?")
            .bind(&request.device_token)
            .bind(&account)
            .execute(&service.pool)
            .await?;
        nickname.clone()
    } else {
        let entropy: &dyn Entropy = &SystemEntropy;
        let nickname = entropy.uuid().to_string();
        sqlx::query(
            "INSERT INTO user (email, provider, provider_id, nickname, device_token, apple_refresh_token)
            VALUES (?, ?, ?, ?, ?, '-')",
        )
        .bind(&account)
        .bind(&request.provider)
        .bind(&request.provider_id)
        .bind(&nickname)
        .bind(&request.device_token)
        .execute(&service.pool)
        .await?;
        nickname
    };
    let headers = service.issue(&account).await?;
    let publisher = &service.publisher;
    if known.is_some() {
        publisher.publish(Topic::EmailAndNickname, &account, &nickname).await?;
    }
    publisher
        .publish(Topic::DeviceToken, &account, &request.device_token)
        .await?;
    let is_set = nickname.chars().count() <= NICKNAME_CHARS;
    let body = json!({ "nickname": if is_set { nickname.as_str() } else { "" } });
    Ok((axum::response::AppendHeaders(headers), Json(body)).into_response())
}

async fn reissue(State(service): Shared, headers: HeaderMap) -> Result<Response, Failed> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let account = text("email").ok_or(StatusCode::FORBIDDEN)?;
    let refresh = text("authorization-refresh").and_then(|value| value.strip_prefix("Bearer "));
    let known: Option<Option<String>> = sqlx::query_scalar("SELECT refresh_token FROM user WHERE email = ?")
        .bind(account)
        .fetch_optional(&service.pool)
        .await?;
    if refresh.is_none() || known.flatten().as_deref() != refresh {
        return Err(StatusCode::FORBIDDEN.into());
    }
    let headers = service.issue(account).await?;
    Ok(axum::response::AppendHeaders(headers).into_response())
}

#[derive(Deserialize)]
struct Named {
    nickname: String,
}

/// Discloses the account of a nickname to any signed-in account, as the Java service does. Fails if two accounts have the nickname.
async fn check_duplicate_nickname(
    State(service): Shared,
    headers: HeaderMap,
    Params(asked): Params<Named>,
) -> Result<Response, Failed> {
    service.caller(&headers)?;
    let found: Vec<String> = sqlx::query_scalar("SELECT email FROM user WHERE nickname = ?")
        .bind(&asked.nickname)
        .fetch_all(&service.pool)
        .await?;
    match found.as_slice() {
        [] => Ok(Json(json!({ "email": null, "isPresent": false })).into_response()),
        [email] => Ok(Json(json!({ "email": email, "isPresent": true })).into_response()),
        _ => Err(StatusCode::INTERNAL_SERVER_ERROR.into()),
    }
}

async fn find_introduction(
    State(service): Shared,
    headers: HeaderMap,
    Params(asked): Params<Named>,
) -> Result<Response, Failed> {
    service.caller(&headers)?;
    let found: Option<Option<String>> = sqlx::query_scalar("SELECT introduction FROM user WHERE nickname = ?")
        .bind(&asked.nickname)
        .fetch_optional(&service.pool)
        .await?;
    Ok(Json(json!({ "introduction": found.flatten().unwrap_or_default() })).into_response())
}

#[derive(Deserialize)]
struct Profile {
    email: String,
    nickname: String,
    introduction: Option<String>,
    #[serde(default, rename = "profileImg")]
    _profile_img: FilesOnly,
}

async fn set_profile(
    State(service): Shared,
    headers: HeaderMap,
    Upload { params, .. }: Upload<Profile>,
) -> Result<Response, Failed> {
    service.caller(&headers)?;
    sqlx::query("UPDATE user SET nickname = ?, introduction = ? WHERE email = ?")
        .bind(&params.nickname)
        .bind(&params.introduction)
        .bind(&params.email)
        .execute(&service.pool)
        .await?;
    let publisher = &service.publisher;
    publisher
        .publish(Topic::EmailAndNickname, &params.email, &params.nickname)
        .await?;
    Ok(Json(json!({ "email": params.email, "success": true })).into_response())
}

#[derive(Deserialize)]
struct Resigning {
    email: String,
}

async fn resign(
    State(service): Shared,
    headers: HeaderMap,
    Params(request): Params<Resigning>,
) -> Result<Response, Failed> {
    service.caller(&headers)?;
    let nickname: Option<String> = sqlx::query_scalar("SELECT nickname FROM user WHERE email = ?")
        .bind(&request.email)
        .fetch_optional(&service.pool)
        .await?;
    let nickname = nickname.ok_or(StatusCode::UNAUTHORIZED)?;
    sqlx::query("DELETE FROM user WHERE email = ?")
        .bind(&request.email)
        .execute(&service.pool)
        .await?;
    service
        .publisher
        .publish(Topic::Resign, &request.email, &nickname)
        .await?;
    Ok(Json(json!({ "email": request.email, "success": true })).into_response())
}

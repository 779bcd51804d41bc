//! Authenticates the caller of every protected route from its headers.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use sosohappy_common::http::credential::bearer;
use sosohappy_common::http::operations;
use sosohappy_common::http::rate_limit::AccountLimit;
use sosohappy_common::{Account, Problem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, RefOr, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use crate::{Authenticator, Caller, Denied, Names};

/// The header that names the account.
const EMAIL: &str = "email";

/// Longer than any token that auth issues; longer values are refused without a digest.
const TOKEN_BYTES: usize = 4096;

/// The ports that the protected routes of a service use.
#[derive(Debug, Clone)]
pub struct Identity {
    pub authenticator: Arc<dyn Authenticator>,
    pub names: Arc<dyn Names>,
}

/// Resolves nicknames for extractors behind [`protect`]; an extension of the request.
#[derive(Debug, Clone)]
pub(crate) struct KnownNames(pub Arc<dyn Names>);

/// Protects these routes: refuses a request without a valid token (headers `Authorization: Bearer` and `email`) with 403, and one over
/// the rate limit of its account with 429, both before the body is read. Documents the two headers and the 403 on each of the routes.
///
/// # Panics
/// When there is no route to protect.
#[must_use]
pub fn protect<S: Clone + Send + Sync + 'static>(routes: OpenApiRouter<S>, identity: Identity) -> OpenApiRouter<S> {
    let mut routes = routes.route_layer(from_fn_with_state(identity, authenticate));
    document(routes.get_openapi_mut());
    routes
}

async fn authenticate(State(identity): State<Identity>, mut request: Request, next: Next) -> Response {
    let Some((account, token)) = credentials(request.headers()) else {
        return Problem::access_denied().into_response();
    };
    match identity.authenticator.authenticate(&account, token).await {
        Ok(caller) => {
            let limit = request.extensions().get::<AccountLimit>();
            let checked = limit.map(|limit| limit.check(&caller.account)).transpose();
            // An upload counts as in progress until its response head is made.
            let _in_progress = match checked {
                Ok(in_progress) => in_progress,
                Err(over) => return over.into_response(),
            };
            let extensions = request.extensions_mut();
            extensions.insert(caller);
            extensions.insert(KnownNames(identity.names));
            next.run(request).await
        }
        Err(denied) => Problem::from(denied).into_response(),
    }
}

/// Authenticates a request to an open route; `None` without credentials, or with invalid ones.
pub async fn identify(identity: &Identity, headers: &HeaderMap) -> Result<Option<Caller>, Denied> {
    let Some((account, token)) = credentials(headers) else {
        return Ok(None);
    };
    match identity.authenticator.authenticate(&account, token).await {
        Ok(caller) => Ok(Some(caller)),
        Err(Denied::Refused) => Ok(None),
        Err(unavailable) => Err(unavailable),
    }
}

/// Returns account and bearer token. A request that has one of the headers twice is anonymous: proxies disagree about which of the two
/// counts.
fn credentials(headers: &HeaderMap) -> Option<(Account, &str)> {
    let account = single(headers, EMAIL)?.parse().ok()?;
    let token = bearer(single(headers, header::AUTHORIZATION.as_str())?)?;
    let fits = (1..=TOKEN_BYTES).contains(&token.len());
    (fits && token.bytes().all(|byte| byte.is_ascii_graphic())).then_some((account, token))
}

fn single<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    // `to_str` takes visible ASCII only, and an address may hold more.
    values
        .next()
        .is_none()
        .then(|| std::str::from_utf8(value.as_bytes()).ok())
        .flatten()
}

fn document(openapi: &mut OpenApi) {
    let components = openapi.components.get_or_insert_default();
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.description = Some("The access token of `signIn` or `reIssueToken`".into());
    components
        .security_schemes
        .insert("accessToken".into(), SecurityScheme::Http(bearer).into());
    let account = ApiKeyValue::with_description(EMAIL, "The account, `email+provider`, as `signIn` answered it");
    components
        .security_schemes
        .insert("account".into(), SecurityScheme::ApiKey(ApiKey::Header(account)).into());
    components
        .schemas
        .entry(Problem::name().into_owned())
        .or_insert_with(Problem::schema);

    let none: [&str; 0] = [];
    let requirement = SecurityRequirement::new("accessToken", none).add("account", none);
    let problem = ContentBuilder::new()
        .schema(Some(utoipa::openapi::Ref::from_schema_name(Problem::name())))
        .build();
    let denied = ResponseBuilder::new()
        .description("The access token is missing, invalid or expired, or the request acts for another user")
        .content("application/problem+json", problem)
        .build();
    for operation in operations(openapi) {
        operation.security = Some(vec![requirement.clone()]);
        operation
            .responses
            .responses
            .entry("403".into())
            .or_insert_with(|| RefOr::T(denied.clone()));
    }
}

//! The credentials of services and operators, in the header `Authorization`.

use axum::extract::Request;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

use super::Problem;
use super::operations::operations;

/// The names of these credentials in documents, as in `security(("serviceToken" = []), ("serviceBasic" = []))`.
const SERVICE: [&str; 2] = ["serviceToken", "serviceBasic"];
const OPERATOR: [&str; 2] = ["operatorToken", "operatorBasic"];

/// Returns whether the request carries this credential: as a Bearer token, or as the password of Basic. Compares in
/// constant time.
#[must_use]
pub fn shows(headers: &HeaderMap, credential: &SecretString) -> bool {
    let Some((scheme, rest)) = authorization(headers) else {
        return false;
    };
    if scheme.eq_ignore_ascii_case("bearer") {
        return same(rest.as_bytes(), credential);
    }
    let decoded = scheme
        .eq_ignore_ascii_case("basic")
        .then(|| BASE64_STANDARD.decode(rest).ok())
        .flatten();
    let Some(decoded) = decoded else { return false };
    let password = decoded.splitn(2, |byte| *byte == b':').nth(1);
    password.is_some_and(|password| same(password, credential))
}

fn authorization(headers: &HeaderMap) -> Option<(&str, &str)> {
    scheme_and_rest(headers.get(header::AUTHORIZATION)?.to_str().ok()?)
}

/// Returns the token of a header value `Bearer <token>` (RFC 6750, section 2.1), the scheme in any case; `None` for other schemes.
#[must_use]
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = scheme_and_rest(value)?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn scheme_and_rest(value: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = value.split_once(' ')?;
    Some((scheme, rest.trim()))
}

fn same(shown: &[u8], credential: &SecretString) -> bool {
    let expected = credential.expose_secret().as_bytes();
    !expected.is_empty() && bool::from(shown.ct_eq(expected))
}

/// Middleware for `axum::middleware::from_fn_with_state`: 401 without this credential, before the body is read.
pub async fn require(
    axum::extract::State(credential): axum::extract::State<SecretString>,
    request: Request,
    next: Next,
) -> Response {
    if shows(request.headers(), &credential) {
        return next.run(request).await;
    }
    let title = "A service or operator credential is required";
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, "credential-required", title).into_response();
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Requires the credential of a service on these routes, and documents it on each of them.
///
/// # Panics
/// When there is no route to close.
#[must_use]
pub fn close<S: Clone + Send + Sync + 'static>(
    routes: OpenApiRouter<S>,
    service_token: SecretString,
) -> OpenApiRouter<S> {
    close_with(routes, service_token, SERVICE)
}

/// Requires the credential of an operator on these routes, and documents it on each of them.
///
/// # Panics
/// When there is no route to close.
#[must_use]
pub fn close_to_operators<S: Clone + Send + Sync + 'static>(
    routes: OpenApiRouter<S>,
    operator_token: SecretString,
) -> OpenApiRouter<S> {
    close_with(routes, operator_token, OPERATOR)
}

fn close_with<S: Clone + Send + Sync + 'static>(
    routes: OpenApiRouter<S>,
    token: SecretString,
    schemes: [&'static str; 2],
) -> OpenApiRouter<S> {
    let mut routes = routes.route_layer(from_fn_with_state(token, require));
    for operation in operations(routes.get_openapi_mut()) {
        operation.security = Some(schemes.map(demand).to_vec());
    }
    routes
}

/// Defines the security schemes that the document's operations demand.
pub(super) fn define(document: &mut OpenApi) {
    let schemes = [
        (SERVICE[0], HttpAuthScheme::Bearer, "The fleet's service token"),
        (
            SERVICE[1],
            HttpAuthScheme::Basic,
            "The fleet's service token as the password",
        ),
        (OPERATOR[0], HttpAuthScheme::Bearer, "The operator token"),
        (OPERATOR[1], HttpAuthScheme::Basic, "The operator token as the password"),
    ];
    for (name, scheme, description) in schemes {
        let demanded = |operation: &mut Operation| operation.security.iter().flatten().any(|one| *one == demand(name));
        if operations(document).any(demanded) {
            let mut http = Http::new(scheme);
            http.description = Some(description.to_owned());
            let components = document.components.get_or_insert_default();
            components
                .security_schemes
                .insert(name.to_owned(), SecurityScheme::Http(http).into());
        }
    }
}

fn demand(name: &str) -> SecurityRequirement {
    let no_scopes: [&str; 0] = [];
    SecurityRequirement::new(name, no_scopes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_and_basic_are_understood() {
        let credential = SecretString::from("a-service-token-1");
        let shown = |value: &str| {
            let value = HeaderValue::from_str(value).expect("a header");
            shows(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]), &credential)
        };
        assert!(shown("Bearer a-service-token-1"));
        assert!(shown("bearer  a-service-token-1"));
        assert!(shown(&format!(
            "Basic {}",
            BASE64_STANDARD.encode("any:a-service-token-1")
        )));
        assert!(!shown(&format!(
            "Basic {}",
            BASE64_STANDARD.encode("a-service-token-1")
        )));
        assert!(!shown("Bearer a-service-token-2"));
        assert!(!shown("Bearer "));
        assert!(!shown("a-service-token-1"));
        assert!(!shows(&HeaderMap::new(), &credential));
        let empty = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("Bearer "))]);
        assert!(
            !shows(&empty, &SecretString::from("")),
            "an empty credential lets nobody in"
        );
    }
}

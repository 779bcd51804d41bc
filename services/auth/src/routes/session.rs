//! In and out.

pub mod get_authorize_code;
pub mod reissue_token;
pub mod sign_in;
pub mod sign_out;

use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use http::{HeaderName, HeaderValue, header};

use crate::sessions::Tokens;

const EMAIL: HeaderName = HeaderName::from_static("email");
const REFRESH: HeaderName = HeaderName::from_static("authorization-refresh");

/// Both tokens and the account, in the headers the app reads.
pub struct TokenHeaders(Tokens);

impl IntoResponseParts for TokenHeaders {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Self::Error> {
        let Tokens {
            account,
            access,
            refresh,
        } = self.0;
        let headers = [
            (header::AUTHORIZATION, format!("Bearer {access}")),
            (REFRESH, format!("Bearer {refresh}")),
            (EMAIL, account.as_str().to_owned()),
        ];
        for (name, text) in headers {
            let value =
                HeaderValue::from_bytes(text.as_bytes()).expect("tokens and accounts have no control characters");
            response.headers_mut().insert(name, value);
        }
        Ok(response)
    }
}

impl IntoResponse for TokenHeaders {
    fn into_response(self) -> Response {
        (self, ()).into_response()
    }
}

//! The text of a request.

use std::borrow::Cow;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;

use crate::App;
use crate::credentials::Operator;
use crate::error::Error;
use crate::state::record::{Action, Entry};

/// A text that an operator wants encrypted or decrypted.
#[derive(Debug)]
pub struct Asked {
    operator: Operator,
    headers: HeaderMap,
    body: String,
}

impl FromRequest<App> for Asked {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        let headers = request.headers().clone();
        let operator = Operator::of(&headers, &app.settings.get()).map_err(IntoResponse::into_response)?;
        let body = String::from_request(request, app).await;
        Ok(Self {
            operator,
            headers,
            body: body.map_err(IntoResponse::into_response)?,
        })
    }
}

impl Asked {
    /// The text, once it is in the record that somebody asked.
    pub async fn text(&self, app: &App, action: Action) -> Result<Cow<'_, str>, Error> {
        let entry = Entry::new(app.context.clock.now(), &self.operator.name, action);
        app.record(entry).await?;
        Ok(text_of(&self.headers, &self.body, action == Action::Decrypt))
    }
}

/// `curl -d` calls a text a form and may add `=`, as if it were a name: Spring takes both off again, and so do we.
fn text_of<'a>(headers: &HeaderMap, body: &'a str, cipher: bool) -> Cow<'a, str> {
    let form = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
    let Some(name) = body.strip_suffix('=').filter(|_| form) else {
        return body.into();
    };
    let decoded = percent_decode_str(&name.replace('+', " "))
        .decode_utf8_lossy()
        .into_owned();
    if cipher { decoded.replace(' ', "+") } else { decoded }.into()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_form_that_is_none_is_a_text() {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let form = HeaderMap::from_iter([(header::CONTENT_TYPE, form)]);
        let text = HeaderMap::new();
        for (headers, body, expected) in [
            (&form, "a%20b+c=", "a b c"),
            (&form, "plain", "plain"),
            (&text, "ends with =", "ends with ="),
        ] {
            assert_eq!(text_of(headers, body, false), expected);
        }
        assert_eq!(text_of(&form, "00ff=", true), "00ff");
    }
}

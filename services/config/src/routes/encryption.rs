//! Spring's encryption routes.
//!
//! `curl -d` declares any body a form, so that the same body may mean the text itself or the decoded form. It is accepted where both are the same,
//! or where only a form is possible; an ambiguous body is refused.

use std::borrow::Cow;

use axum::Json;
use axum::extract::{FromRequest, Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use sosohappy_common::Problem;
use sosohappy_common::http::WholeBody;
use utoipa::ToSchema;

use crate::App;
use crate::credentials::Operator;
use crate::error::{Error, InvalidText};
use crate::state::record::{Action, Entry};

/// Bytes of a text.
const MAX_TEXT: usize = 1024 * 1024;

/// A request of an operator to encrypt or decrypt a text. The credential is checked before the body is read.
#[derive(Debug)]
pub struct CipherRequest {
    operator: Operator,
    headers: HeaderMap,
    body: WholeBody,
}

impl FromRequest<App> for CipherRequest {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        let headers = request.headers().clone();
        let operator = Operator::of(&headers, &app.settings.get()).map_err(IntoResponse::into_response)?;
        let body = WholeBody::from_request(request, app).await;
        Ok(Self {
            operator,
            headers,
            body: body.map_err(IntoResponse::into_response)?,
        })
    }
}

impl CipherRequest {
    /// Parses the text and adds the request to the audit record.
    async fn text(&self, app: &App, action: Action) -> Result<String, Error> {
        let text = text_of(&self.headers, &self.body.bytes, action == Action::Decrypt)?;
        let entry = Entry::new(app.context.clock.now(), &self.operator.name, action);
        app.record(entry).await?;
        Ok(text)
    }
}

/// Returns the text of a body by its content type.
///
/// | content type | text |
/// | --- | --- |
/// | `application/x-www-form-urlencoded` | see [`of_form`] |
/// | `text/*`, or none | the body in its declared character set |
/// | `application/octet-stream` | the body as UTF-8 |
/// | any other | refused |
fn text_of(headers: &HeaderMap, body: &[u8], is_cipher: bool) -> Result<String, InvalidText> {
    if body.len() > MAX_TEXT {
        return Err(InvalidText::Long(MAX_TEXT));
    }
    let content_type = match headers.get(header::CONTENT_TYPE) {
        Some(value) => value.to_str().map_err(|_| InvalidText::Type)?,
        None => "text/plain",
    };
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let text = match &*essence {
        "application/x-www-form-urlencoded" => {
            let body = std::str::from_utf8(body).map_err(|_| InvalidText::Charset)?;
            of_form(body, is_cipher)?
        }
        "application/octet-stream" => String::from_utf8(body.to_vec()).map_err(|_| InvalidText::Charset)?,
        text if text.starts_with("text/") => {
            let charset = parts.find_map(|part| {
                let (name, value) = part.split_once('=')?;
                name.eq_ignore_ascii_case("charset").then(|| value.trim_matches('"'))
            });
            let encoding = match charset {
                Some(label) => encoding_rs::Encoding::for_label(label.as_bytes()).ok_or(InvalidText::Charset)?,
                None => encoding_rs::UTF_8,
            };
            let text = encoding.decode_without_bom_handling_and_without_replacement(body);
            text.ok_or(InvalidText::Charset)?.into_owned()
        }
        _ => return Err(InvalidText::Type),
    };
    if text.is_empty() {
        Err(InvalidText::Empty)
    } else {
        Ok(text)
    }
}

/// Returns the text of a form body, or an error when it is ambiguous.
///
/// An encoder keeps letters, digits and `-._`, and escapes all other bytes, as `--data-urlencode` does:
///
/// | bytes in the body | text |
/// | --- | --- |
/// | kept ones only | the body |
/// | kept ones and escapes of others | the decoded body |
/// | any other byte, an incomplete escape, or an escaped letter or digit | ambiguous: not written by an encoder |
/// | `=` at the end of a ciphertext | removed: Spring's form has a field without a value, and ciphertexts have no padding |
fn of_form(body: &str, is_cipher: bool) -> Result<String, InvalidText> {
    let encoded = body.strip_suffix('=').filter(|_| is_cipher).unwrap_or(body);
    let is_never_escaped = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    // Encoders differ in `~` and `*`; the braces of a ciphertext's prefixes mean the same in both readings.
    let is_literal =
        |byte: u8| is_never_escaped(byte) || b"~*".contains(&byte) || (is_cipher && b"{}:".contains(&byte));
    let mut rest = encoded.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = if is_literal(byte) {
            after
        } else {
            let (escaped, after) = escape(byte, after).ok_or(InvalidText::Ambiguous)?;
            if is_never_escaped(escaped) {
                return Err(InvalidText::Ambiguous);
            }
            after
        };
    }
    let text = percent_decode_str(encoded).decode_utf8();
    text.map(Cow::into_owned).map_err(|_| InvalidText::Charset)
}

/// Parses an escape, `%` and two hex digits, and returns its byte and the rest.
fn escape(first: u8, after: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = after.split_first_chunk::<2>().filter(|_| first == b'%')?;
    let mut byte = [0];
    hex::decode_to_slice(digits, &mut byte).ok()?;
    Some((byte[0], rest))
}

/// Decrypts a ciphertext of either form, with or without `{cipher}` before it.
#[utoipa::path(
    post,
    path = "/decrypt",
    tag = "encryption",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = String), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem), (status = 408, body = Problem), (status = 413, body = Problem), (status = 503, body = Problem))
)]
pub async fn decrypt(State(app): State<App>, request: CipherRequest) -> Result<String, Error> {
    decrypted(&app, &request).await
}

/// Decrypts a ciphertext; all applications share one key ring.
#[utoipa::path(
    post,
    path = "/decrypt/{application}/{profiles}",
    tag = "encryption",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(("application" = String, Path), ("profiles" = String, Path)),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = String), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem), (status = 408, body = Problem), (status = 413, body = Problem), (status = 503, body = Problem))
)]
pub async fn decrypt_for(
    State(app): State<App>,
    Path((_application, _profiles)): Path<(String, String)>,
    request: CipherRequest,
) -> Result<String, Error> {
    decrypted(&app, &request).await
}

async fn decrypted(app: &App, request: &CipherRequest) -> Result<String, Error> {
    let text = request.text(app, Action::Decrypt).await?;
    let keys = app.keys.clone();
    Ok(app.compute(move || keys.decrypt(&text)).await??)
}

/// Encrypts a text; the value of a setting is `{cipher}` followed by the response. `{key:alias}` before the text selects a key, `{alg:gcm}` our own
/// form.
#[utoipa::path(
    post,
    path = "/encrypt",
    tag = "encryption",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = String), (status = 400, body = Problem, description = "the body is ambiguous or not a text"), (status = 401, body = Problem), (status = 404, body = Problem), (status = 408, body = Problem), (status = 413, body = Problem), (status = 503, body = Problem))
)]
pub async fn encrypt(State(app): State<App>, request: CipherRequest) -> Result<String, Error> {
    encrypted(&app, &request).await
}

/// Encrypts a text; all applications share one key ring.
#[utoipa::path(
    post,
    path = "/encrypt/{application}/{profiles}",
    tag = "encryption",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(("application" = String, Path), ("profiles" = String, Path)),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = String), (status = 400, body = Problem, description = "the body is ambiguous or not a text"), (status = 401, body = Problem), (status = 404, body = Problem), (status = 408, body = Problem), (status = 413, body = Problem), (status = 503, body = Problem))
)]
pub async fn encrypt_for(
    State(app): State<App>,
    Path((_application, _profiles)): Path<(String, String)>,
    request: CipherRequest,
) -> Result<String, Error> {
    encrypted(&app, &request).await
}

async fn encrypted(app: &App, request: &CipherRequest) -> Result<String, Error> {
    let text = request.text(app, Action::Encrypt).await?;
    let form = app.settings.get().encrypt.form;
    let (keys, entropy) = (app.keys.clone(), app.context.entropy.clone());
    Ok(app
        .compute(move || keys.encrypt(&text, form, entropy.as_ref()))
        .await??)
}

/// Returns 404: the keys are symmetric, and there is no public key as in Spring's server.
#[utoipa::path(
    get,
    path = "/key",
    tag = "encryption",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    responses((status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn show_key(_: Operator) -> Error {
    Error::NoKey
}

/// Returns 404, as for no application.
#[utoipa::path(
    get,
    path = "/key/{application}/{profiles}",
    tag = "encryption",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(("application" = String, Path), ("profiles" = String, Path)),
    responses((status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn show_key_for(_: Operator, Path((_application, _profiles)): Path<(String, String)>) -> Error {
    Error::NoKey
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EncryptionStatusResponse)]
pub struct StatusResponse {
    /// `OK`.
    status: &'static str,
}

/// Returns whether an encryption key is set.
#[utoipa::path(
    get,
    path = "/encrypt/status",
    operation_id = "show_encryption_status",
    tag = "encryption",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    responses((status = 200, body = StatusResponse), (status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn show_status(_: Operator, State(app): State<App>) -> Result<Json<StatusResponse>, Error> {
    if app.keys.is_empty() {
        return Err(Error::NoKey);
    }
    Ok(Json(StatusResponse { status: "OK" }))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    const FORM: &str = "application/x-www-form-urlencoded";

    fn read(content_type: &str, body: &[u8], is_cipher: bool) -> Result<String, InvalidText> {
        let content_type = HeaderValue::from_str(content_type).unwrap();
        text_of(
            &HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]),
            body,
            is_cipher,
        )
    }

    #[test]
    fn an_unambiguous_form_is_decoded() {
        for (body, text) in [
            ("plain", "plain"),
            ("my%2Bpass", "my+pass"),
            ("a%20b%3d", "a b="),
            ("%ED%96%89", "행"),
        ] {
            assert_eq!(read(FORM, body.as_bytes(), false).as_deref(), Ok(text), "{body}");
        }
        for body in [
            "ab+/cdE=",
            "a+b",
            "abc=",
            "a&b",
            "100%",
            "a%4",
            "%41",
            "a b",
            "행",
            "name=value",
        ] {
            assert_eq!(
                read(FORM, body.as_bytes(), false),
                Err(InvalidText::Ambiguous),
                "{body}"
            );
        }
        assert_eq!(read(FORM, b"%ff", false), Err(InvalidText::Charset));
        assert_eq!(read(FORM, b"", false), Err(InvalidText::Empty));
    }

    #[test]
    fn ciphertexts_in_forms_of_curl_and_spring_are_read() {
        for (body, text) in [
            ("00ff", "00ff"),
            ("00ff=", "00ff"),
            ("{cipher}{key:next}00ff", "{cipher}{key:next}00ff"),
            ("%7Bcipher%7D00ff", "{cipher}00ff"),
            ("{alg:gcm}a-_b", "{alg:gcm}a-_b"),
        ] {
            assert_eq!(read(FORM, body.as_bytes(), true).as_deref(), Ok(text), "{body}");
        }
        assert_eq!(read(FORM, b"ab+cd", true), Err(InvalidText::Ambiguous));
    }

    #[test]
    fn texts_are_read_in_their_character_set() {
        for content_type in ["text/plain", "text/plain;charset=UTF-8", "application/octet-stream"] {
            for text in ["a%20b+c=", " ends in a line\n", "\u{feff}행복&=%"] {
                assert_eq!(
                    read(content_type, text.as_bytes(), false).as_deref(),
                    Ok(text),
                    "{content_type}"
                );
            }
        }
        assert_eq!(
            read("text/plain; charset=\"iso-8859-1\"", b"caf\xe9", false).as_deref(),
            Ok("café")
        );
        assert_eq!(read("text/plain", b"caf\xe9", false), Err(InvalidText::Charset));
        assert_eq!(read("application/json", b"\"a\"", false), Err(InvalidText::Type));
        assert_eq!(text_of(&HeaderMap::new(), b"a+b", false).as_deref(), Ok("a+b"));
        assert_eq!(
            read("text/plain", &vec![b'a'; MAX_TEXT + 1], false),
            Err(InvalidText::Long(MAX_TEXT))
        );
    }

    proptest! {
        #[test]
        fn bodies_encoded_by_curl_are_decoded(text in "\\PC{1,40}|[ -~]{1,40}") {
            const CURL: &percent_encoding::AsciiSet =
                &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
            let encoded = utf8_percent_encode(&text, CURL).to_string();
            prop_assert_eq!(read(FORM, encoded.as_bytes(), false), Ok(text.clone()));
            prop_assert_eq!(read("text/plain", text.as_bytes(), false), Ok(text));
        }

        /// `curl -d` of any text is read as that text or refused, unless `--data-urlencode` of another text has the same bytes.
        #[test]
        fn raw_bodies_of_curl_are_never_read_as_another_text(text in "[ -~]{1,20}") {
            if let Ok(read) = read(FORM, text.as_bytes(), false) {
                prop_assert!(read == text || text.contains('%'), "{}", read);
            }
        }
    }
}

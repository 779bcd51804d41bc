//! The text of a request.

use std::borrow::Cow;

use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;

/// `curl -d` calls a text a form and may add `=`, as if it were a name: Spring takes both off again, and so do we.
pub fn text_of<'a>(headers: &HeaderMap, body: &'a str, cipher: bool) -> Cow<'a, str> {
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

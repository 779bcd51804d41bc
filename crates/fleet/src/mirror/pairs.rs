//! Two names of one thing, one a side: a token, an authorize code, the id of a picture. A client knows the name that the answering side
//! gave it; requests to the other side are given the other one.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, header};
use moka::sync::Cache;
use serde_json::Value;
use url::form_urlencoded;

use super::compare::Pair;
use super::sides::Side;

/// Pairs in memory; the oldest are forgotten first.
const MOST_PAIRS: u64 = 100_000;
/// The longest an access token lives anywhere in use, so that no pair outlives what it names by much.
const LIFETIME: Duration = Duration::from_hours(48);

#[derive(Debug)]
pub struct Pairs {
    known: Cache<Key, Arc<str>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    /// The side that is presented the other name.
    to: Side,
    name: Box<str>,
    value: Box<str>,
}

impl Pairs {
    pub fn new() -> Self {
        Self {
            known: Cache::builder().max_capacity(MOST_PAIRS).time_to_live(LIFETIME).build(),
        }
    }

    pub fn remember(&self, pair: &Pair) {
        let key = |to, value: &str| Key {
            to,
            name: pair.name.as_str().into(),
            value: value.into(),
        };
        self.known
            .insert(key(Side::Ours, &pair.spring), pair.ours.as_str().into());
        self.known
            .insert(key(Side::Spring, &pair.ours), pair.spring.as_str().into());
    }

    fn find(&self, to: Side, name: &str, value: &str) -> Option<Arc<str>> {
        let (name, value) = (name.into(), value.into());
        self.known.get(&Key { to, name, value })
    }

    pub fn translate_headers(&self, to: Side, headers: &mut HeaderMap) {
        for (name, value) in headers.iter_mut() {
            let known = value.to_str().ok().and_then(|text| self.find(to, name.as_str(), text));
            if let Some(known) = known.and_then(|known| HeaderValue::from_str(&known).ok()) {
                *value = known;
            }
        }
    }

    /// Returns path and query with the other side's names in the parts of the path that the template names, and in parameters.
    pub fn translate_path(&self, to: Side, uri: &Uri, parts: &[(String, String)]) -> String {
        let mut path = uri.path().to_owned();
        for (name, value) in parts {
            if let Some(known) = self.find(to, name, value) {
                let segments = path.split('/').map(|part| if part == value { &*known } else { part });
                path = segments.collect::<Vec<_>>().join("/");
            }
        }
        match uri.query() {
            Some(query) => format!("{path}?{}", self.translate_form(to, query)),
            None => path,
        }
    }

    fn translate_form<'a>(&self, to: Side, text: &'a str) -> Cow<'a, str> {
        let mut changed = false;
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let known = self.find(to, &name, &value);
            changed |= known.is_some();
            form.append_pair(&name, known.as_deref().unwrap_or(&value));
        }
        if changed { form.finish().into() } else { text.into() }
    }

    pub fn translate_body(&self, to: Side, headers: &HeaderMap, body: Bytes) -> Bytes {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().to_ascii_lowercase();
        if self.known.iter().next().is_none() {
            return body;
        }
        if kind.starts_with("application/json") {
            let translated = serde_json::from_slice(&body)
                .ok()
                .map(|value| self.translate_json(to, value));
            translated.map_or(body, |value: Value| value.to_string().into())
        } else if kind.starts_with("multipart/form-data") {
            self.translate_multipart(to, body)
        } else if let Ok(text) = std::str::from_utf8(&body)
            && kind.starts_with("application/x-www-form-urlencoded")
        {
            self.translate_form(to, text).into_owned().into()
        } else {
            body
        }
    }

    /// The fields of the object that the services read their parameters from.
    fn translate_json(&self, to: Side, mut value: Value) -> Value {
        for (name, field) in value.as_object_mut().into_iter().flatten() {
            let known = match &*field {
                Value::String(text) => self.find(to, name, text).map(|known| Value::from(&*known)),
                Value::Number(number) => self
                    .find(to, name, &number.to_string())
                    .map(|known| serde_json::from_str(&known).unwrap_or_else(|_| Value::from(&*known))),
                _ => None,
            };
            if let Some(known) = known {
                *field = known;
            }
        }
        value
    }

    /// Parts have no length of their own, so a value can be replaced where it stands: between the blank line behind a header block that
    /// names the field, and the line break before the next boundary.
    fn translate_multipart(&self, to: Side, body: Bytes) -> Bytes {
        const MARK: &str = "name=\"";
        const BLANK: &str = "\r\n\r\n";
        // Only text is looked at: a body with files in it names nothing that was issued.
        let Ok(text) = std::str::from_utf8(&body) else {
            return body;
        };
        let mut translated = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(MARK) {
            translated.push_str(before);
            translated.push_str(MARK);
            rest = after;
            let part = || {
                let (name, after) = after.split_once('"')?;
                let (headers, after) = after.split_once(BLANK)?;
                let (value, _) = after.split_once("\r\n--")?;
                Some((name, headers, value))
            };
            if let Some((name, headers, value)) = part()
                && let Some(known) = self.find(to, name, value)
            {
                for text in [name, "\"", headers, BLANK, &*known] {
                    translated.push_str(text);
                }
                rest = &after[name.len() + 1 + headers.len() + BLANK.len() + value.len()..];
            }
        }
        translated.push_str(rest);
        translated.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> Pairs {
        let pairs = Pairs::new();
        for (name, spring, ours) in [
            ("imageId", "1", "71"),
            ("authorizeCode", "a+b", "c/d"),
            ("authorization", "Bearer s", "Bearer o"),
        ] {
            pairs.remember(&Pair {
                name: name.to_owned(),
                spring: spring.to_owned(),
                ours: ours.to_owned(),
            });
        }
        pairs
    }

    #[test]
    fn requests_are_given_the_names_of_their_side() {
        let pairs = pairs();
        let body = |kind: &str, text: &str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]);
            let body = pairs.translate_body(Side::Ours, &headers, Bytes::copy_from_slice(text.as_bytes()));
            String::from_utf8(body.to_vec()).unwrap()
        };
        assert_eq!(
            body("application/json", "{\"imageId\":1,\"page\":1}"),
            "{\"imageId\":71,\"page\":1}"
        );
        assert_eq!(
            body("application/json", "{\"authorizeCode\":\"a+b\"}"),
            "{\"authorizeCode\":\"c/d\"}"
        );
        assert_eq!(body("application/json", "[1"), "[1", "what cannot be read is passed on");
        assert_eq!(
            body("application/x-www-form-urlencoded", "authorizeCode=a%2Bb&x=1"),
            "authorizeCode=c%2Fd&x=1"
        );
        assert_eq!(
            body("application/x-www-form-urlencoded", "x=a b"),
            "x=a b",
            "nothing to replace, nothing encoded anew"
        );
        let parts = "--b\r\nContent-Disposition: form-data; name=\"imageId\"\r\n\r\n1\r\n--b\r\nContent-Disposition: form-data; name=\"page\"\r\n\r\n1\r\n--b--";
        assert_eq!(
            body("multipart/form-data; boundary=b", parts),
            parts.replacen("\r\n\r\n1\r\n", "\r\n\r\n71\r\n", 1)
        );

        let uri: Uri = "/feed-service/image/1?imageId=1&size=1".parse().unwrap();
        let parts = [("imageId".to_owned(), "1".to_owned())];
        assert_eq!(
            pairs.translate_path(Side::Ours, &uri, &parts),
            "/feed-service/image/71?imageId=71&size=1"
        );
        let mut headers = HeaderMap::from_iter([(header::AUTHORIZATION, "Bearer o".parse().unwrap())]);
        pairs.translate_headers(Side::Spring, &mut headers);
        assert_eq!(headers[header::AUTHORIZATION], "Bearer s");
    }
}

//! Collects named values of forms and query strings into a tree.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::percent_decode;
use serde_json::{Map, Value};

use crate::http::Problem;

/// The most bytes of text: of a form, a JSON body, the fields of a multipart body.
pub(super) const TEXT_LIMIT: usize = 1024 * 1024;
/// The most fields of one request.
const MOST_FIELDS: usize = 1000;
const MOST_NAME_BYTES: usize = 256;

/// Values by name in the order of the request, with their index. All are texts but those of JSON parts.
#[derive(Debug, Default)]
pub(super) struct Fields {
    by_name: BTreeMap<String, Vec<(Option<u32>, Value)>>,
    count: usize,
}

impl Fields {
    pub(super) fn add(&mut self, name: &str, value: Value) -> Result<(), Problem> {
        check_name(name)?;
        self.count += 1;
        check_count(self.count)?;
        let (name, index) = split_index(name);
        self.by_name.entry(name.to_owned()).or_default().push((index, value));
        Ok(())
    }

    /// Adds the fields of a query string, or of the body of a form: `a=1&b=%20`.
    pub(super) fn add_encoded(&mut self, encoded: &[u8]) -> Result<(), Problem> {
        for pair in encoded.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let mut sides = pair.splitn(2, |byte| *byte == b'=');
            let name = decode(sides.next().unwrap_or_default())?;
            let text = decode(sides.next().unwrap_or_default())?;
            self.add(&name, Value::String(text))?;
        }
        Ok(())
    }

    /// Builds the tree: one value stays a value, several or indexed ones become a list, and a list among several gives its items.
    pub(super) fn into_tree(self) -> Map<String, Value> {
        let tree = self.by_name.into_iter().map(|(name, mut values)| {
            if let [(None, value)] = values.as_mut_slice() {
                return (name, value.take());
            }
            // A stable sort: values without an index keep their order, after those with one.
            values.sort_by_key(|(index, _)| index.unwrap_or(u32::MAX));
            let mut items = Vec::with_capacity(values.len());
            for (_, value) in values {
                match value {
                    Value::Array(several) => items.extend(several),
                    one => items.push(one),
                }
            }
            (name, Value::Array(items))
        });
        tree.collect()
    }
}

pub(super) fn check_count(count: usize) -> Result<(), Problem> {
    if count > MOST_FIELDS {
        return Err(Problem::invalid_parameter(format!("more than {MOST_FIELDS} fields")));
    }
    Ok(())
}

pub(super) fn check_name(name: &str) -> Result<(), Problem> {
    if name.len() > MOST_NAME_BYTES {
        return Err(Problem::invalid_parameter(format!(
            "a field's name is longer than {MOST_NAME_BYTES} bytes"
        )));
    }
    Ok(())
}

/// Splits `imageList[2]` into `imageList` and 2; `list[]` is `list`; other brackets belong to the name.
pub(super) fn split_index(name: &str) -> (&str, Option<u32>) {
    match name.strip_suffix(']').and_then(|name| name.rsplit_once('[')) {
        Some((base, "")) if !base.is_empty() => (base, None),
        Some((base, index)) if !base.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()) => {
            index.parse().map_or((name, None), |index| (base, Some(index)))
        }
        _ => (name, None),
    }
}

fn decode(encoded: &[u8]) -> Result<String, Problem> {
    let spaced: Cow<'_, [u8]> = if encoded.contains(&b'+') {
        encoded
            .iter()
            .map(|byte| if *byte == b'+' { b' ' } else { *byte })
            .collect::<Vec<_>>()
            .into()
    } else {
        encoded.into()
    };
    let decoded = percent_decode(&spaced).decode_utf8();
    decoded
        .map(Cow::into_owned)
        .map_err(|_| Problem::invalid_parameter("a field is not valid UTF-8"))
}

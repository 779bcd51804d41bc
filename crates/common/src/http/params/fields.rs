//! Named texts of forms and query strings, gathered into a tree.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::percent_decode;
use serde_json::{Map, Value};

use crate::http::Problem;

/// Fields of one request, all its parts together.
const MOST_FIELDS: usize = 1000;
const MOST_NAME_BYTES: usize = 256;

/// Texts by name, those of one name in the order they came, with the index they carried.
#[derive(Debug, Default)]
pub(super) struct Fields {
    by_name: BTreeMap<String, Vec<(Option<u32>, String)>>,
    count: usize,
}

impl Fields {
    pub(super) fn add(&mut self, name: &str, text: String) -> Result<(), Problem> {
        check_name(name)?;
        self.count += 1;
        check_count(self.count)?;
        let (name, index) = split_index(name);
        self.by_name.entry(name.to_owned()).or_default().push((index, text));
        Ok(())
    }

    /// `a=1&b=%20`: the query string, and bodies of forms.
    pub(super) fn add_encoded(&mut self, encoded: &[u8]) -> Result<(), Problem> {
        for pair in encoded.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let mut sides = pair.splitn(2, |byte| *byte == b'=');
            let name = decode(sides.next().unwrap_or_default())?;
            let text = decode(sides.next().unwrap_or_default())?;
            self.add(&name, text)?;
        }
        Ok(())
    }

    /// One text is itself, several or indexed ones are a list.
    pub(super) fn into_tree(self) -> Map<String, Value> {
        let tree = self.by_name.into_iter().map(|(name, mut texts)| {
            if let [(None, text)] = texts.as_mut_slice() {
                return (name, Value::String(std::mem::take(text)));
            }
            // Stable: those without an index keep their order, behind those with one.
            texts.sort_by_key(|(index, _)| index.unwrap_or(u32::MAX));
            (
                name,
                Value::Array(texts.into_iter().map(|(_, text)| Value::String(text)).collect()),
            )
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

/// `imageList[2]` → `imageList` and 2; `list[]` is `list`; any other bracket belongs to the name.
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

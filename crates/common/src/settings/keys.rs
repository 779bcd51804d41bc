//! Flat keys, `server.port` or `words[0].text`, and the trees that they are nested into.
//!
//! Keys are written by people and by other programs, so trees are bounded: at most [`MAX_DEPTH`] levels, which bounds every recursion over a
//! tree, and at most [`MAX_GAPS`] list items that no key sets.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::mem;

use serde_json::{Map, Value};

/// The most steps of one key.
pub const MAX_DEPTH: usize = 32;
/// The highest index of a list of settings.
const MAX_INDEX: usize = 1000;
/// The most missing items of all lists together: `words[9]` alone leaves nine.
pub const MAX_GAPS: usize = 10_000;
/// The most characters of a key in messages.
const SHOWN: usize = 100;

/// One step into a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// Why a key is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error("a key has at most {MAX_DEPTH} parts")]
    Depth,
    #[error("an index is 0 to {MAX_INDEX}")]
    Index,
    #[error("the lists of these keys lack more than {MAX_GAPS} items")]
    Gaps,
}

/// Splits a key into its steps. Text in brackets that is not an index is a key that may have dots, as Spring's `[a.b]`. A longer key has
/// its whole rest as the last of [`MAX_DEPTH`] steps.
#[must_use]
pub fn steps(key: &str) -> Vec<Step<'_>> {
    positions(key).map(|(_, step)| step).collect()
}

/// Returns the steps of a key, each with the part of the key before it.
fn positions(key: &str) -> impl Iterator<Item = (&str, Step<'_>)> {
    let mut rest = key;
    let mut left = MAX_DEPTH;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let before = &key[..key.len() - rest.len()];
        left -= 1;
        if left == 0 {
            return Some((before, Step::Key(mem::take(&mut rest))));
        }
        if let Some((inside, after)) = rest.strip_prefix('[').and_then(|bracket| bracket.split_once(']')) {
            rest = after.strip_prefix('.').unwrap_or(after);
            let index = inside.parse().ok().filter(|index| *index < MAX_GAPS);
            return Some((before, index.map_or(Step::Key(inside), Step::Index)));
        }
        let end = rest.bytes().skip(1).position(|byte| matches!(byte, b'.' | b'['));
        let end = end.map_or(rest.len(), |at| at + 1);
        let step = Step::Key(&rest[..end]);
        rest = rest[end..].strip_prefix('.').unwrap_or(&rest[end..]);
        Some((before, step))
    })
}

/// Refuses a key with more steps than a tree has levels.
pub fn check_depth(key: &str) -> Result<(), InvalidKey> {
    let steps = 1 + key.bytes().filter(|byte| matches!(byte, b'.' | b'[')).count();
    if steps > MAX_DEPTH {
        Err(InvalidKey::Depth)
    } else {
        Ok(())
    }
}

/// Refuses a key that no setting can have.
pub fn check(key: &str) -> Result<(), InvalidKey> {
    check_depth(key)?;
    let is_index = |rest: &str| {
        let inside = rest.split(']').next().unwrap_or_default();
        inside.parse::<usize>().is_ok_and(|index| index <= MAX_INDEX)
    };
    if key.split('[').skip(1).all(is_index) {
        Ok(())
    } else {
        Err(InvalidKey::Index)
    }
}

/// Refuses keys whose lists have more than [`MAX_GAPS`] missing items in all.
pub fn check_gaps<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<(), InvalidKey> {
    let mut lists: HashMap<&str, List> = HashMap::new();
    let mut items: HashSet<(&str, usize)> = HashSet::new();
    for key in keys.into_iter().filter(|key| key.contains('[')) {
        for (list, step) in positions(key) {
            if let Step::Index(index) = step
                && items.insert((list, index))
            {
                let list = lists.entry(list).or_default();
                list.length = list.length.max(index + 1);
                list.given += 1;
            }
        }
    }
    let gaps: usize = lists.values().map(|list| list.length - list.given).sum();
    if gaps > MAX_GAPS { Err(InvalidKey::Gaps) } else { Ok(()) }
}

#[derive(Default)]
struct List {
    length: usize,
    given: usize,
}

/// Nests flat keys. Where a key is both a value and a parent, the parent wins. Lists with too many missing items, see [`check_gaps`], become
/// objects with the indexes as keys.
#[must_use]
pub fn nest<'a>(entries: impl IntoIterator<Item = (&'a str, &'a Value), IntoIter: Clone>) -> Value {
    let entries = entries.into_iter();
    let has_lists = check_gaps(entries.clone().map(|(key, _)| key)).is_ok();
    let mut root = Value::Object(Map::new());
    for (key, value) in entries {
        let mut place = &mut root;
        for step in steps(key) {
            place = match step {
                Step::Index(index) if has_lists => item(place, index),
                Step::Index(index) => entry(place, &index.to_string()),
                Step::Key(key) => entry(place, key),
            };
        }
        if !matches!(place, Value::Object(_) | Value::Array(_)) {
            *place = value.clone();
        }
    }
    root
}

fn entry<'a>(place: &'a mut Value, key: &str) -> &'a mut Value {
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    let Value::Object(fields) = place else {
        unreachable!("it has just been made an object")
    };
    fields.entry(key).or_insert(Value::Null)
}

fn item(place: &mut Value, index: usize) -> &mut Value {
    if !place.is_array() {
        *place = Value::Array(Vec::new());
    }
    let Value::Array(items) = place else {
        unreachable!("it has just been made an array")
    };
    if items.len() <= index {
        items.resize(index + 1, Value::Null);
    }
    &mut items[index]
}

/// Merges objects key by key; replaces other values, lists included, as a whole.
pub(super) fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// Returns a key for messages: only its beginning, if it is long.
#[must_use]
pub fn shown(key: &str) -> Cow<'_, str> {
    match key.char_indices().nth(SHOWN) {
        None => Cow::Borrowed(key),
        Some((end, _)) => Cow::Owned(format!("{}…", &key[..end])),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nested(keys: &[&str]) -> Value {
        nest(keys.iter().map(|key| (*key, &Value::Bool(true))))
    }

    #[test]
    fn keys_become_trees() {
        assert_eq!(
            nested(&["a.b[1].c", "a.b[0]", "a[x.y]", "d"]),
            json!({"a": {"b": [true, {"c": true}], "x.y": true}, "d": true})
        );
        assert_eq!(nested(&["a", "a.b", "a"]), json!({"a": {"b": true}}), "the parent wins");
        assert_eq!(nested(&[""]), json!({}));
    }

    #[test]
    fn a_key_of_many_parts_is_refused_and_bounded() {
        let deep = vec!["a"; 3000].join(".");
        assert_eq!(check(&deep), Err(InvalidKey::Depth));
        assert_eq!(steps(&deep).len(), MAX_DEPTH);
        let brackets = format!("a{}", "[0]".repeat(3000));
        assert_eq!(check(&brackets), Err(InvalidKey::Depth));
        assert_eq!(steps(&brackets).len(), MAX_DEPTH);
        assert_eq!(check(&["a"; MAX_DEPTH].join(".")), Ok(()));
        assert_eq!(shown(&deep).chars().count(), SHOWN + 1);
        let tree = nested(&[&deep]).to_string();
        assert_eq!(tree.matches('{').count(), MAX_DEPTH);
    }

    #[test]
    fn indexes_are_bounded() {
        assert_eq!(check("words[1000]"), Ok(()));
        for key in [
            "words[1001]",
            "words[-1]",
            "words[x.y]",
            "words[",
            "words[18446744073709551616]",
        ] {
            assert_eq!(check(key), Err(InvalidKey::Index), "{key}");
        }
    }

    #[test]
    fn lists_of_nothing_are_bounded_together() {
        let sparse: Vec<_> = (0..100).map(|list| format!("a[{list}][9999]")).collect();
        let keys: Vec<_> = sparse.iter().map(String::as_str).collect();
        assert_eq!(check_gaps(keys.iter().copied()), Err(InvalidKey::Gaps));
        let tree = nested(&keys);
        assert_eq!(tree["a"]["99"], json!({"9999": true}));
        assert!(tree.to_string().len() < 3000);

        let full: Vec<_> = (0..MAX_GAPS).rev().map(|item| format!("a[{item}]")).collect();
        let keys: Vec<_> = full.iter().map(String::as_str).collect();
        assert_eq!(check_gaps(keys.iter().copied()), Ok(()), "a long list lacks nothing");
        assert_eq!(nested(&keys)["a"].as_array().map(Vec::len), Some(MAX_GAPS));
    }
}

//! Settings keys that have been renamed: the old key is read for one release, with a warning that names the new one.
//!
//! An entry of [`RENAMED`] is all a rename needs: it holds for a settings file, the config service, `busenv` and the environment,
//! and for the check of a version before the config service publishes it. The release after, the entry is removed.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// A key of one release ago, and its present name. Either is a whole path: a value, a list or a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renamed {
    pub old: &'static str,
    pub new: &'static str,
}

/// Every rename of the last release.
pub const RENAMED: &[Renamed] = &[
    Renamed::new("events.access-token-form", "fleet.access-token-form"),
    Renamed::new("messages.shown-within", "messages.delivery-timeout"),
    Renamed::new("push.grace", "push.delivery-timeout"),
    Renamed::new("push.give-up-after", "push.max-age"),
    Renamed::new("resignation.nickname-reservation", "nicknames.reservation"),
    Renamed::new("server.answer-memory", "server.response-memory"),
    Renamed::new("sockets.drain-over", "sockets.drain-spread"),
];

impl Renamed {
    const fn new(old: &'static str, new: &'static str) -> Self {
        Self { old, new }
    }
}

/// Returns the present name of a flat key (`sockets.drain-over`, or one inside a renamed section).
#[must_use]
pub fn current_name(key: &str) -> Cow<'_, str> {
    for renamed in RENAMED {
        if let Some(rest) = key.strip_prefix(renamed.old)
            && (rest.is_empty() || rest.starts_with(['.', '[']))
        {
            return Cow::Owned(format!("{}{rest}", renamed.new));
        }
    }
    Cow::Borrowed(key)
}

/// Moves the values of old keys to the new ones and returns the renames that were needed. Where one tree has both keys, the new one wins.
pub(super) fn apply(tree: &mut Value) -> Vec<Renamed> {
    let mut applied = Vec::new();
    for renamed in RENAMED {
        let Some(old) = take(tree, renamed.old) else { continue };
        applied.push(*renamed);
        let (section, key) = split(renamed.new);
        let Some(section) = make_section(tree, section) else {
            continue;
        };
        if let Some(new) = section.insert(key.to_owned(), old) {
            super::keys::merge(&mut section[key], &new);
        }
    }
    applied
}

fn take(tree: &mut Value, path: &str) -> Option<Value> {
    let (section, key) = split(path);
    let section = sections(section).try_fold(tree, |node, key| node.as_object_mut()?.get_mut(key))?;
    section.as_object_mut()?.remove(key)
}

/// Returns the section at a path, made where there is none; none where something else is in its place.
fn make_section<'a>(tree: &'a mut Value, path: &str) -> Option<&'a mut Map<String, Value>> {
    let empty = || Value::Object(Map::new());
    let section = sections(path).try_fold(tree, |node, key| {
        Some(node.as_object_mut()?.entry(key).or_insert_with(empty))
    })?;
    section.as_object_mut()
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

fn sections(path: &str) -> impl Iterator<Item = &str> {
    path.split('.').filter(|section| !section.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_move_to_the_new_key() {
        let mut tree = json!({"sockets": {"drain-over": "9s", "queue": 1}, "push": {}});
        let applied = apply(&mut tree);
        assert_eq!(tree, json!({"sockets": {"drain-spread": "9s", "queue": 1}, "push": {}}));
        assert_eq!(
            applied.iter().map(|renamed| renamed.old).collect::<Vec<_>>(),
            ["sockets.drain-over"]
        );
        assert_eq!(apply(&mut tree), []);
    }

    #[test]
    fn the_new_key_wins_over_the_old_one() {
        let mut tree = json!({"push": {"give-up-after": "1d", "max-age": "2d"}});
        assert_eq!(apply(&mut tree).len(), 1);
        assert_eq!(tree, json!({"push": {"max-age": "2d"}}));
    }

    #[test]
    fn sections_that_are_values_are_left_alone() {
        let mut tree = json!({"push": "off", "sockets": [1]});
        assert_eq!(apply(&mut tree), []);
        assert_eq!(tree, json!({"push": "off", "sockets": [1]}));
    }

    #[test]
    fn flat_keys_have_a_current_name() {
        assert_eq!(current_name("sockets.drain-over"), "sockets.drain-spread");
        assert_eq!(current_name("sockets.drain-over[0]"), "sockets.drain-spread[0]");
        assert_eq!(current_name("sockets.drain-overtime"), "sockets.drain-overtime");
        assert_eq!(current_name("sockets.drain-spread"), "sockets.drain-spread");
    }

    #[test]
    fn no_new_key_is_an_old_one() {
        for renamed in RENAMED {
            assert_eq!(current_name(renamed.new), renamed.new);
        }
    }
}

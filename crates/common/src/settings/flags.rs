//! Feature flags under `flags.*`: on, off, or on for a share of the targeting keys. They change while a service runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The section of the flags.
pub const SECTION: &str = "flags";

/// The resolution of percentages: two decimals.
const WHOLE: u32 = 10_000;

/// The value of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    Off,
    On,
    /// On for this share of the keys, of 10,000.
    Share(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("true, false, or a percentage such as 25% is expected")]
pub struct NotASwitch;

impl Switch {
    /// Reads `true`, `false`, or a percentage with up to two decimals; texts of these too.
    pub fn read(value: &Value) -> Result<Self, NotASwitch> {
        match value {
            Value::Bool(true) => Ok(Self::On),
            Value::Bool(false) => Ok(Self::Off),
            Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "on" | "yes" => Ok(Self::On),
                "false" | "off" | "no" => Ok(Self::Off),
                text => share(text).map(Self::Share).ok_or(NotASwitch),
            },
            _ => Err(NotASwitch),
        }
    }

    /// Returns whether the flag is on for a targeting key. A key has the same result in every process and release, and stays on while the
    /// share grows; its results for different flags are independent.
    #[must_use]
    pub fn is_on(self, flag: &str, targeting_key: &str) -> bool {
        match self {
            Self::Off => false,
            Self::On => true,
            Self::Share(share) => bucket(flag, targeting_key) < share,
        }
    }
}

/// `12.5%` as 1,250 of 10,000.
fn share(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?.trim_end();
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || decimals.len() > 2 {
        return None;
    }
    let hundredths: u32 = format!("{decimals:0<2}").parse().ok()?;
    let share = whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths)?;
    (share <= WHOLE).then_some(share)
}

fn bucket(flag: &str, targeting_key: &str) -> u32 {
    let digest = Sha256::new()
        .chain_update((flag.len() as u64).to_be_bytes())
        .chain_update(flag)
        .chain_update(targeting_key)
        .finalize();
    let (first, _) = digest.split_first_chunk::<4>().expect("SHA-256 has 32 bytes");
    u32::from_be_bytes(*first) % WHOLE
}

/// The present flags of a service. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    switches: RwLock<BTreeMap<String, Switch>>,
    /// The flags that were evaluated since the last report.
    evaluated: Mutex<BTreeSet<String>>,
}

impl Flags {
    /// Returns whether a flag is on for a targeting key (an account, an instance). A flag that is not set is off.
    #[must_use]
    pub fn is_on(&self, flag: &str, targeting_key: &str) -> bool {
        let switch = self.inner.switches.read().get(flag).copied();
        let Some(switch) = switch else { return false };
        let mut evaluated = self.inner.evaluated.lock();
        if !evaluated.contains(flag) {
            evaluated.insert(flag.to_owned());
        }
        switch.is_on(flag, targeting_key)
    }

    pub(super) fn replace(&self, switches: BTreeMap<String, Switch>) {
        *self.inner.switches.write() = switches;
    }

    /// Returns the flags that were evaluated since the last call.
    #[must_use]
    pub fn take_evaluated(&self) -> Vec<String> {
        std::mem::take(&mut *self.inner.evaluated.lock()).into_iter().collect()
    }
}

/// Returns the flags of a section by their dotted names, or the name of an invalid one.
pub(super) fn read_section(section: &Value) -> Result<BTreeMap<String, Switch>, String> {
    fn walk(name: String, node: &Value, switches: &mut BTreeMap<String, Switch>) -> Result<(), String> {
        if let Value::Object(fields) = node {
            for (key, value) in fields {
                let name = if name.is_empty() {
                    key.clone()
                } else {
                    format!("{name}.{key}")
                };
                walk(name, value, switches)?;
            }
            return Ok(());
        }
        // Empty text is an absent value, as in all settings.
        if node.as_str() != Some("") {
            let switch = Switch::read(node).map_err(|_| name.clone())?;
            switches.insert(name, switch);
        }
        Ok(())
    }
    let mut switches = BTreeMap::new();
    walk(String::new(), section, &mut switches)?;
    Ok(switches)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn switches_are_truths_and_percentages() {
        for (value, switch) in [
            (json!(true), Switch::On),
            (json!("false"), Switch::Off),
            (json!("ON"), Switch::On),
            (json!("0%"), Switch::Share(0)),
            (json!("12.5%"), Switch::Share(1250)),
            (json!(" 100 % "), Switch::Share(10_000)),
            (json!("0.05%"), Switch::Share(5)),
        ] {
            assert_eq!(Switch::read(&value), Ok(switch), "{value}");
        }
        for value in [
            json!(25),
            json!("25"),
            json!("101%"),
            json!("-1%"),
            json!("1.234%"),
            json!("%"),
            json!("1.%"),
            json!(null),
            json!([true]),
        ] {
            assert_eq!(Switch::read(&value), Err(NotASwitch), "{value}");
        }
        let section = json!({"a": true, "fault": {"drop": "5%", "none": ""}});
        let read = read_section(&section).unwrap();
        assert_eq!(
            read,
            BTreeMap::from([
                ("a".to_owned(), Switch::On),
                ("fault.drop".to_owned(), Switch::Share(500))
            ])
        );
        assert_eq!(read_section(&json!({"a": {"b": "perhaps"}})), Err("a.b".to_owned()));
    }

    #[test]
    fn a_share_is_stable_and_about_as_large_as_it_says() {
        let on = |flag: &str, share: u32| {
            (0..10_000)
                .filter(|key| Switch::Share(share).is_on(flag, &format!("account-{key}")))
                .count()
        };
        for share in [0, 100, 2500, 5000, 10_000] {
            let count = on("new-feed", share);
            assert!(count.abs_diff(share as usize) < 200, "{share}: {count}");
        }
        // Written down once: another release must not shuffle who has what.
        assert_eq!(bucket("new-feed", "kim@example.com+google"), 230);
        let both = (0..10_000).filter(|key| {
            let key = format!("account-{key}");
            Switch::Share(5000).is_on("a", &key) && Switch::Share(5000).is_on("b", &key)
        });
        assert!(both.count().abs_diff(2500) < 200, "flags do not go together");
    }

    #[test]
    fn an_evaluation_is_reported_once() {
        let flags = Flags::default();
        flags.replace(BTreeMap::from([("a".to_owned(), Switch::On)]));
        assert!(flags.is_on("a", "") && flags.is_on("a", "") && !flags.is_on("unknown", ""));
        assert_eq!(flags.take_evaluated(), ["a"]);
        assert!(flags.take_evaluated().is_empty());
    }

    proptest! {
        #[test]
        fn a_key_with_a_flag_keeps_it_while_the_share_grows(key in ".{0,20}", low in 0_u32..=10_000, more in 0_u32..=10_000) {
            let high = (low + more).min(WHOLE);
            prop_assert!(!Switch::Share(low).is_on("f", &key) || Switch::Share(high).is_on("f", &key));
        }
    }
}

//! Rules of comparison and permitted differences: the embedded `rules.toml`, with an optional file over it.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::discriminant;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail, ensure};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sosohappy_events::Topic;

use super::sides::Side;
use crate::dead_letters;

const DEFAULTS: &str = include_str!("rules.toml");

/// Effect of a route, which decides whether its requests may reach both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Changes nothing: sent to both sides.
    Read,
    /// Sent to both sides only with `--writes`.
    Write,
    /// A WebSocket: passed through to the side that answers; its frames are sent to both sides only with `--writes`.
    Socket,
}

/// Method and path template, as `GET /feed-service/image/{imageId}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub name: String,
    pub method: Method,
    pub path: String,
    pub kind: Kind,
}

/// Permitted difference of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum May {
    Value,
    Anything,
    Order,
    /// Numbers, by less than this.
    Less(f64),
    OnlyOurs,
    /// Names of the same thing, remembered under this name.
    Pair(String),
}

#[derive(Debug)]
pub struct Rule {
    route: Option<String>,
    field: Pattern,
    spring: Option<Value>,
    ours: Option<Value>,
    pub may: May,
    pub reason: String,
    /// Differences it has allowed.
    used: AtomicU64,
}

impl May {
    /// Whether these two values of a field may differ. The order of a list is no matter of its value as a whole.
    fn allows(&self, spring: Option<&Value>, ours: Option<&Value>) -> bool {
        match (self, spring, ours) {
            (Self::Anything, ..) | (Self::OnlyOurs, None, Some(_)) => true,
            (Self::Value, Some(spring), Some(ours)) => discriminant(spring) == discriminant(ours),
            (Self::Pair(_), Some(spring), Some(ours)) => {
                discriminant(spring) == discriminant(ours) && (spring.is_string() || spring.is_number())
            }
            (Self::Less(limit), Some(spring), Some(ours)) => {
                let distance = spring
                    .as_f64()
                    .zip(ours.as_f64())
                    .map(|(spring, ours)| (spring - ours).abs());
                distance.is_some_and(|distance| distance < *limit)
            }
            _ => false,
        }
    }
}

/// How keys and values of a topic are compared.
#[derive(Debug, Clone)]
pub struct TopicRule {
    pub topic: Topic,
    pub key: Part,
    pub value: Part,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Equal,
    Any,
    /// The text after the last comma.
    Last,
    /// These fields of a JSON object.
    Fields(Vec<String>),
}

#[derive(Debug)]
pub struct Rules {
    pub headers: Vec<String>,
    pub templates: Vec<Template>,
    pub topics: Vec<TopicRule>,
    allowances: Vec<Rule>,
    plain: BTreeSet<String>,
    secret: BTreeSet<String>,
}

impl Rules {
    /// Returns the defaults, with this file over them.
    pub fn read(over: Option<&Path>) -> anyhow::Result<Self> {
        let defaults = File::parse(DEFAULTS).context("the embedded rules")?;
        let Some(path) = over else {
            return defaults.rules();
        };
        let read = || {
            let over = File::parse(&std::fs::read_to_string(path)?)?;
            defaults.under(over).rules()
        };
        read().with_context(|| format!("--rules {}", path.display()))
    }

    /// Returns the first rule that allows this difference.
    pub fn allowing(
        &self,
        route: &str,
        field: &[Segment],
        spring: Option<&Value>,
        ours: Option<&Value>,
    ) -> Option<&Rule> {
        let mut rules = self.allowances.iter();
        rules.find(|rule| rule.may.allows(spring, ours) && rule.is_about(route, field, spring, ours))
    }

    /// Returns how many differences each reason has allowed.
    pub fn used(&self) -> BTreeMap<&str, u64> {
        let mut used = BTreeMap::new();
        for rule in &self.allowances {
            let count = rule.used.load(Ordering::Relaxed);
            if count > 0 {
                *used.entry(rule.reason.as_str()).or_default() += count;
            }
        }
        used
    }

    /// Whether the items of this list may come in any order.
    pub fn is_unordered(&self, route: &str, field: &[Segment]) -> bool {
        let mut rules = self.allowances.iter();
        rules.any(|rule| rule.may == May::Order && rule.is_about(route, field, None, None))
    }

    /// Whether text in a field of this name is shown in reports as it is.
    pub fn is_plain(&self, field: &[Segment]) -> bool {
        Self::name(field).is_some_and(|name| self.plain.contains(name))
    }

    /// Whether numbers in a field of this name are secret.
    pub fn is_secret(&self, field: &[Segment]) -> bool {
        Self::name(field).is_some_and(|name| self.secret.contains(name))
    }

    fn name(field: &[Segment]) -> Option<&str> {
        field.iter().rev().find_map(Segment::name)
    }
}

impl Rule {
    pub fn count(&self) {
        self.used.fetch_add(1, Ordering::Relaxed);
    }

    fn is_of(&self, route: &str) -> bool {
        self.route.as_deref().is_none_or(|of| match of.strip_suffix('*') {
            Some(prefix) => route.starts_with(prefix),
            None => route == of,
        })
    }

    fn is_about(&self, route: &str, field: &[Segment], spring: Option<&Value>, ours: Option<&Value>) -> bool {
        let narrowed = |wanted: &Option<Value>, value: Option<&Value>| wanted.is_none() || wanted.as_ref() == value;
        self.is_of(route) && narrowed(&self.spring, spring) && narrowed(&self.ours, ours) && self.field.matches(field)
    }
}

/// One step of the path to a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    Name(String),
    Index(usize),
}

impl Segment {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Index(_) => None,
        }
    }
}

/// Renders a path as rules write it: `body.content[3].weather`.
pub fn render(field: &[Segment]) -> String {
    let mut text = String::new();
    for segment in field {
        match segment {
            Segment::Index(index) => text.extend(["[", &index.to_string(), "]"]),
            Segment::Name(name) if text.is_empty() => text.push_str(name),
            Segment::Name(name) => text.extend([".", name]),
        }
    }
    text
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Name(String),
    AnyIndex,
    Anywhere,
}

/// A path with `[*]` for any item and `**` for any steps.
#[derive(Debug, Clone)]
struct Pattern(Vec<Step>);

impl Pattern {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut steps = Vec::new();
        for part in text.split('.') {
            let name = part.trim_end_matches("[*]");
            ensure!(
                !name.is_empty() && !name.contains(['[', ']']),
                "field `{text}` is invalid: NAME, NAME[*] and ** joined by dots"
            );
            steps.push(if name == "**" {
                Step::Anywhere
            } else {
                Step::Name(name.to_owned())
            });
            steps.extend((0..(part.len() - name.len()) / "[*]".len()).map(|_| Step::AnyIndex));
        }
        Ok(Self(steps))
    }

    fn matches(&self, field: &[Segment]) -> bool {
        fn rest(steps: &[Step], field: &[Segment]) -> bool {
            match (steps, field) {
                ([], []) => true,
                ([Step::Anywhere, steps @ ..], _) => (0..=field.len()).any(|skipped| rest(steps, &field[skipped..])),
                ([Step::Name(name), steps @ ..], [Segment::Name(found), field @ ..]) => {
                    name == found && rest(steps, field)
                }
                ([Step::AnyIndex, steps @ ..], [Segment::Index(_), field @ ..]) => rest(steps, field),
                _ => false,
            }
        }
        rest(&self.0, field)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    headers: Option<Vec<String>>,
    plain: Option<Vec<String>>,
    secret: Option<Vec<String>>,
    routes: BTreeMap<String, RouteEntry>,
    rules: Vec<RuleEntry>,
    topics: BTreeMap<String, TopicEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteEntry {
    kind: Kind,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    route: Option<String>,
    field: String,
    spring: Option<Value>,
    ours: Option<Value>,
    may: MayName,
    r#as: Option<String>,
    decimals: Option<u8>,
    reason: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum MayName {
    Value,
    Anything,
    Order,
    Decimals,
    OnlyOurs,
    Pair,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicEntry {
    key: PartName,
    value: PartName,
    #[serde(default)]
    fields: Vec<String>,
    #[serde(rename = "reason")]
    _reason: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PartName {
    Equal,
    Any,
    Last,
    Fields,
}

impl File {
    fn parse(text: &str) -> anyhow::Result<Self> {
        Ok(toml::from_str(text)?)
    }

    fn under(mut self, over: Self) -> Self {
        self.routes.extend(over.routes);
        self.topics.extend(over.topics);
        Self {
            headers: over.headers.or(self.headers),
            plain: over.plain.or(self.plain),
            secret: over.secret.or(self.secret),
            rules: over.rules.into_iter().chain(self.rules).collect(),
            routes: self.routes,
            topics: self.topics,
        }
    }

    fn rules(self) -> anyhow::Result<Rules> {
        let templates = self.routes.into_iter().map(|(name, entry)| {
            let template = || {
                let (method, path) = name.split_once(' ')?;
                let method = method.parse().ok().filter(|_| path.starts_with('/'))?;
                Some((method, path.to_owned()))
            };
            let (method, path) = template().with_context(|| format!("route `{name}` is invalid: METHOD /PATH"))?;
            Ok(Template {
                method,
                path,
                kind: entry.kind,
                name,
            })
        });
        let topics = self.topics.into_iter().map(|(name, entry)| {
            let part = |part| match part {
                PartName::Equal => Part::Equal,
                PartName::Any => Part::Any,
                PartName::Last => Part::Last,
                PartName::Fields => Part::Fields(entry.fields.clone()),
            };
            Ok(TopicRule {
                topic: dead_letters::topic(&name).map_err(anyhow::Error::msg)?,
                key: part(entry.key),
                value: part(entry.value),
            })
        });
        Ok(Rules {
            headers: self.headers.unwrap_or_default(),
            templates: templates.collect::<anyhow::Result<_>>()?,
            topics: topics.collect::<anyhow::Result<_>>()?,
            allowances: self
                .rules
                .into_iter()
                .map(RuleEntry::rule)
                .collect::<anyhow::Result<_>>()?,
            plain: self.plain.unwrap_or_default().into_iter().collect(),
            secret: self.secret.unwrap_or_default().into_iter().collect(),
        })
    }
}

impl RuleEntry {
    fn rule(self) -> anyhow::Result<Rule> {
        ensure!(
            !self.reason.trim().is_empty(),
            "the rule for `{}` has no reason",
            self.field
        );
        let may = match (self.may, self.r#as, self.decimals) {
            (MayName::Value, None, None) => May::Value,
            (MayName::Anything, None, None) => May::Anything,
            (MayName::Order, None, None) => May::Order,
            (MayName::OnlyOurs, None, None) => May::OnlyOurs,
            (MayName::Decimals, None, Some(decimals)) => May::Less(0.5 * 10f64.powi(-i32::from(decimals)) + 1e-12),
            (MayName::Pair, Some(name), None) => May::Pair(name),
            _ => bail!(
                "the rule for `{}`: `as` belongs to `pair`, `decimals` to `decimals`, and to nothing else",
                self.field
            ),
        };
        Ok(Rule {
            route: self.route,
            field: Pattern::parse(&self.field)?,
            spring: self.spring,
            ours: self.ours,
            may,
            reason: self.reason,
            used: AtomicU64::new(0),
        })
    }
}

/// Names a side as it is written in rules, reports and state.
impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Spring => "spring",
            Self::Ours => "ours",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<Segment> {
        text.split('.')
            .map(|part| {
                part.parse()
                    .map_or_else(|_| Segment::Name(part.to_owned()), Segment::Index)
            })
            .collect()
    }

    #[test]
    fn patterns_match_fields() {
        for (pattern, field, matches) in [
            ("body.happiness", "body.happiness", true),
            ("body.happiness", "body.0.happiness", false),
            ("body[*].happiness", "body.11.happiness", true),
            ("body[*].happiness", "body.a.happiness", false),
            ("**.imageIdList[*]", "body.imageIdList.0", true),
            ("**.imageIdList[*]", "body.content.3.imageIdList.2", true),
            ("**.imageIdList[*]", "body.content.3.imageIdList", false),
            ("body.grid[*][*]", "body.grid.1.2", true),
            ("**", "body.anything.7", true),
            ("body.**.x", "body.x", true),
        ] {
            let found = Pattern::parse(pattern).unwrap().matches(&path(field));
            assert_eq!(found, matches, "{pattern} {field}");
        }
        assert!(Pattern::parse("body[1].x").is_err());
        assert!(Pattern::parse("body..x").is_err());
    }

    #[test]
    fn the_defaults_are_valid_and_a_file_comes_over_them() {
        let rules = Rules::read(None).unwrap();
        let reissue = rules
            .templates
            .iter()
            .find(|template| template.name == "GET /auth-service/reIssueToken");
        assert_eq!(reissue.unwrap().kind, Kind::Write, "a GET that changes something");

        let file = tempfile::NamedTempFile::new().unwrap();
        let over = "plain = [\"text\"]\n\
            [routes.\"GET /auth-service/reIssueToken\"]\nkind = \"read\"\n\
            [[rules]]\nfield = \"status\"\nspring = 200\nours = 400\nmay = \"value\"\nreason = \"a text is required\"\n";
        std::fs::write(file.path(), over).unwrap();
        let rules = Rules::read(Some(file.path())).unwrap();
        let reissue = rules
            .templates
            .iter()
            .find(|template| template.name == "GET /auth-service/reIssueToken");
        assert_eq!(reissue.unwrap().kind, Kind::Read);
        assert!(rules.is_plain(&path("body.text")) && !rules.is_plain(&path("body.weather")));
        let status = path("status");
        let found = |spring: u16, ours: u16| {
            let rule = rules.allowing("GET /x", &status, Some(&spring.into()), Some(&ours.into()));
            rule.map(|rule| rule.reason.as_str())
        };
        assert_eq!(found(200, 400), Some("a text is required"));
        assert_eq!(found(200, 500), None);
    }

    #[test]
    fn invalid_rules_are_refused() {
        for (text, part) in [
            (
                "[[rules]]\nfield = \"status\"\nmay = \"value\"\nreason = \" \"",
                "has no reason",
            ),
            (
                "[[rules]]\nfield = \"status\"\nmay = \"pair\"\nreason = \"x\"",
                "`as` belongs to `pair`",
            ),
            (
                "[routes.\"find /x\"]\nkind = \"read\"\n[routes.\"x\"]\nkind = \"read\"",
                "is invalid: METHOD /PATH",
            ),
            (
                "[topics.nothing]\nkey = \"any\"\nvalue = \"any\"\nreason = \"x\"",
                "is not a topic",
            ),
            ("colour = 1", "unknown field"),
        ] {
            let refused = File::parse(text).and_then(File::rules).map(|_| ()).unwrap_err();
            assert!(format!("{refused:#}").contains(part), "{text}: {refused:#}");
        }
    }
}

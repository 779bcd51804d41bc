//! YAML: parsed into flat properties with positions, and written.
//!
//! `serde-saphyr` parses, resolves aliases, merge keys and scalars, enforces limits, and writes. This module adds positions by flat key, Spring's
//! flattening, and numbers that exceed 64 bits, which become texts so that no digit is lost.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::NonFiniteFloatPolicy;
use serde_saphyr::{DefaultMessageFormatter, Error, Location, MessageFormatter as _, Options, Spanned};

use super::finding::ParseError;
use super::flat::{Properties, join, join_index};
use super::positions::{Position, Positions};

/// Nested lists and mappings. Each takes 45 kB of a stack of 2 MiB in an unoptimised build.
const MAX_DEPTH: usize = 32;
/// Characters of a key.
const MAX_KEY: usize = 16 * 1024;
/// Parser events that the aliases of a file may expand to, one or two for each value.
const MAX_ALIASED: usize = 100_000;

/// One document: its properties and the position of each of their keys, those of sections included.
pub type Document = (Properties, Positions);

/// Parses every document that is not empty. Keys of any type become texts, as in Spring. A duplicate key in a mapping is an error.
pub(super) fn read(text: &str) -> Result<Vec<Document>, ParseError> {
    let documents: Vec<Spanned<Node>> =
        serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| parse_error(&error))?;
    let mut read = Vec::new();
    for document in documents {
        let entries = match document.value {
            Node::Null => continue,
            Node::Mapping(entries) => entries,
            _ => return Err(ParseError::without_line("the document is not a map of keys")),
        };
        let mut flat = Flat {
            text,
            properties: Properties::new(),
            positions: Positions::new(),
        };
        for (key, value) in &entries {
            flat.add(name(text, key), position(key.defined), value);
        }
        read.push((flat.properties, flat.positions));
    }
    Ok(read)
}

/// Returns the options: the core schema of YAML 1.2, with `012` as a text because it is an octal number in YAML 1.1. Nesting and the expansion of
/// aliases are bounded.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            simple_key_max_lookahead: MAX_KEY,
            // An anchor may have many aliases; their expansion is bounded below.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIASED,
        },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        // A snippet in a message would quote values.
        with_snippet: false,
    }
}

fn parse_error(error: &Error) -> ParseError {
    ParseError {
        line: error.location().map(|location| position(location).line),
        reason: reason(error).into_owned(),
    }
}

fn reason(error: &Error) -> Cow<'_, str> {
    match error {
        Error::AliasError { error, .. } => reason(error),
        Error::Budget {
            breach: BudgetBreach::Depth { .. },
            ..
        } => "nested too deep".into(),
        Error::AliasReplayLimitExceeded { .. } => "aliases expand to too many values".into(),
        Error::InvalidScalar { .. }
        | Error::InvalidBooleanStrict { .. }
        | Error::InvalidBinaryBase64 { .. }
        | Error::BinaryNotUtf8 { .. }
        | Error::TaggedScalarCannotDeserializeIntoString { .. } => "the value does not match its tag".into(),
        // A text in braces is a mapping: its keys are parts of a value.
        Error::DuplicateMappingKey { .. } => "duplicate key".into(),
        other => DefaultMessageFormatter.format_message(other),
    }
}

#[derive(Debug)]
enum Node {
    Null,
    Float(f64),
    /// A boolean, an integer or a text.
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Mapping(Vec<(Spanned<Node>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }
}

struct AnyNode;

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Node, E> {
        Ok(Node::Scalar(truth.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Scalar(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Scalar(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Scalar(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Mapping(entries))
    }
}

/// A document while it is flattened.
struct Flat<'a> {
    /// The text of the file.
    text: &'a str,
    properties: Properties,
    positions: Positions,
}

impl Flat<'_> {
    /// Flattens as [`super::flat::flatten`]. The recursion is bounded by [`MAX_DEPTH`].
    fn add(&mut self, path: String, position: Position, node: &Spanned<Node>) {
        match &node.value {
            Node::Mapping(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    self.add(join(&path, &name(self.text, key)), self::position(key.defined), value);
                }
            }
            Node::List(items) if !items.is_empty() => {
                for (index, item) in items.iter().enumerate() {
                    self.add(join_index(&path, index), self::position(item.defined), item);
                }
            }
            Node::Null | Node::Mapping(_) | Node::List(_) => {
                self.properties.insert(path.clone(), Value::from(""));
            }
            Node::Scalar(_) | Node::Float(_) => {
                self.properties.insert(path.clone(), json(self.text, node));
            }
        }
        self.positions.insert(path, position);
    }
}

fn position(location: Location) -> Position {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Position {
        line: number(location.line()),
        column: number(location.column()),
    }
}

fn name(text: &str, key: &Spanned<Node>) -> String {
    match json(text, key) {
        Value::String(name) => name,
        other => other.to_string(),
    }
}

fn json(text: &str, node: &Spanned<Node>) -> Value {
    match &node.value {
        Node::Null => Value::Null,
        Node::Scalar(value) => value.clone(),
        Node::Float(number) => float(*number, source(text, node.defined)),
        Node::List(items) => items.iter().map(|item| json(text, item)).collect(),
        Node::Mapping(entries) => {
            let entries = entries.iter().map(|(key, value)| (name(text, key), json(text, value)));
            Value::Object(entries.collect())
        }
    }
}

/// Returns a number, or its text where a 64-bit float is not finite or loses digits.
fn float(number: f64, source: Option<&str>) -> Value {
    let is_whole = source.is_some_and(|source| {
        let digits = source.strip_prefix(['-', '+']).unwrap_or(source);
        digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    match (Number::from_f64(number).filter(|_| !is_whole), source) {
        (Some(number), _) => Value::Number(number),
        (None, Some(source)) => Value::from(source),
        (None, None) => Value::from(number.to_string()),
    }
}

/// Returns the source text at a location.
fn source(text: &str, location: Location) -> Option<&str> {
    let start = usize::try_from(location.span().byte_offset()?).ok()?;
    let length = usize::try_from(location.span().byte_len()?).ok()?;
    text.get(start..)?.get(..length).map(str::trim_end)
}

/// Writes block style with two spaces a level and lists at the level of their key, as Spring's server does. Texts such as `yes` and `012` are
/// quoted, so that YAML 1.1 parsers such as `SnakeYAML` and YAML 1.2 parsers agree.
#[must_use]
pub fn to_text(value: &Value) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(value, options).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    #[test]
    fn texts_that_yaml_1_1_reads_as_other_types_are_quoted() {
        let document = json!({
            "yes": "no", "a": ["on", "Y", "012", "1:30", "0x1F", "2026-01-01", "1_000", "yesterday", "10 s", "v1.2", ""],
            "b": {"c": [{"d": 1, "e": [true, null]}, [], {}], "long": "one\ntwo"}, "n": 1.5, "t": "true"
        });
        let expected = "\"yes\": \"no\"\na:\n- \"on\"\n- \"Y\"\n- \"012\"\n- \"1:30\"\n- \"0x1F\"\n- \"2026-01-01\"\n- \"1_000\"\n- yesterday\n\
                        - 10 s\n- v1.2\n- \"\"\nb:\n  c:\n  - d: 1\n    e:\n    - true\n    - null\n  - []\n  - {}\n  long: \"one\\ntwo\"\n\"n\": 1.5\nt: \"true\"\n";
        assert_eq!(to_text(&document), expected);
        assert_eq!(to_text(&json!({})), "{}\n");
    }

    fn values() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~\n행]{0,12}".prop_map(Value::from),
        ];
        scalar.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[ -~]{0,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Pieces of broken files.
    const PARTS: &[&str] = &[
        "s3cret",
        "s3cret",
        "a: ",
        "? ",
        ": ",
        "- ",
        "\n",
        "\n  ",
        " ",
        "\t",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "'",
        "\"",
        "\\",
        "|",
        ">",
        "&s3cret ",
        "*s3cret",
        "!",
        "!!",
        "!!int ",
        "!!bool ",
        "!!float ",
        "!!binary ",
        "!!null ",
        "!!str ",
        "!!map ",
        "!!set ",
        "!s3cret ",
        "!s3cret!b ",
        "<<: ",
        "%s3cret ",
        "%TAG ! ",
        "%YAML ",
        "---\n",
        "...\n",
        "#",
        "@",
        "`",
        "\u{7}",
        "\u{feff}",
        "0x",
        "1e999",
        ".inf",
        "~",
    ];

    proptest! {
        #[test]
        fn written_documents_are_read_unchanged(value in values()) {
            let document = Value::Object(Map::from_iter([("root".to_owned(), value)]));
            let read = read(&to_text(&document)).unwrap();
            prop_assert_eq!(&read[0].0, &super::super::flat::flatten(document));
        }

        #[test]
        fn no_reason_quotes_a_part_of_a_broken_text(parts in proptest::collection::vec(proptest::sample::select(PARTS), 0..16)) {
            if let Err(error) = read(&parts.concat()) {
                prop_assert!(!error.reason.contains("s3cret"), "{}", error.reason);
            }
        }

        #[test]
        fn any_text_is_handled(text in "[-a0:?#&*!<>|%@\\[\\]{}, \n\"'.~]{0,64}") {
            let _ = read(&text);
        }
    }

    fn properties(text: &str) -> Value {
        Value::Object(read(text).unwrap().swap_remove(0).0)
    }

    fn refused(text: &str) -> (Option<usize>, String) {
        let parse_error = read(text).unwrap_err();
        (parse_error.line, parse_error.reason)
    }

    #[test]
    fn scalars_are_those_of_the_core_schema() {
        let text = "a: [1, -2, +3, 0x1F, 0o17, 0b11, 1.5, -.5, 1e3, 012, 1_000, 1:30, yes, ~, 'no', \"3\", !!str 4, !local 5]\n8080: port\ntrue: yes\n[b, 1]: list\nlast: |\n  block";
        assert_eq!(
            properties(text),
            json!({
                "a[0]": 1, "a[1]": -2, "a[2]": 3, "a[3]": 31, "a[4]": 15, "a[5]": 3, "a[6]": 1.5, "a[7]": -0.5, "a[8]": 1000.0, "a[9]": "012",
                "a[10]": "1_000", "a[11]": "1:30", "a[12]": "yes", "a[13]": "", "a[14]": "no", "a[15]": "3", "a[16]": "4", "a[17]": 5,
                "8080": "port", "true": "yes", "[\"b\",1]": "list", "last": "block\n",
            })
        );
        assert_eq!(properties("last: >\n  block\n"), json!({"last": "block\n"}));
        let zeros = properties("a: [08, -012, +012, 0, 0.5]");
        assert_eq!(
            zeros,
            json!({"a[0]": "08", "a[1]": "-012", "a[2]": "+012", "a[3]": 0, "a[4]": 0.5})
        );
    }

    #[test]
    fn numbers_of_any_size_are_read() {
        let text = "pin: 123456789012345678901234567890\nmost: 18446744073709551615\n\
                    least: -9223372036854775808\nfloat: 1e999\nnone: .inf\n";
        assert_eq!(
            properties(text),
            json!({
                "pin": "123456789012345678901234567890", "most": u64::MAX, "least": i64::MIN,
                "float": "1e999", "none": ".inf",
            })
        );
    }

    #[test]
    fn no_reason_quotes_a_value() {
        for text in [
            "password: \"s3cret-word",
            "password: [s3cret-word",
            "password: *s3cret-word",
            "password: s3cret-word: s3cret-word",
            "s3cret-word",
            "- s3cret-word",
            "password: |s3cret-word\n",
            "password: !s3cret!word x",
            "<<: s3cret-word",
            "password: {s3cret-word, s3cret-word}",
            "password: !!str [s3cret-word]",
            "password: {s3cret-word: 1, s3cret-word: 2}",
        ] {
            let (_, reason) = refused(text);
            assert!(!reason.contains("s3cret"), "{text}: {reason}");
        }
        // One text for each error of a tag: texts of the parser may quote values in its later releases.
        for value in [
            "!!int s3cret-word",
            "!!float s3cret-word",
            "!!bool s3cret-word",
            "!!bool yes",
            "!!binary s3cret-word",
            "!!binary /w==",
            "!!timestamp s3cret-word",
        ] {
            let expected = (Some(2), "the value does not match its tag".to_owned());
            assert_eq!(refused(&format!("a: 1\npassword: {value}")), expected, "{value}");
            let aliased = format!("a: 1\nb: &b {value}\npassword: *b");
            assert_eq!(refused(&aliased), expected, "{value} with an anchor");
        }
        assert_eq!(refused("a: 1\na: 2"), (Some(2), "duplicate key".to_owned()));
    }

    #[test]
    fn anchors_and_merges_are_read() {
        let text = "base: &base {a: 1, b: &b [2]}\nother: {<<: *base, a: 3}\nboth: {<<: [{c: 4, a: 5}, *base], '<<': text}\nlist: *b\n";
        assert_eq!(
            properties(text),
            json!({
                "base.a": 1, "base.b[0]": 2, "other.a": 3, "other.b[0]": 2, "both.<<": "text", "both.c": 4, "both.a": 5, "both.b[0]": 2,
                "list[0]": 2,
            })
        );
        assert_eq!(refused("a: {b: 1,\n b: 2}").0, Some(2), "a key that comes twice");
    }

    #[test]
    fn nesting_and_aliases_are_bounded() {
        let nested = |depth: usize| format!("a: {}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(MAX_DEPTH - 1)).is_ok());
        assert_eq!(refused(&nested(MAX_DEPTH)).1, "nested too deep");
        assert_eq!(
            refused(&nested(1_000_000)).1,
            "recursion limit exceeded",
            "by the parser"
        );
        let blocks = (0..1000)
            .map(|level| format!("{}a:\n", " ".repeat(level)))
            .collect::<Vec<_>>()
            .concat();
        assert_eq!(refused(&blocks), (Some(MAX_DEPTH + 1), "nested too deep".to_owned()));
        let chain = (1..200)
            .map(|level| format!("a{level}: &a{level} [*a{}]\n", level - 1))
            .collect::<Vec<_>>()
            .concat();
        assert_eq!(refused(&format!("a0: &a0 x\n{chain}")).1, "nested too deep");
        let laughs = (1..20)
            .map(|level| format!("a{level}: &a{level} [{}]\n", format!("*a{},", level - 1).repeat(9)))
            .collect::<Vec<_>>()
            .concat();
        assert_eq!(
            refused(&format!("a0: &a0 x\n{laughs}")).1,
            "aliases expand to too many values"
        );
        assert_eq!(refused("a: &a [*a]").0, Some(1), "an alias inside of its own anchor");
    }

    #[test]
    fn keys_of_all_shapes_have_positions() {
        use crate::domain::positions::nearest;

        let text = "# note\na:\n  b: [x, {c: 1}]\n  'd.e': |\n    long\n    text\n---\n\n---\nf:\n  - 1\n  - g: 2\n";
        let documents = read(text).unwrap();
        assert_eq!(documents.len(), 2, "an empty document is skipped");
        let line = |document: usize, key: &str| documents[document].1.get(key).map(|position| position.line);
        for (document, key, expected) in [
            (0, "a", 2),
            (0, "a.b", 3),
            (0, "a.b[1].c", 3),
            (0, "a.d.e", 4),
            (1, "f[0]", 11),
            (1, "f[1].g", 12),
        ] {
            assert_eq!(line(document, key), Some(expected), "{key}");
        }
        let nearest = |key: &str| nearest(&documents[0].1, key).map(|position| position.line);
        assert_eq!((nearest("a.b[7].z"), nearest("z")), (Some(3), None));
        let json = read("{\n  \"a\": {\n    \"b\": true\n  }\n}\n").unwrap();
        assert_eq!(json[0].1["a.b"], Position { line: 3, column: 5 });
    }
}

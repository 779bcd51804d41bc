//! Deserializes a tree of texts, numbers and lists by the types that are asked for.
//!
//! A number may come as text (`"8891"` from the environment or a form), text as a number, one value where a list
//! is asked for. A value that JSON would refuse only for its type is converted; an invalid one is an error that names
//! its path, and never quotes the value, which may be a secret.
//!
//! Settings are read with [`from_settings`], which also returns the keys that no structure has.

use std::fmt::{self, Display};

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

/// An invalid value: the reason, and its path in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Error {
    /// From the root: `server.port`, `categoryList[2]`; empty at the root.
    pub path: String,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Missing,
    /// Not a key of the structure at this path; the path ends in it.
    Unknown,
    Wrong(String),
}

impl Error {
    fn wrong(reason: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            kind: Kind::Wrong(reason.into()),
        }
    }

    fn under(mut self, key: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        self.path = format!("{key}{dot}{}", self.path);
        self
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        self.kind.fmt(f)
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Unknown => f.write_str("unknown key"),
            Self::Wrong(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: Display>(reason: T) -> Self {
        Self::wrong(reason.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            path: field.to_owned(),
            kind: Kind::Missing,
        }
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::wrong(format!("{expected} is expected"))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::wrong(format!("{expected} is expected"))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::wrong(format!("{} is expected", expected.join(" or ")))
    }

    fn unknown_field(field: &str, _expected: &'static [&'static str]) -> Self {
        Self {
            path: field.to_owned(),
            kind: Kind::Unknown,
        }
    }
}

/// How empty text is read where a value is optional.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Empty {
    /// As an empty text: a valid parameter.
    Text,
    /// As an absent value: a setting that is switched off.
    Nothing,
}

pub(crate) fn from_tree<T: DeserializeOwned>(tree: &Value, empty: Empty) -> Result<T, Error> {
    T::deserialize(Node { value: tree, empty })
}

/// Reads settings, and returns the paths of all unknown keys, which are left out. A structure with `deny_unknown_fields`
/// refuses them instead, so settings have that in their schemas only.
pub(crate) fn from_settings<T: DeserializeOwned>(tree: &Value) -> (Result<T, Error>, Vec<String>) {
    let mut unknown = Vec::new();
    let node = Node {
        value: tree,
        empty: Empty::Nothing,
    };
    let settings = serde_ignored::deserialize(node, |path| unknown.push(path_of(&path)));
    (settings, unknown)
}

/// Formats a path as in [`Error::path`].
fn path_of(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", path_of(parent)),
        Path::Map { parent, key } => match path_of(parent) {
            section if section.is_empty() => key.clone(),
            section => format!("{section}.{key}"),
        },
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => path_of(parent),
    }
}

#[derive(Clone, Copy)]
struct Node<'a> {
    value: &'a Value,
    empty: Empty,
}

impl<'a> Node<'a> {
    fn child(self, value: &'a Value) -> Self {
        Self { value, ..self }
    }

    /// Returns the value of a list of one; a field that is given twice is invalid where one value is asked for.
    fn single(self) -> Result<&'a Value, Error> {
        match self.value {
            Value::Array(items) => match items.as_slice() {
                [one] => Ok(one),
                [] => Err(Error::wrong("one value is expected, not an empty list")),
                _ => Err(Error::wrong("given more than once")),
            },
            one => Ok(one),
        }
    }

    fn number<N: std::str::FromStr>(
        self,
        expected: &str,
        from: impl Fn(&serde_json::Number) -> Option<N>,
    ) -> Result<N, Error> {
        let number = match self.single()? {
            Value::Number(number) => from(number),
            Value::String(text) => text.trim().parse().ok(),
            Value::Null => {
                return Err(Error {
                    path: String::new(),
                    kind: Kind::Missing,
                });
            }
            _ => None,
        };
        number.ok_or_else(|| Error::wrong(format!("{expected} is expected")))
    }

    fn text(self) -> Result<std::borrow::Cow<'a, str>, Error> {
        match self.single()? {
            Value::String(text) => Ok(text.into()),
            Value::Number(number) => Ok(number.to_string().into()),
            Value::Bool(yes) => Ok(yes.to_string().into()),
            Value::Null => Err(Error {
                path: String::new(),
                kind: Kind::Missing,
            }),
            Value::Array(_) | Value::Object(_) => Err(Error::wrong("text is expected")),
        }
    }

    fn object(self) -> Result<&'a Map<String, Value>, Error> {
        match self.value {
            Value::Object(map) => Ok(map),
            Value::Null => Err(Error {
                path: String::new(),
                kind: Kind::Missing,
            }),
            _ => Err(Error::wrong("a group of named values is expected")),
        }
    }
}

fn whole(number: &serde_json::Number) -> Option<i128> {
    if let Some(whole) = number.as_i128() {
        return Some(whole);
    }
    let float = number.as_f64()?;
    // Within 2^53 a float without a fraction is exactly the whole number it shows.
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and within 2^53")]
    (float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0).then_some(float as i128)
}

macro_rules! whole_numbers {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let expected = concat!("a whole number (", stringify!($type), ")");
            visitor.$visit(self.number::<$type>(expected, |number| whole(number)?.try_into().ok())?)
        }
    )*};
}

macro_rules! floats {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let number: f64 = self.number("a number", serde_json::Number::as_f64)?;
            if !number.is_finite() {
                return Err(Error::wrong("a finite number is expected"));
            }
            visitor.visit_f64(number)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Node<'_> {
    type Error = Error;

    whole_numbers! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    floats! { deserialize_f32 deserialize_f64 }

    // No parameter and no setting has one of these types.
    forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct tuple_struct }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(yes) => visitor.visit_bool(*yes),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(whole), _, _) => visitor.visit_i64(whole),
                (None, Some(whole), _) => visitor.visit_u64(whole),
                (None, None, Some(float)) => visitor.visit_f64(float),
                (None, None, None) => Err(Error::wrong("a number that fits is expected")),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    /// The app sends booleans as `true` or as `1`, Spring's clients also as `on` and `yes`.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let text = self.text()?.trim().to_ascii_lowercase();
        match text.as_str() {
            "true" | "1" | "on" | "yes" => visitor.visit_bool(true),
            "false" | "0" | "off" | "no" => visitor.visit_bool(false),
            _ => Err(Error::wrong("true or false is expected")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(&self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let nothing = match self.value {
            Value::Null => true,
            Value::String(text) => text.is_empty() && self.empty == Empty::Nothing,
            _ => false,
        };
        if nothing {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let items = match self.value {
            Value::Array(items) => items.as_slice(),
            Value::Null => &[],
            one => std::slice::from_ref(one),
        };
        visitor.visit_seq(Items {
            node: self,
            items: items.iter().enumerate(),
        })
    }

    /// A tuple of structures reads each of them from the same group of values. `#[serde(flatten)]` would not convert texts, and its errors would
    /// name no path.
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(_) => visitor.visit_seq(Parts { node: self, left: len }),
            _ => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let iter = self.object()?.iter();
        visitor.visit_map(Entries {
            node: self,
            iter,
            current: None,
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    /// Variants without content; nothing on the wire or in the settings has others.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let text = self.text()?;
        visitor.visit_enum(StrDeserializer::<Error>::new(&text))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

struct Items<'a> {
    node: Node<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((index, item)) = self.items.next() else {
            return Ok(None);
        };
        let item = seed
            .deserialize(self.node.child(item))
            .map_err(|error| error.under(&format!("[{index}]")))?;
        Ok(Some(item))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The parts of a tuple, each read from the whole node.
struct Parts<'a> {
    node: Node<'a>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Parts<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(self.node).map(Some)
    }
}

struct Entries<'a> {
    node: Node<'a>,
    iter: serde_json::map::Iter<'a>,
    current: Option<(&'a str, &'a Value)>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.iter.next() else {
            return Ok(None);
        };
        self.current = Some((key, value));
        seed.deserialize(StrDeserializer::<Error>::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, value) = self.current.take().expect("serde asks for a value after its key");
        seed.deserialize(self.node.child(value))
            .map_err(|error| error.under(key))
    }
}

/// `#[serde(deserialize_with = "comma_list")]`: a list whose items may also be joined by commas. Items are
/// trimmed, empty ones left out.
pub fn comma_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Joined;

    impl<'de> Visitor<'de> for Joined {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of texts, or one text joined by commas")
        }

        fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
            Ok(split(text).collect())
        }

        fn visit_unit<E>(self) -> Result<Vec<String>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
            let mut all = Vec::new();
            while let Some(text) = items.next_element::<String>()? {
                all.extend(split(&text));
            }
            Ok(all)
        }
    }

    deserializer.deserialize_any(Joined)
}

fn split(text: &str) -> impl Iterator<Item = String> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
#[path = "lenient_tests.rs"]
mod tests;

use serde::Deserialize;
use serde_json::json;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Colour {
    DeepBlue,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Inner {
    port: u16,
    #[serde(default)]
    list: Vec<i64>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Outer {
    inner: Inner,
    colour: Option<Colour>,
    text: Option<String>,
    on: Option<bool>,
    ratio: Option<f64>,
}

fn read(tree: &Value) -> Result<Outer, String> {
    from_tree(tree, Empty::Text).map_err(|error| error.to_string())
}

#[test]
fn texts_become_what_is_asked_for() {
    let tree = json!({
        "inner": {"port": " 8891 ", "list": "5"}, "colour": "deep-blue", "text": 12, "on": "1", "ratio": "0.5"
    });
    let outer = read(&tree).expect("all of it has a reading");
    let inner = Inner {
        port: 8891,
        list: vec![5],
    };
    let expected = Outer {
        inner,
        colour: Some(Colour::DeepBlue),
        text: Some("12".to_owned()),
        on: Some(true),
        ratio: Some(0.5),
    };
    assert_eq!(outer, expected);
}

#[test]
fn the_parts_of_a_tuple_are_read_from_the_same_group() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Address {
        port: u16,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    struct Painted {
        colour: Colour,
        port: u16,
    }
    let read = |tree: Value| from_tree::<(Address, Painted)>(&tree, Empty::Text).map_err(|error| error.to_string());
    let painted = Painted {
        colour: Colour::DeepBlue,
        port: 8891,
    };
    assert_eq!(
        read(json!({"port": "8891", "colour": "deep-blue"})),
        Ok((Address { port: 8891 }, painted))
    );
    assert_eq!(
        read(json!({"port": "x", "colour": "deep-blue"})),
        Err("port: a whole number (u16) is expected".to_owned())
    );
    assert_eq!(read(json!({"port": 1})), Err("colour: missing".to_owned()));
    assert_eq!(from_tree::<(u8, u8)>(&json!(["1", 2]), Empty::Text), Ok((1, 2)));
}

#[test]
fn errors_name_the_path() {
    let told = |tree: Value| read(&tree).expect_err("it is wrong");
    assert_eq!(told(json!({})), "inner: missing");
    assert_eq!(told(json!({"inner": {}})), "inner.port: missing");
    assert_eq!(
        told(json!({"inner": {"port": "x"}})),
        "inner.port: a whole number (u16) is expected"
    );
    assert_eq!(
        told(json!({"inner": {"port": 65536}})),
        "inner.port: a whole number (u16) is expected"
    );
    assert_eq!(
        told(json!({"inner": {"port": 1.5}})),
        "inner.port: a whole number (u16) is expected"
    );
    assert_eq!(
        told(json!({"inner": {"port": 1, "prot": 2}})),
        "inner.prot: unknown key"
    );
    assert_eq!(
        told(json!({"inner": {"port": ["1", "2"]}})),
        "inner.port: given more than once"
    );
    assert_eq!(
        told(json!({"inner": {"port": 1, "list": [1, "b"]}})),
        "inner.list[1]: a whole number (i64) is expected"
    );
    assert_eq!(told(json!({"inner": 5})), "inner: a group of named values is expected");
    assert_eq!(
        told(json!({"inner": {"port": 1}, "ratio": "NaN"})),
        "ratio: a finite number is expected"
    );
    assert_eq!(
        told(json!({"inner": {"port": 1}, "colour": "red"})),
        "colour: deep-blue is expected"
    );
}

#[test]
fn whole_floats_are_whole_numbers() {
    assert_eq!(from_tree::<i64>(&json!(5.0), Empty::Text), Ok(5));
    assert!(from_tree::<i64>(&json!(1e300), Empty::Text).is_err());
    assert_eq!(from_tree::<u64>(&json!(u64::MAX), Empty::Text), Ok(u64::MAX));
    assert_eq!(
        from_tree::<i64>(&json!("9223372036854775807"), Empty::Text),
        Ok(i64::MAX)
    );
}

#[test]
fn empty_text_is_nothing_only_where_said() {
    assert_eq!(
        from_tree::<Option<String>>(&json!(""), Empty::Text),
        Ok(Some(String::new()))
    );
    assert_eq!(from_tree::<Option<String>>(&json!(""), Empty::Nothing), Ok(None));
}

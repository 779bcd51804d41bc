//! Compares two answers to one request, field by field.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use super::rules::{May, Rules, Segment};

/// A whole answer of one side.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A field that differs where no rule allows it. `None` where the side has no such field.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    pub field: Vec<Segment>,
    pub spring: Option<Value>,
    pub ours: Option<Value>,
}

/// Two names of the same thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The header, parameter or part of a path that clients present it in.
    pub name: String,
    pub spring: String,
    pub ours: String,
}

/// Result of a comparison of two answers.
#[derive(Debug, Default, PartialEq)]
pub struct Findings {
    /// At most [`MOST_DIFFERENCES`]; one answer that is wholly different fills no disk.
    pub differences: Vec<Difference>,
    pub pairs: Vec<Pair>,
}

pub const MOST_DIFFERENCES: usize = 20;

/// Compares status, headers and body. Bodies of refusals are not compared: clients decide by the status, and ours are problem
/// details where Spring's are its error page.
pub fn compare(rules: &Rules, route: &str, spring: &Answer, ours: &Answer) -> Findings {
    let mut comparison = Comparison {
        rules,
        route,
        field: Vec::new(),
        findings: Findings::default(),
    };
    let status = |answer: &Answer| Value::from(answer.status.as_u16());
    comparison.at("status", Some(&status(spring)), Some(&status(ours)));
    // With another status everything else differs as well.
    if spring.status != ours.status {
        return comparison.findings;
    }
    let is_refusal = spring.status.is_client_error() || spring.status.is_server_error();
    for name in &rules.headers {
        if is_refusal && name == header::CONTENT_TYPE.as_str() {
            continue;
        }
        let value = |answer: &Answer| header_value(name, &answer.headers);
        comparison.field.push(Segment::Name("header".to_owned()));
        comparison.at(name, value(spring).as_ref(), value(ours).as_ref());
        comparison.field.pop();
    }
    if !is_refusal && spring.body != ours.body {
        comparison.at("body", body_value(spring).as_ref(), body_value(ours).as_ref());
    }
    comparison.findings
}

/// Returns a header as it is compared: of `content-type` the media type, without parameters. An empty body has no type.
fn header_value(name: &str, headers: &HeaderMap) -> Option<Value> {
    let text = String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned();
    if name != header::CONTENT_TYPE.as_str() {
        return Some(text.into());
    }
    let is_empty = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (!is_empty).then(|| essence.into())
}

/// Returns a body as JSON; a body of another type is compared as a string of its bytes.
fn body_value(answer: &Answer) -> Option<Value> {
    if answer.body.is_empty() {
        return None;
    }
    let as_text = || String::from_utf8_lossy(&answer.body).into_owned().into();
    Some(serde_json::from_slice(&answer.body).unwrap_or_else(|_| as_text()))
}

struct Comparison<'a> {
    rules: &'a Rules,
    route: &'a str,
    field: Vec<Segment>,
    findings: Findings,
}

impl Comparison<'_> {
    fn at(&mut self, name: &str, spring: Option<&Value>, ours: Option<&Value>) {
        self.field.push(Segment::Name(name.to_owned()));
        self.values(spring, ours);
        self.field.pop();
    }

    fn values(&mut self, spring: Option<&Value>, ours: Option<&Value>) {
        if self.findings.differences.len() >= MOST_DIFFERENCES || equal(spring, ours) {
            return;
        }
        if let Some(rule) = self.rules.allowing(self.route, &self.field, spring, ours) {
            rule.count();
            if let (May::Pair(name), Some(spring), Some(ours)) = (&rule.may, spring, ours) {
                self.findings.pairs.push(Pair {
                    name: name.clone(),
                    spring: plain_text(spring),
                    ours: plain_text(ours),
                });
            }
            return;
        }
        match (spring, ours) {
            (Some(Value::Object(spring)), Some(Value::Object(ours))) => {
                for (name, value) in spring {
                    self.at(name, Some(value), ours.get(name));
                }
                for (name, value) in ours {
                    if !spring.contains_key(name) {
                        self.at(name, None, Some(value));
                    }
                }
            }
            (Some(Value::Array(spring)), Some(Value::Array(ours))) => {
                let unordered = self.rules.is_unordered(self.route, &self.field);
                let sorted = |items: &[Value]| {
                    let mut items: Vec<_> = items.to_vec();
                    if unordered {
                        items.sort_by_cached_key(Value::to_string);
                    }
                    items
                };
                let (spring, ours) = (sorted(spring), sorted(ours));
                for index in 0..spring.len().max(ours.len()) {
                    self.field.push(Segment::Index(index));
                    self.values(spring.get(index), ours.get(index));
                    self.field.pop();
                }
            }
            _ => self.findings.differences.push(Difference {
                field: self.field.clone(),
                spring: spring.cloned(),
                ours: ours.cloned(),
            }),
        }
    }
}

/// Numbers are equal by value: `1` and `1.0` are one number in JSON.
fn equal(spring: Option<&Value>, ours: Option<&Value>) -> bool {
    match (spring, ours) {
        (Some(Value::Number(one)), Some(Value::Number(other))) if one.is_f64() || other.is_f64() => {
            one.as_f64() == other.as_f64()
        }
        _ => spring == ours,
    }
}

/// Returns a value as a client sends it in a parameter.
fn plain_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rules::render;
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.collect(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn fields(route: &str, spring: &Answer, ours: &Answer) -> Vec<String> {
        let findings = compare(&Rules::read(None).unwrap(), route, spring, ours);
        findings
            .differences
            .iter()
            .map(|difference| render(&difference.field))
            .collect()
    }

    fn bodies(route: &str, spring: &Value, ours: &Value) -> Vec<String> {
        let of = |body: &Value| answer(200, &[], &body.to_string());
        fields(route, &of(spring), &of(ours))
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        const ROUTE: &str = "POST /feed-service/findDayFeed";
        let post =
            json!({"nickname": "kim", "happiness": 3, "isPublic": true, "text": null, "categoryList": ["sea", "home"]});
        let with = |name: &str, value: Value| {
            let mut post = post.clone();
            post[name] = value;
            post
        };
        let without = |name: &str| {
            let mut post = post.clone();
            post.as_object_mut().unwrap().remove(name);
            post
        };
        let none: [&str; 0] = [];
        assert_eq!(bodies(ROUTE, &post, &post), none);
        assert_eq!(bodies(ROUTE, &post, &with("happiness", json!(3.0))), none, "one number");
        assert_eq!(bodies(ROUTE, &post, &with("happiness", json!(4))), ["body.happiness"]);
        assert_eq!(
            bodies(ROUTE, &post, &with("happiness", json!("3"))),
            ["body.happiness"],
            "another type"
        );
        assert_eq!(
            bodies(ROUTE, &post, &with("text", json!(""))),
            ["body.text"],
            "null is not empty"
        );
        assert_eq!(
            bodies(ROUTE, &post, &without("text")),
            ["body.text"],
            "null is not absent"
        );
        assert_eq!(
            bodies(ROUTE, &post, &with("comments", json!(2))),
            none,
            "a field that only ours has"
        );
        assert_eq!(bodies(ROUTE, &with("comments", json!(2)), &post), ["body.comments"]);
        assert_eq!(
            bodies(ROUTE, &post, &with("categoryList", json!(["home", "sea"]))),
            none,
            "a set"
        );
        assert_eq!(
            bodies(ROUTE, &post, &with("categoryList", json!(["home", "sky"]))),
            ["body.categoryList[1]"]
        );
        assert_eq!(
            bodies(ROUTE, &post, &with("categoryList", json!(["home"]))),
            ["body.categoryList[1]"]
        );
        assert_eq!(bodies(ROUTE, &post, &json!([post])), ["body"]);
        let whole = answer(200, &[], &post.to_string());
        assert_eq!(fields(ROUTE, &whole, &answer(200, &[], "")), ["body"], "an empty body");
        assert_eq!(fields(ROUTE, &whole, &answer(404, &[], "")), ["status"]);
        assert_eq!(
            fields(ROUTE, &whole, &answer(200, &[("email", "a+kakao")], &post.to_string())),
            none,
            "only ours"
        );
        assert_eq!(
            fields(ROUTE, &answer(200, &[("email", "a+kakao")], ""), &answer(200, &[], "")),
            ["header.email"]
        );
        let typed = |kind| answer(200, &[("content-type", kind)], &post.to_string());
        assert_eq!(
            fields(
                ROUTE,
                &typed("application/json"),
                &typed("application/json;charset=UTF-8")
            ),
            none
        );
        assert_eq!(
            fields(ROUTE, &typed("application/json"), &typed("text/plain")),
            ["header.content-type"]
        );
    }

    #[test]
    fn lists_keep_their_order_where_no_rule_says_otherwise() {
        let slice = |days: [u8; 2]| json!({"content": days.map(|day| json!({"date": day}))});
        let found = bodies("GET /feed-service/findOtherFeed", &slice([1, 2]), &slice([2, 1]));
        assert_eq!(found, ["body.content[0].date", "body.content[1].date"]);
    }

    #[test]
    fn refusals_are_compared_by_their_status() {
        let spring = answer(403, &[("content-type", "text/html")], "<html>");
        let ours = answer(
            403,
            &[("content-type", "application/problem+json")],
            "{\"code\":\"expired\"}",
        );
        assert_eq!(fields("POST /feed-service/findDayFeed", &spring, &ours), [""; 0]);
        assert_eq!(
            fields("POST /feed-service/findDayFeed", &spring, &answer(404, &[], "")),
            ["status"]
        );
    }

    #[test]
    fn year_averages_have_four_decimals() {
        let year = |average: f64| json!([{"happiness": average, "formattedDate": "Jan"}]);
        let route = "POST /feed-service/findYearHappiness";
        assert_eq!(bodies(route, &year(3.3333), &year(10.0 / 3.0)), [""; 0]);
        assert_eq!(bodies(route, &year(3.3333), &year(3.3334)), ["body[0].happiness"]);
        assert_eq!(
            bodies("GET /other", &year(3.3333), &year(10.0 / 3.0)),
            ["body[0].happiness"]
        );
    }

    #[test]
    fn names_of_the_same_thing_are_paired() {
        let spring = answer(200, &[("authorization", "Bearer s")], "{\"imageIdList\":[1,2]}");
        let ours = answer(200, &[("authorization", "Bearer o")], "{\"imageIdList\":[71,2]}");
        let found = compare(
            &Rules::read(None).unwrap(),
            "POST /feed-service/findDayFeed",
            &spring,
            &ours,
        );
        assert_eq!(found.differences, []);
        let pair = |name: &str, spring: &str, ours: &str| Pair {
            name: name.to_owned(),
            spring: spring.to_owned(),
            ours: ours.to_owned(),
        };
        assert_eq!(
            found.pairs,
            [
                pair("authorization", "Bearer s", "Bearer o"),
                pair("imageId", "1", "71")
            ]
        );
        let fewer = answer(200, &[("authorization", "Bearer o")], "{\"imageIdList\":[71]}");
        assert_eq!(
            fields("POST /x", &spring, &fewer),
            ["body.imageIdList[1]"],
            "one is missing"
        );
    }

    #[test]
    fn a_wholly_different_answer_is_bounded() {
        let list = |from: usize| (from..from + 100).map(Value::from).collect::<Value>();
        assert_eq!(bodies("GET /x", &list(0), &list(1000)).len(), MOST_DIFFERENCES);
    }
}

//! Parses `Content-Type` leniently.

/// Returns the media type in lower case, without its parameters.
pub(super) fn essence(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// Returns whether this media type is JSON: `application/json`, or one with the suffix `+json`.
pub(super) fn is_json(essence: &str) -> bool {
    essence == "application/json" || essence.ends_with("+json")
}

/// Returns the boundary of a multipart body, up to the next `;` where it is not quoted: React Native on iOS and `JavaMail` send boundaries
/// unquoted that RFC 2045 wants quoted (`boundary=-Xr/dc=2`).
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let mut rest = content_type.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        // The name may follow parameters without a value: `; x; boundary=…`.
        let name = name.rsplit(';').next().unwrap_or_default().trim();
        let (value, next) = parameter_value(after.trim_start());
        if name.eq_ignore_ascii_case("boundary") {
            return (!value.is_empty()).then_some(value);
        }
        rest = next;
    }
}

/// Splits the text into the value at its start and the rest.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, next) = text.split_once(';').unwrap_or((text, ""));
        return (value.trim().to_owned(), next);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            plain => value.push(plain),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_read_as_clients_write_them() {
        for (content_type, expected) in [
            ("multipart/form-data; boundary=-Xr/dc=2", Some("-Xr/dc=2")),
            (
                "multipart/form-data; boundary=----=_Part_1_2.3; charset=UTF-8",
                Some("----=_Part_1_2.3"),
            ),
            ("multipart/form-data; charset=utf-8; BOUNDARY=x", Some("x")),
            ("multipart/form-data;boundary=\"a;b \\\"c\"; x=y", Some("a;b \"c")),
            ("multipart/form-data; x=\"boundary=no\"; boundary=yes", Some("yes")),
            ("multipart/form-data; x; boundary = y ", Some("y")),
            ("multipart/form-data; boundary=(a)+,b:c?'", Some("(a)+,b:c?'")),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=\"\"", None),
            ("multipart/form-data; boundary", None),
            ("multipart/form-data", None),
        ] {
            assert_eq!(boundary(content_type).as_deref(), expected, "{content_type}");
        }
    }
}

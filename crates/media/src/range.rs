//! Ranges of bytes, RFC 9110 section 14: one range a request.

use std::ops::Range;

use http::{HeaderMap, Method, header};

/// Part of a body of known size that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Whole,
    Part(Range<u64>),
    /// No byte of the range is there: 416.
    Unsatisfiable,
}

/// Reads `Range` and `If-Range`. Another unit, or more than one range, is ignored, as the RFC allows: the answer
/// is the whole.
pub(crate) fn asked(method: &Method, headers: &HeaderMap, etag: &str, size: u64) -> Asked {
    let Some(range) = headers.get(header::RANGE).and_then(|range| range.to_str().ok()) else {
        return Asked::Whole;
    };
    // The client has a part of another version.
    let is_other = headers.get(header::IF_RANGE).is_some_and(|tag| tag != etag);
    if is_other || method != Method::GET {
        return Asked::Whole;
    }
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .and_then(|range| range.trim().split_once('-'))
    else {
        return Asked::Whole;
    };
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        // A number too large for us is one beyond the end.
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let part = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(suffix)) if first.is_empty() => size.saturating_sub(suffix)..size,
        _ => return Asked::Whole,
    };
    if part.start < part.end {
        Asked::Part(part)
    } else {
        Asked::Unsatisfiable
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(range: &'static str, if_range: Option<&'static str>) -> Asked {
        let mut headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static(range))]);
        headers.extend(if_range.map(|tag| (header::IF_RANGE, HeaderValue::from_static(tag))));
        asked(&Method::GET, &headers, "\"7\"", 100)
    }

    #[test]
    fn one_range_is_read() {
        for (range, expected) in [
            ("bytes=0-0", 0..1),
            ("bytes=10-19", 10..20),
            ("bytes=90-", 90..100),
            ("bytes=-10", 90..100),
            ("bytes=-1000", 0..100),
            ("bytes=99-99999999999999999999999", 99..100),
        ] {
            assert_eq!(read(range, None), Asked::Part(expected), "{range}");
        }
        for range in [
            "bytes=100-",
            "bytes=100-200",
            "bytes=-0",
            "bytes=99999999999999999999999-",
        ] {
            assert_eq!(read(range, None), Asked::Unsatisfiable, "{range}");
        }
        for range in [
            "bytes=5-4",
            "bytes=-",
            "bytes=",
            "bytes=a-b",
            "bytes=0-1,5-6",
            "lines=0-1",
            "bytes=+1-2",
        ] {
            assert_eq!(read(range, None), Asked::Whole, "{range}");
        }
    }

    #[test]
    fn a_part_of_another_version_is_answered_by_the_whole() {
        assert_eq!(read("bytes=0-0", Some("\"7\"")), Asked::Part(0..1));
        for other in ["\"8\"", "W/\"7\"", "Sun, 29 Nov 2026 00:00:00 GMT"] {
            assert_eq!(read("bytes=0-0", Some(other)), Asked::Whole, "{other}");
        }
        let headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=0-0"))]);
        assert_eq!(asked(&Method::HEAD, &headers, "\"7\"", 100), Asked::Whole);
        assert_eq!(asked(&Method::GET, &HeaderMap::new(), "\"7\"", 100), Asked::Whole);
    }
}

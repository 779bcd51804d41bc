//! Notices of the operators.

use serde_json::{Value, json};
use sosohappy_common::nickname::has_visible;
use sosohappy_common::text::is_one_line;

use super::moderation::Remark;

/// Bytes of the data as JSON, of the 16 KiB that notice takes.
const MAX_BYTES: usize = 4096;

/// A notice of the operators to one person: a push shows the title above the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemNotice {
    title: Remark,
    text: Remark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSystemNotice {
    #[error("title: one line with at least one visible character")]
    Title,
    #[error("text: at least one visible character")]
    Text,
    #[error("title, text: at most {MAX_BYTES} bytes together, as JSON")]
    Size,
}

impl SystemNotice {
    pub fn new(title: Remark, text: Remark) -> Result<Self, InvalidSystemNotice> {
        if !has_visible(title.as_str()) || !is_one_line(title.as_str()) {
            return Err(InvalidSystemNotice::Title);
        }
        if !has_visible(text.as_str()) {
            return Err(InvalidSystemNotice::Text);
        }
        let notice = Self { title, text };
        if notice.data().to_string().len() > MAX_BYTES {
            return Err(InvalidSystemNotice::Size);
        }
        Ok(notice)
    }

    /// Returns the title, which is one line, and the text below it.
    pub fn note(&self) -> String {
        format!("{}\n{}", self.title.as_str(), self.text.as_str())
    }

    pub fn data(&self) -> Value {
        json!({ "title": self.title.as_str(), "text": self.text.as_str() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_has_a_title_and_a_text_within_bounds() {
        use InvalidSystemNotice::{Size, Text, Title};

        let notice = |title: &str, text: &str| {
            let remark = |text: &str| Remark::try_from(text.to_owned()).expect("a remark");
            SystemNotice::new(remark(title), remark(text))
        };
        let whole = notice("Maintenance", "at 3").expect("a notice");
        assert_eq!(whole.data(), json!({ "title": "Maintenance", "text": "at 3" }));
        assert_eq!(whole.note(), "Maintenance\nat 3");
        for blank in [" ", "\n", "\u{200b}", "\u{3164}"] {
            assert_eq!(notice(blank, "at 3"), Err(Title), "{blank:?}");
            assert_eq!(notice("Maintenance", blank), Err(Text), "{blank:?}");
        }
        assert_eq!(notice("Mainte\nnance", "at 3"), Err(Title));
        assert!(notice("Maintenance", "at 3\nor later").is_ok());
        let of = |letters: usize| "공".repeat(letters);
        assert!(notice(&of(358), &of(1000)).is_ok());
        assert_eq!(notice(&of(359), &of(1000)), Err(Size), "more than 4,096 bytes");
    }
}

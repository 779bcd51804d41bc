//! Categories as things to do, in Korean.

use std::collections::BTreeMap;

use super::Category;

/// The recommendation where no categories are known that go together.
pub const NOTHING_KNOWN: &str = "피드 작성하기";

/// The stem of what one does, which takes both endings used here, `-고` (and then) and `-기` (doing).
fn stem(category: &str) -> Option<&'static str> {
    Some(match category {
        "beer" => "시원한 맥주 한잔하",
        "books" => "책 읽",
        "coffee" => "커피 한잔 마시",
        "cook" => "요리하",
        "dessert" => "달콤한 디저트 먹",
        "drive" => "드라이브하",
        "exercise" => "운동하",
        "food" => "맛있는 음식 먹",
        "friends" => "친구 만나",
        "game" => "게임하",
        "home" => "집에서 푹 쉬",
        "love" => "사랑하는 사람과 시간 보내",
        "movie" => "영화 보",
        "music" => "음악 듣",
        "nature" => "자연 속을 걷",
        "ott" => "OTT 보",
        "pet" => "반려동물과 놀",
        "picture" => "사진 찍",
        "sea" => "바다 보러 가",
        "shopping" => "쇼핑하",
        "sleep" => "푹 자",
        "study" => "공부하",
        "trip" => "여행 떠나",
        "youtube" => "유튜브 보",
        _ => return None,
    })
}

/// Stems of further categories, or other ones of the app's categories.
#[derive(Debug, Clone, Default)]
pub struct Phrases(BTreeMap<Category, String>);

#[derive(Debug, thiserror::Error)]
pub enum InvalidPhrases {
    #[error("a JSON object of categories and the stems of their phrases is expected: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the stem of `{0}` has 1 to {most} characters, none of them a control character", most = MOST_STEM)]
    Stem(String),
}

/// Characters of a stem.
const MOST_STEM: usize = 50;

impl Phrases {
    /// Reads `{"gardening": "정원을 가꾸"}`.
    pub fn parse(json: &str) -> Result<Self, InvalidPhrases> {
        let stems: BTreeMap<Category, String> = serde_json::from_str(json)?;
        let is_stem = |stem: &str| {
            !stem.trim().is_empty() && stem.chars().count() <= MOST_STEM && !stem.chars().any(char::is_control)
        };
        match stems.iter().find(|(_, stem)| !is_stem(stem)) {
            Some((category, _)) => Err(InvalidPhrases::Stem(category.as_str().to_owned())),
            None => Ok(Self(stems)),
        }
    }

    /// A sentence about doing one and then the other.
    #[must_use]
    pub fn both(&self, one: &str, other: &str) -> String {
        format!("{} {}", self.with_ending(one, "고"), self.with_ending(other, "기"))
    }

    fn with_ending(&self, category: &str, ending: &str) -> String {
        let given = self.0.iter().find(|(given, _)| given.as_str() == category);
        match given.map(|(_, stem)| stem.as_str()).or_else(|| stem(category)) {
            Some(stem) => format!("{stem}{ending}"),
            None => format!("'{category}' 즐기{ending}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_apps_categories_and_any_other_make_a_sentence() {
        let phrases = Phrases::default();
        assert_eq!(phrases.both("books", "coffee"), "책 읽고 커피 한잔 마시기");
        assert_eq!(phrases.both("낮잠", "pet"), "'낮잠' 즐기고 반려동물과 놀기");
    }

    #[test]
    fn every_category_of_the_app_has_a_phrase() {
        let categories = [
            "beer", "books", "coffee", "cook", "dessert", "drive", "exercise", "food", "friends", "game", "home",
            "love", "movie", "music", "nature", "ott", "pet", "picture", "sea", "shopping", "sleep", "study", "trip",
            "youtube",
        ];
        let phrases: std::collections::BTreeSet<_> = categories.map(stem).into_iter().flatten().collect();
        assert_eq!(phrases.len(), categories.len(), "each has its own");
    }

    #[test]
    fn a_file_has_more_phrases() {
        let phrases = Phrases::parse(r#"{"낮잠": "낮잠 자", "coffee": "커피 내리"}"#).unwrap();
        assert_eq!(phrases.both("낮잠", "coffee"), "낮잠 자고 커피 내리기");
        assert_eq!(phrases.both("books", "pet"), "책 읽고 반려동물과 놀기");
        let long = format!(r#"{{"a": "{}"}}"#, "가".repeat(51));
        for invalid in [
            "",
            "[]",
            r#"{"a": 1}"#,
            r#"{"": "b"}"#,
            r#"{"a": " "}"#,
            r#"{"a": "b\n"}"#,
            &long,
        ] {
            assert!(Phrases::parse(invalid).is_err(), "{invalid}");
        }
    }
}

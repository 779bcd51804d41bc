//! Categories as things to do, in Korean.

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

fn with_ending(category: &str, ending: &str) -> String {
    stem(category).map_or_else(
        || format!("'{category}' 즐기{ending}"),
        |stem| format!("{stem}{ending}"),
    )
}

/// A sentence about doing one and then the other.
#[must_use]
pub fn both(one: &str, other: &str) -> String {
    format!("{} {}", with_ending(one, "고"), with_ending(other, "기"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_apps_categories_and_any_other_make_a_sentence() {
        assert_eq!(both("books", "coffee"), "책 읽고 커피 한잔 마시기");
        assert_eq!(both("낮잠", "pet"), "'낮잠' 즐기고 반려동물과 놀기");
    }
}

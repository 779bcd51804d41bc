//! Summary of a year of posts, and the number of days in a row on which a person has written.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::happiness::{HappinessPoint, average, of_year};
use super::{Day, PostDate};

/// Parts of a post that a review needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewedPost {
    pub date: PostDate,
    pub happiness: i32,
    pub weather: String,
    pub categories: Vec<String>,
    pub likes: i64,
    pub comments: i64,
}

/// Days in a row with a post each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Streak {
    #[schema(example = 12)]
    pub days: u32,
    /// `yyyyMMdd`.
    #[schema(value_type = i32, example = 20_230_905)]
    pub first_day: Day,
    /// `yyyyMMdd`.
    #[schema(value_type = i32, example = 20_230_916)]
    pub last_day: Day,
}

/// The streaks of these days, which are in order and different.
fn streaks(days: impl IntoIterator<Item = Day>) -> Vec<Streak> {
    let mut streaks: Vec<Streak> = Vec::new();
    for day in days {
        match streaks.last_mut() {
            Some(streak) if streak.last_day.tomorrow() == day => {
                streak.days += 1;
                streak.last_day = day;
            }
            _ => streaks.push(Streak {
                days: 1,
                first_day: day,
                last_day: day,
            }),
        }
    }
    streaks
}

/// Of equals the latest.
fn longest(streaks: &[Streak]) -> Option<Streak> {
    streaks.iter().copied().max_by_key(|streak| streak.days)
}

/// A person's streaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Streaks {
    /// The streak that a post of today continues; null when a day was missed.
    pub current: Option<Streak>,
    /// Of equals the latest; null without a post.
    pub longest: Option<Streak>,
}

impl Streaks {
    /// From all days with posts, in order. A streak is current while the day after its last one has not ended in every time zone: `since` is the
    /// earliest day whose streak does.
    #[must_use]
    pub fn of(days: impl IntoIterator<Item = Day>, since: Day) -> Self {
        let streaks = streaks(days);
        Self {
            current: streaks.last().copied().filter(|streak| streak.last_day >= since),
            longest: longest(&streaks),
        }
    }
}

/// How often something was named in a year, and how happy those days were.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    #[schema(example = "coffee")]
    pub name: String,
    pub posts: u32,
    /// The average of these posts.
    #[schema(example = 4.2)]
    pub happiness: f64,
}

/// A year in review, with the numbers it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct YearReview {
    pub posts: u32,
    /// The average of all posts; 0.0 without one.
    #[schema(example = 4.2)]
    pub happiness: f64,
    /// Each month's average, as in `findYearHappiness`.
    #[schema(min_items = 12, max_items = 12)]
    pub months: Vec<HappinessPoint>,
    /// The dates of the happiest posts, up to three; of equals the earlier ones.
    #[schema(value_type = Vec<i64>, max_items = 3)]
    pub happiest: Vec<PostDate>,
    /// By number of posts, up to ten; of equals the happier one first.
    #[schema(max_items = 10)]
    pub categories: Vec<Share>,
    /// As `categories`.
    #[schema(max_items = 10)]
    pub weathers: Vec<Share>,
    /// Within the year.
    pub longest_streak: Option<Streak>,
    /// Given to these posts.
    pub likes: i64,
    pub comments: i64,
}

/// The most shares of a kind.
const SHARES: usize = 10;

impl YearReview {
    /// From the posts of the year, in the order of their days.
    #[must_use]
    pub fn of(posts: &[ReviewedPost]) -> Self {
        let days: Vec<_> = posts.iter().map(|post| (post.date.day(), post.happiness)).collect();
        let mut happiest: Vec<&ReviewedPost> = posts.iter().collect();
        // Stable: equals stay in the order of their days.
        happiest.sort_by_key(|post| std::cmp::Reverse(post.happiness));
        let by_category = posts
            .iter()
            .flat_map(|post| post.categories.iter().map(|name| (name.as_str(), post.happiness)));
        let by_weather = posts.iter().map(|post| (post.weather.as_str(), post.happiness));
        Self {
            posts: count(posts.len()),
            happiness: average(posts.iter().map(|post| post.happiness)),
            months: of_year(&days),
            happiest: happiest.into_iter().take(3).map(|post| post.date).collect(),
            categories: shares(by_category),
            weathers: shares(by_weather),
            longest_streak: longest(&streaks(days.iter().map(|(day, _)| *day))),
            likes: posts.iter().map(|post| post.likes).sum(),
            comments: posts.iter().map(|post| post.comments).sum(),
        }
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn shares<'a>(named: impl Iterator<Item = (&'a str, i32)>) -> Vec<Share> {
    let mut by_name: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (name, happiness) in named {
        by_name.entry(name).or_default().push(happiness);
    }
    let mut shares: Vec<Share> = by_name
        .into_iter()
        .map(|(name, happiness)| Share {
            name: name.to_owned(),
            posts: count(happiness.len()),
            happiness: average(happiness.into_iter()),
        })
        .collect();
    // Stable: of those equal in both, the first in the alphabet.
    shares.sort_by(|one, other| {
        let by_posts = other.posts.cmp(&one.posts);
        by_posts.then_with(|| other.happiness.total_cmp(&one.happiness))
    });
    shares.truncate(SHARES);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: i32) -> Day {
        Day::try_from(day).unwrap()
    }

    fn post(day: i64, happiness: i32, categories: &[&str]) -> ReviewedPost {
        ReviewedPost {
            date: PostDate::try_from(day * 100_000_000).unwrap(),
            happiness,
            weather: if happiness > 3 { "sunny" } else { "rainy" }.to_owned(),
            categories: categories.iter().map(|name| (*name).to_owned()).collect(),
            likes: 2,
            comments: 1,
        }
    }

    #[test]
    fn days_in_a_row_are_a_streak_across_months_and_years() {
        let days = [
            20_231_229, 20_231_230, 20_231_231, 20_240_101, 20_240_228, 20_240_229, 20_240_301,
        ];
        let streaks = Streaks::of(days.map(day), day(20_240_301));
        let longest = Streak {
            days: 4,
            first_day: day(20_231_229),
            last_day: day(20_240_101),
        };
        assert_eq!(streaks.longest, Some(longest));
        assert_eq!(streaks.current.map(|streak| streak.days), Some(3));
        assert_eq!(Streaks::of(days.map(day), day(20_240_302)).current, None);
        let none = Streaks::of([], day(20_240_101));
        assert_eq!((none.current, none.longest), (None, None));
    }

    #[test]
    fn a_year_comes_to_these_numbers() {
        let year = [
            post(20_230_105, 5, &["sea", "food"]),
            post(20_230_106, 2, &["food"]),
            post(20_230_301, 5, &["sea"]),
            post(20_230_302, 4, &["trip"]),
            post(20_230_303, 4, &["art"]),
        ];
        let review = YearReview::of(&year);
        assert_eq!((review.posts, review.happiness), (5, 4.0));
        assert_eq!((review.likes, review.comments), (10, 5));
        assert_eq!(review.months[0].happiness.to_string(), "3.5");
        assert_eq!(review.happiest, [year[0].date, year[2].date, year[3].date]);
        let names: Vec<_> = review
            .categories
            .iter()
            .map(|share| (&share.name[..], share.posts))
            .collect();
        assert_eq!(names, [("sea", 2), ("food", 2), ("art", 1), ("trip", 1)]);
        assert_eq!(review.weathers[0].name, "sunny");
        let streak = review.longest_streak.unwrap();
        assert_eq!((streak.days, streak.first_day), (3, day(20_230_301)));

        let nothing = YearReview::of(&[]);
        assert_eq!((nothing.posts, nothing.happiness, nothing.months.len()), (0, 0.0, 12));
        assert!(nothing.happiest.is_empty() && nothing.longest_streak.is_none());
    }
}

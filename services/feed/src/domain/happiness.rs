//! The happiness of a month or a year.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Day, Month};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// One point of the app's graphs: 0.0 where nothing was written.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HappinessPoint {
    #[schema(example = 4.0)]
    pub happiness: f64,
    /// The day of the month without a leading zero, or the month's English name in three letters.
    #[schema(example = "1")]
    pub formatted_date: String,
}

/// Every day of the month.
#[must_use]
pub fn of_month(month: Month, days: &[(Day, i32)]) -> Vec<HappinessPoint> {
    let mut points: Vec<_> = (1..=month.length())
        .map(|day| HappinessPoint {
            happiness: 0.0,
            formatted_date: day.to_string(),
        })
        .collect();
    for (day, happiness) in days {
        points[usize::from(day.of_month()) - 1].happiness = f64::from(*happiness);
    }
    points
}

/// Decimals of an average, as the legacy Spring service answered it: MySQL's `AVG` of integers.
const DECIMALS: f64 = 1e4;

/// The average, 0.0 of nothing.
#[must_use]
pub fn average(happiness: impl Iterator<Item = i32>) -> f64 {
    let (sum, count) = happiness.fold((0.0, 0.0), |(sum, count), next| (sum + f64::from(next), count + 1.0));
    if count > 0.0 {
        (sum / count * DECIMALS).round() / DECIMALS
    } else {
        0.0
    }
}

/// The average of every month.
#[must_use]
pub fn of_year(days: &[(Day, i32)]) -> Vec<HappinessPoint> {
    let mut months: [Vec<i32>; 12] = std::array::from_fn(|_| Vec::new());
    for (day, happiness) in days {
        months[usize::from(day.month().of_year()) - 1].push(*happiness);
    }
    let point = |(name, month): (&str, Vec<i32>)| HappinessPoint {
        happiness: average(month.into_iter()),
        formatted_date: name.to_owned(),
    };
    MONTHS.into_iter().zip(months).map(point).collect()
}

/// The categories of these posts by the sum of their happiness, up to three. Of equals the one named in more posts comes first,
/// then the one first in the alphabet.
#[must_use]
pub fn best_categories(posts: &[(Vec<String>, i32)]) -> Vec<String> {
    let mut sums: HashMap<&str, (i64, i64)> = HashMap::new();
    for (categories, happiness) in posts {
        for category in categories {
            let (sum, count) = sums.entry(category).or_default();
            *sum += i64::from(*happiness);
            *count += 1;
        }
    }
    let mut ranked: Vec<_> = sums.into_iter().collect();
    ranked.sort_unstable_by(|(one, by), (other, than)| than.cmp(by).then(one.cmp(other)));
    ranked
        .into_iter()
        .take(3)
        .map(|(category, _)| category.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MonthOf, PostDate};

    fn day(date: i64) -> Day {
        PostDate::try_from(date).unwrap().day()
    }

    #[test]
    fn averages_have_four_decimals() {
        let march = |happiness: &[i32]| {
            let days: Vec<_> = happiness.iter().map(|it| (day(2_023_030_300_000_000), *it)).collect();
            of_year(&days)[2].happiness.to_string()
        };
        assert_eq!(march(&[5, 3, 3]), "3.6667");
        assert_eq!(march(&[-5, -3, -3]), "-3.6667");
        assert_eq!(march(&[1, 2]), "1.5");
    }

    #[test]
    fn a_month_has_every_day_and_a_year_every_month() {
        let MonthOf(month) = MonthOf::try_from(2_023_020_000_000_000).unwrap();
        let days = [(day(2_023_020_300_000_000), 4), (day(2_023_022_800_000_000), -2)];
        let points = of_month(month, &days);
        assert_eq!(points.len(), 28);
        assert_eq!(
            points[0],
            HappinessPoint {
                happiness: 0.0,
                formatted_date: "1".into()
            }
        );
        assert_eq!(
            points[2],
            HappinessPoint {
                happiness: 4.0,
                formatted_date: "3".into()
            }
        );
        assert_eq!(
            points[27],
            HappinessPoint {
                happiness: -2.0,
                formatted_date: "28".into()
            }
        );

        let points = of_year(&days);
        assert_eq!(points.len(), 12);
        assert_eq!(
            points[0],
            HappinessPoint {
                happiness: 0.0,
                formatted_date: "Jan".into()
            }
        );
        assert_eq!(
            points[1],
            HappinessPoint {
                happiness: 1.0,
                formatted_date: "Feb".into()
            }
        );
    }

    #[test]
    fn the_best_are_ranked_by_sum_then_count_then_name() {
        let posts = |list: &[(&[&str], i32)]| -> Vec<(Vec<String>, i32)> {
            list.iter()
                .map(|(names, happiness)| (names.iter().map(|&name| name.to_owned()).collect(), *happiness))
                .collect()
        };
        let month = posts(&[
            (&["sea", "food"], 3),
            (&["book", "food"], 2),
            (&["sea"], 2),
            (&["trip"], 5),
            (&["art"], 5),
        ]);
        assert_eq!(best_categories(&month), ["food", "sea", "art"]);
        assert!(best_categories(&[]).is_empty());
        assert_eq!(
            best_categories(&posts(&[(&["a"], i32::MAX), (&["a"], i32::MAX), (&["b"], i32::MIN)])),
            ["a", "b"]
        );
    }
}

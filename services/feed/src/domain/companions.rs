//! Which categories go together, over all posts: how happy the posts were that name both.
//!
//! Totals are kept for each ordered pair, so that the companions of one category are adjacent. A saved or deleted post is first a
//! [`Change`], a row of its own, without lock contention; changes are folded into the totals soon after, and a reader adds
//! those that are not yet.

use std::collections::{BTreeMap, HashSet};

use super::phrases::Phrases;

const MOST: usize = 10;

/// Categories of one post that are paired, the first ones: pairs grow with the square.
const PAIRED: usize = 12;

/// The amounts that one post adds to the totals, or takes from them when it is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub categories: Vec<String>,
    /// The post's happiness; negated for a deleted post.
    pub happiness: i64,
    /// 1 for a saved post, −1 for a deleted one.
    pub posts: i64,
}

impl Change {
    #[must_use]
    pub fn came(categories: &[String], happiness: i32) -> Self {
        Self {
            categories: categories.to_vec(),
            happiness: i64::from(happiness),
            posts: 1,
        }
    }

    #[must_use]
    pub fn went(categories: Vec<String>, happiness: i32) -> Self {
        Self {
            categories,
            happiness: -i64::from(happiness),
            posts: -1,
        }
    }

    /// Each pair of different categories, both ways.
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let paired = &self.categories[..self.categories.len().min(PAIRED)];
        paired.iter().flat_map(move |one| {
            paired
                .iter()
                .filter(move |other| *other != one)
                .map(move |other| (one.as_str(), other.as_str()))
        })
    }
}

/// The totals of the posts that name both categories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total {
    pub happiness: i64,
    pub posts: i64,
}

/// The sum of changes by pair, in the order of the pairs, so that concurrent writers lock them in the same order.
#[must_use]
pub fn fold(changes: &[Change]) -> BTreeMap<(String, String), Total> {
    let mut totals: BTreeMap<(String, String), Total> = BTreeMap::new();
    for change in changes {
        for (one, other) in change.pairs() {
            let total = totals.entry((one.to_owned(), other.to_owned())).or_default();
            total.happiness += change.happiness;
            total.posts += change.posts;
        }
    }
    totals.retain(|_, total| *total != Total::default());
    totals
}

/// The known companions of some categories.
#[derive(Debug, Clone, Default)]
pub struct Companions {
    /// Totals of pairs whose first is one of them.
    pub totals: Vec<((String, String), i64)>,
    /// Not yet folded in; of any category.
    pub changes: Vec<Change>,
}

/// Up to ten sentences: what made others happy together with a person's best categories, the happiest pair first. Of equals the
/// one with the better category comes first, then the companion first in the alphabet. None when nothing is known.
#[must_use]
pub fn recommend(best: &[String], companions: Companions, phrases: &Phrases) -> Vec<String> {
    let rank = |category: &str| best.iter().position(|name| name == category);
    let mut weights: BTreeMap<(usize, String), i64> = BTreeMap::new();
    let folded = companions.totals.into_iter();
    let open = fold(&companions.changes)
        .into_iter()
        .map(|(pair, total)| (pair, total.happiness));
    for ((one, other), happiness) in folded.chain(open) {
        if let Some(rank) = rank(&one) {
            *weights.entry((rank, other)).or_default() += happiness;
        }
    }
    let mut pairs: Vec<_> = weights.into_iter().filter(|(_, weight)| *weight > 0).collect();
    pairs.sort_by(|(pair, weight), (other, than)| than.cmp(weight).then_with(|| pair.cmp(other)));

    let mut told = HashSet::new();
    let mut sentences = Vec::with_capacity(MOST);
    for ((index, other), _) in pairs {
        let one = best[index].clone();
        let pair = if one < other {
            (one.clone(), other.clone())
        } else {
            (other.clone(), one.clone())
        };
        if told.insert(pair) {
            sentences.push(phrases.both(&one, &other));
        }
        if sentences.len() == MOST {
            break;
        }
    }
    sentences
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_happiest_pair_comes_first_and_no_pair_twice() {
        let changes = vec![
            Change::came(&names(&["sea", "friends"]), 5),
            Change::came(&names(&["sea", "coffee"]), 3),
            Change::came(&names(&["friends", "coffee"]), 4),
        ];
        let told = recommend(
            &names(&["sea", "friends"]),
            Companions {
                totals: Vec::new(),
                changes,
            },
            &Phrases::default(),
        );
        assert_eq!(
            told,
            [
                "바다 보러 가고 친구 만나기",
                "친구 만나고 커피 한잔 마시기",
                "바다 보러 가고 커피 한잔 마시기"
            ]
        );
    }

    #[test]
    fn equals_are_listed_in_one_order() {
        let changes = vec![Change::came(&names(&["sea", "movie", "coffee"]), 2)];
        let told = recommend(
            &names(&["sea"]),
            Companions {
                totals: Vec::new(),
                changes,
            },
            &Phrases::default(),
        );
        assert_eq!(told, ["바다 보러 가고 커피 한잔 마시기", "바다 보러 가고 영화 보기"]);
    }

    #[test]
    fn nothing_is_recommended_where_nothing_is_known() {
        assert!(recommend(&[], Companions::default(), &Phrases::default()).is_empty());
        let alone = Companions {
            totals: Vec::new(),
            changes: vec![Change::came(&names(&["sea"]), 5)],
        };
        assert!(recommend(&names(&["sea"]), alone, &Phrases::default()).is_empty());
        let unhappy = Companions {
            totals: Vec::new(),
            changes: vec![Change::came(&names(&["sea", "rain"]), -5)],
        };
        assert!(recommend(&names(&["sea"]), unhappy, &Phrases::default()).is_empty());
    }

    #[test]
    fn at_most_ten() {
        let many: Vec<String> = (0..20).map(|number| format!("c{number:02}")).collect();
        let told = recommend(
            &many[..1],
            Companions {
                totals: Vec::new(),
                changes: vec![Change::came(&many, 1)],
            },
            &Phrases::default(),
        );
        assert_eq!(told.len(), 10);
    }

    proptest! {
        #[test]
        fn folding_early_or_late_tells_the_same(
            posts in prop::collection::vec((prop::collection::btree_set("[a-f]", 1..4), -3i32..6), 0..20),
            cut in 0usize..20,
        ) {
            let changes: Vec<Change> =
                posts.iter().map(|(set, happiness)| Change::came(&set.iter().cloned().collect::<Vec<_>>(), *happiness)).collect();
            let (folded, open) = changes.split_at(cut.min(changes.len()));
            let totals = fold(folded).into_iter().map(|(pair, total)| (pair, total.happiness)).collect();
            let best = names(&["a", "b", "c"]);
            let late = recommend(&best, Companions { totals, changes: open.to_vec() }, &Phrases::default());
            let never = recommend(&best, Companions { totals: Vec::new(), changes: changes.clone() }, &Phrases::default());
            prop_assert_eq!(late, never);
        }

        #[test]
        fn changes_that_cancel_out_leave_nothing(set in prop::collection::btree_set("[a-f]", 1..5), happiness: i32) {
            let categories: Vec<String> = set.into_iter().collect();
            let changes = [Change::came(&categories, happiness), Change::went(categories.clone(), happiness)];
            prop_assert!(fold(&changes).is_empty());
        }
    }
}

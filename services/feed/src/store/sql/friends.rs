//! Posts of friends.

use std::cmp::Reverse;

use sosohappy_common::Account;
use sosohappy_store::StoreError;

use super::{Query, SqlStore, account, public};
use crate::domain::{Cursor, Day, PageFrom, SeenPost};

/// Friends whose posts one statement reads.
const FRIENDS: usize = 100;

/// Each follows the other, and neither blocks the other.
fn friends_of(viewer: &Account) -> Query {
    let mut query = Query::new(
        "SELECT f.other FROM directory_relation f JOIN directory_relation b \
         ON b.account = f.other AND b.other = f.account AND b.kind = 'follow' AND b.active = 1 \
         WHERE f.kind = 'follow' AND f.active = 1 AND f.account = ",
    );
    query.push_bind(viewer.as_str());
    public::push_not_blocked(&mut query, viewer, "f.other");
    query
}

/// Date and id of the newest posts behind the cursor of each of these people. Each list is read off the index from where it begins: a page
/// costs the same however many posts they have.
fn push_newest_of_each(query: &mut Query, friends: &[Account], cursor: Cursor, rows: i64) {
    for (number, friend) in friends.iter().enumerate() {
        query.push(if number == 0 {
            "SELECT date, id FROM ("
        } else {
            " UNION ALL SELECT date, id FROM ("
        });
        query
            .push("SELECT p.friend_date AS date, p.id FROM post p WHERE p.account = ")
            .push_bind(friend.as_str());
        query.push(" AND p.friend_date <= ").push_bind(cursor.date);
        public::push_not_hidden(query, "p");
        query.push(" AND (p.friend_date < ").push_bind(cursor.date);
        query.push(" OR p.id < ").push_bind(cursor.id);
        query
            .push(") ORDER BY p.friend_date DESC, p.id DESC LIMIT ")
            .push_bind(rows);
        query.push(") f").push(number);
    }
}

fn begin(today: Day, from: PageFrom) -> Cursor {
    let (_, latest) = today.dates();
    let newest = Cursor {
        date: latest,
        ..Cursor::NEWEST
    };
    match from {
        PageFrom::After(cursor) if cursor.date <= latest => cursor,
        PageFrom::After(_) | PageFrom::Offset(_) => newest,
    }
}

impl SqlStore {
    pub(super) async fn posts_of_friends(
        &self,
        viewer: &Account,
        today: Day,
        from: PageFrom,
        rows: i64,
    ) -> Result<Vec<SeenPost>, StoreError> {
        let reader = self.database.reader();
        let friends = friends_of(viewer).build().fetch_all(reader).await?;
        let friends: Vec<Account> = friends
            .iter()
            .map(|row| account(row, "other"))
            .collect::<Result<_, _>>()?;
        let cursor = begin(today, from);
        let mut newest: Vec<(i64, i64)> = Vec::new();
        for friends in friends.chunks(FRIENDS) {
            let mut query = Query::new("");
            push_newest_of_each(&mut query, friends, cursor, rows);
            newest.extend(query.build_query_as::<(i64, i64)>().fetch_all(reader).await?);
            newest.sort_unstable_by_key(|key| Reverse(*key));
            newest.truncate(usize::try_from(rows).unwrap_or(usize::MAX));
        }
        if newest.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = Query::new(public::SEEN);
        query
            .push_bind(viewer.as_str())
            .push(") AS is_liked FROM post p WHERE p.id IN (");
        let mut ids = query.separated(", ");
        for (_, id) in &newest {
            ids.push_bind(*id);
        }
        // One may have become private or hidden in between.
        query.push(") AND p.friend_date <= ").push_bind(cursor.date);
        public::push_not_hidden(&mut query, "p");
        query.push(" ORDER BY p.friend_date DESC, p.id DESC");
        query
            .build()
            .fetch_all(reader)
            .await?
            .iter()
            .map(public::seen)
            .collect()
    }

    /// How the database finds the newest posts of each of these people, a line a step.
    #[cfg(test)]
    pub(super) async fn plan_of_friends(&self, friends: &[Account], from: PageFrom, rows: i64) -> Vec<String> {
        let mut query = Query::new(super::super::EXPLAIN);
        let today = Day::try_from(20_260_101).expect("a day");
        push_newest_of_each(&mut query, friends, begin(today, from), rows);
        super::plan(self.database.reader(), &mut query).await
    }
}

//! `noticeLike`: an account liked a post.

use sosohappy_common::Account;

use super::parse;
use crate::{Event, Malformed, Record, Topic};

const LIKER_ACCOUNT: &str = "liker-account";
const AUTHOR_ACCOUNT: &str = "author-account";

/// Key: the liker's nickname. Value: `author nickname,date` (read also as `author account,date`: a part with `@` and `+`).
/// Headers `liker-account` and `author-account` on records of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostLiked {
    pub liker: String,
    pub liker_account: Option<Account>,
    /// As in the value: a nickname or, from a Spring service, an account.
    pub author: String,
    pub author_account: Option<Account>,
    /// The post's 16-digit date.
    pub date: i64,
}

impl Event for PostLiked {
    const TOPIC: Topic = Topic::NoticeLike;
    const TYPE: &'static str = "PostLiked";

    fn key(&self) -> Option<String> {
        Some(self.liker.clone())
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(format!("{},{}", self.author, self.date).into_bytes())
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let accounts = [
            (LIKER_ACCOUNT, &self.liker_account),
            (AUTHOR_ACCOUNT, &self.author_account),
        ];
        accounts
            .into_iter()
            .filter_map(|(name, account)| Some((name, account.as_ref()?.as_str().to_owned())))
            .collect()
    }

    fn aggregate(&self) -> String {
        format!(
            "{},{}",
            self.author_account
                .as_ref()
                .map_or(self.author.as_str(), Account::as_str),
            self.date
        )
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        // A nickname may have a comma, a date has none: the last comma divides them.
        let (author, date) = record
            .value_text()?
            .rsplit_once(',')
            .ok_or_else(|| Malformed::new("the value has no comma"))?;
        // The last release of the Spring services names the author by account.
        let named = author
            .split_once('@')
            .filter(|(_, rest)| rest.contains('+'))
            .and_then(|_| author.parse().ok());
        let author_account = parse::header_account(record, AUTHOR_ACCOUNT)?.or(named);
        // An account may be longer than any nickname.
        let author = if author_account
            .as_ref()
            .is_some_and(|account| account.as_str() == author)
        {
            author.to_owned()
        } else {
            parse::nickname(author, "the author")?
        };
        Ok(Self {
            liker: parse::nickname(record.key_text()?, "the key")?,
            liker_account: parse::header_account(record, LIKER_ACCOUNT)?,
            author,
            author_account,
            date: parse::date(date)?,
        })
    }
}

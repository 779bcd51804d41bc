//! The accounts of nicknames, as far as they can be determined.

use std::collections::HashMap;

use sosohappy_auth::import::KnownName;
use sosohappy_common::Account;

/// The bearers of one nickname.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bearer {
    One(Account),
    /// More than one: the name is ambiguous.
    Several,
}

impl Bearer {
    fn add(known: &mut HashMap<String, Self>, nickname: String, account: Account) {
        known
            .entry(nickname)
            .and_modify(|bearer| {
                if *bearer != Self::One(account.clone()) {
                    *bearer = Self::Several;
                }
            })
            .or_insert(Self::One(account));
    }
}

/// Every nickname that an import has seen.
#[derive(Debug, Default)]
pub struct Names {
    /// Borne now: a post's nickname follows renames.
    present: HashMap<String, Bearer>,
    /// Borne ever: a like and a message keep the nickname of their time.
    ever: HashMap<String, Bearer>,
    /// The nickname of each account in this fleet.
    here: Vec<(Account, String)>,
}

/// Why the account of a nickname is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    NoAccount,
    Several,
}

impl Unknown {
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoAccount => "no account has this nickname",
            Self::Several => "more than one account has or had this nickname",
        }
    }
}

impl Names {
    /// `decided` are nicknames that the operator has assigned.
    #[must_use]
    pub fn new(known: Vec<KnownName>, decided: &[(String, Account)]) -> Self {
        let mut names = Self::default();
        for known in known {
            if known.here {
                names.here.push((known.account.clone(), known.nickname.clone()));
            }
            if known.present {
                Bearer::add(&mut names.present, known.nickname.clone(), known.account.clone());
            }
            Bearer::add(&mut names.ever, known.nickname, known.account);
        }
        for (nickname, account) in decided {
            let bearer = Bearer::One(account.clone());
            names.present.insert(nickname.clone(), bearer.clone());
            names.ever.insert(nickname.clone(), bearer);
        }
        names
    }

    /// Returns who bears the nickname now.
    pub fn present(&self, nickname: &str) -> Result<&Account, Unknown> {
        identified(self.present.get(nickname))
    }

    /// Returns the only one who ever bore the nickname.
    pub fn ever(&self, nickname: &str) -> Result<&Account, Unknown> {
        identified(self.ever.get(nickname))
    }

    /// Returns what each account is called here.
    #[must_use]
    pub fn here(&self) -> &[(Account, String)] {
        &self.here
    }

    /// Returns what one account is called here. Looks through all accounts.
    #[must_use]
    pub fn nickname_here(&self, account: &Account) -> Option<&str> {
        let found = self.here.iter().find(|(known, _)| known == account);
        found.map(|(_, nickname)| nickname.as_str())
    }
}

fn identified(bearer: Option<&Bearer>) -> Result<&Account, Unknown> {
    match bearer {
        Some(Bearer::One(account)) => Ok(account),
        Some(Bearer::Several) => Err(Unknown::Several),
        None => Err(Unknown::NoAccount),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Account {
        format!("{name}@example.com+kakao").parse().unwrap()
    }

    fn known(nickname: &str, name: &str, present: bool) -> KnownName {
        KnownName {
            nickname: nickname.to_owned(),
            account: account(name),
            present,
            here: false,
        }
    }

    #[test]
    fn a_name_that_changed_hands_is_known_for_posts_and_not_for_likes() {
        let names = vec![
            known("star", "kim", false),
            known("moon", "kim", true),
            known("moon", "kim", true),
            known("star", "lee", true),
            known("sun", "park", true),
            known("sun", "choi", true),
        ];
        let names = Names::new(names, &[]);
        assert_eq!(names.present("star"), Ok(&account("lee")));
        assert_eq!(names.ever("star"), Err(Unknown::Several));
        assert_eq!(names.ever("moon"), Ok(&account("kim")));
        assert_eq!(names.present("sun"), Err(Unknown::Several));
        assert_eq!(names.ever("earth"), Err(Unknown::NoAccount));
    }

    #[test]
    fn an_operator_decides() {
        let decided = [("sun".to_owned(), account("park"))];
        let names = Names::new(vec![known("sun", "park", true), known("sun", "choi", true)], &decided);
        assert_eq!(names.present("sun"), Ok(&account("park")));
        assert_eq!(names.ever("sun"), Ok(&account("park")));
    }
}

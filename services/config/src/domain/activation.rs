//! `spring.config.activate.on-profile`: the profiles that activate a document.
//!
//! Source: Spring's profile expressions: names, `!`, `&`, `|` and parentheses; `&` and `|` are not mixed without parentheses. A list, or
//! names joined by commas, is any of them.

/// A parsed profile expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    Name(String),
    Not(Box<Expression>),
    All(Vec<Expression>),
    Any(Vec<Expression>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid profile expression: names, `!`, `&`, `|`, and parentheses between `&` and `|` are expected")]
pub struct Malformed;

/// Nesting of an expression, which bounds the recursion.
const MAX_DEPTH: usize = 32;

impl Expression {
    /// Parses expressions joined by commas, of which any may match.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let any: Result<Vec<_>, _> = text.split(',').map(|part| Parser::new(part).whole()).collect();
        let mut any = any?;
        Ok(if any.len() == 1 { any.remove(0) } else { Self::Any(any) })
    }

    /// Returns whether the expression holds for these active profiles.
    #[must_use]
    pub fn matches(&self, profiles: &[String]) -> bool {
        match self {
            Self::Name(name) => profiles.iter().any(|profile| profile == name),
            Self::Not(inner) => !inner.matches(profiles),
            Self::All(parts) => parts.iter().all(|part| part.matches(profiles)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(profiles)),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text, depth: 0 }
    }

    fn whole(mut self) -> Result<Expression, Malformed> {
        let expression = self.joined()?;
        if self.rest.trim().is_empty() {
            Ok(expression)
        } else {
            Err(Malformed)
        }
    }

    /// One term, or several joined by the same operator.
    fn joined(&mut self) -> Result<Expression, Malformed> {
        let mut terms = vec![self.term()?];
        let mut operator = None;
        while let Some(next @ ('&' | '|')) = self.peek() {
            if operator.is_some_and(|operator| operator != next) {
                return Err(Malformed);
            }
            operator = Some(next);
            self.skip(next);
            terms.push(self.term()?);
        }
        Ok(match operator {
            None => terms.remove(0),
            Some('&') => Expression::All(terms),
            Some(_) => Expression::Any(terms),
        })
    }

    fn term(&mut self) -> Result<Expression, Malformed> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Malformed);
        }
        let term = match self.peek() {
            Some('!') => {
                self.skip('!');
                Expression::Not(Box::new(self.term()?))
            }
            Some('(') => {
                self.skip('(');
                let inner = self.joined()?;
                if self.peek() != Some(')') {
                    return Err(Malformed);
                }
                self.skip(')');
                inner
            }
            _ => {
                let end = self.rest.find(['!', '&', '|', '(', ')']).unwrap_or(self.rest.len());
                let (name, rest) = self.rest.split_at(end);
                self.rest = rest;
                match name.trim() {
                    "" => return Err(Malformed),
                    name => Expression::Name(name.to_owned()),
                }
            }
        };
        self.depth -= 1;
        Ok(term)
    }

    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn skip(&mut self, character: char) {
        self.rest = self.rest.strip_prefix(character).unwrap_or(self.rest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(expression: &str, profiles: &[&str]) -> bool {
        let profiles: Vec<_> = profiles.iter().map(ToString::to_string).collect();
        Expression::parse(expression).unwrap().matches(&profiles)
    }

    #[test]
    fn names_and_operators() {
        assert!(matches("prod", &["prod", "eu"]));
        assert!(!matches("prod", &["dev"]));
        assert!(matches("prod, dev", &["dev"]));
        assert!(matches("!prod", &["dev"]));
        assert!(matches("prod & eu", &["prod", "eu"]));
        assert!(!matches("prod & eu", &["prod"]));
        assert!(matches("(prod & eu) | dev", &["dev"]));
        assert!(matches("prod & !(eu | us)", &["prod"]));
        assert!(!matches("prod & !(eu | us)", &["prod", "us"]));
    }

    #[test]
    fn invalid_expressions_are_refused() {
        for text in ["", "a &", "a & b | c", "(a", "a)", "!", "a,,b", "a (b)"] {
            assert_eq!(Expression::parse(text), Err(Malformed), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_handled(text in "[ab!&|(), ]{0,80}") {
            let _ = Expression::parse(&text);
        }
    }
}

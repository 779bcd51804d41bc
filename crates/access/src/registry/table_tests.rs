use proptest::prelude::*;
use sosohappy_events::types::State;

use super::*;

const LIFETIME: i64 = 100;

fn account(number: u8) -> Account {
    format!("person{number}@example.com+kakao").parse().unwrap()
}

fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap()
}

fn digest(number: u64) -> TokenDigest {
    TokenDigest::of(&format!("token {number}"))
}

fn token(session: u64, issued_ms: i64, expires_ms: i64) -> Token {
    Token {
        session: SessionId(session),
        role: Role::User,
        issued_ms,
        expires_ms,
    }
}

#[test]
fn of_two_records_of_a_token_the_earlier_expiry_counts_in_any_order() {
    for (first, second) in [(100, 200), (200, 100)] {
        let table = Table::default();
        assert!(table.issue(&account(0), &digest(1), token(1, 50, first)));
        assert!(!table.issue(&account(0), &digest(1), token(1, 50, second)));
        assert!(matches!(table.admit(&account(0), &digest(1), 99), Verdict::Admitted(_)));
        assert_eq!(table.admit(&account(0), &digest(1), 100), Verdict::Refused);
    }
}

/// A step of a history: an event of one of the topics, or a sweep.
#[derive(Debug, Clone)]
enum Step {
    Issued { number: u64, account: u8, token: Token },
    Closed { session: u64, at: i64 },
    Resigned { account: u8, at: i64 },
    State { account: u8, suspended: bool, at: i64 },
    Swept,
}

/// The time of the checks, and of the sweeps, which may only remove expired tokens.
const NOW: i64 = 150;

fn apply(table: &Table, step: &Step) {
    match step {
        Step::Issued {
            number,
            account: of,
            token,
        } => {
            if token.issued_ms >= NOW - LIFETIME {
                table.issue(&account(*of), &digest(*number), *token);
            }
        }
        Step::Closed { session, at } => table
            .revocations
            .close_session(&account(0), SessionId(*session), moment(*at)),
        Step::Resigned { account: of, at } => table.revocations.resign(&account(*of), moment(*at)),
        Step::State {
            account: of,
            suspended,
            at,
        } => {
            let state = if *suspended { State::Suspended } else { State::Restored };
            table.revocations.set_state(&account(*of), state, moment(*at));
        }
        Step::Swept => table.sweep(NOW, NOW - LIFETIME),
    }
}

/// The rule of admission, over the whole history in any order.
fn admitted(all: &[Step], of: u8, token: &Token) -> bool {
    let suspended = all
        .iter()
        .filter_map(|step| match step {
            Step::State { account, suspended, at } if *account == of => Some((*at, *suspended)),
            _ => None,
        })
        .max();
    token.expires_ms > NOW
        && !matches!(suspended, Some((_, true)))
        && !all.iter().any(|step| match step {
            Step::Closed { session, at } => *session == token.session.0 && token.issued_ms <= *at,
            Step::Resigned { account, at } => *account == of && token.issued_ms <= *at,
            Step::Issued { .. } | Step::State { .. } | Step::Swept => false,
        })
}

fn step() -> impl Strategy<Value = Step> {
    // Sessions belong to one account: session = account * 2 + device.
    prop_oneof![
        4 => (0..3_u8, 0..2_u64, 40..160_i64, 1..=LIFETIME, 0..3_usize).prop_map(|(account, device, issued_ms, life, role)| {
            let session = u64::from(account) * 2 + device;
            let role = [Role::User, Role::Moderator, Role::Admin][role];
            let token = Token { session: SessionId(session), role, issued_ms, expires_ms: issued_ms + life };
            Step::Issued { number: 0, account, token }
        }),
        2 => (0..6_u64, 40..160_i64).prop_map(|(session, at)| Step::Closed { session, at }),
        1 => (0..3_u8, 40..160_i64).prop_map(|(account, at)| Step::Resigned { account, at }),
        1 => (0..3_u8, any::<bool>(), 40..160_i64).prop_map(|(account, suspended, at)| Step::State { account, suspended, at }),
        1 => Just(Step::Swept),
    ]
}

fn history() -> impl Strategy<Value = (Vec<Step>, Vec<Step>)> {
    prop::collection::vec(step(), 1..24).prop_flat_map(|mut all| {
        for (index, step) in all.iter_mut().enumerate() {
            if let Step::Issued { number, .. } = step {
                *number = index as u64;
            }
        }
        // Redelivered in full, in any order.
        let twice: Vec<Step> = all.iter().chain(&all).cloned().collect();
        (Just(all), Just(twice).prop_shuffle())
    })
}

proptest! {
    #[test]
    fn any_interleaving_gives_the_same_admissions((all, order) in history()) {
        let table = Table::default();
        for step in &order {
            apply(&table, step);
        }
        for told in &all {
            let Step::Issued { number, account: of, token } = told else { continue };
            let verdict = table.admit(&account(*of), &digest(*number), NOW);
            let expected = admitted(&all, *of, token);
            prop_assert_eq!(matches!(verdict, Verdict::Admitted(_)), expected, "{:?} gave {:?}", told, verdict);
            if let Verdict::Admitted(found) = verdict {
                prop_assert_eq!(found, *token);
            }
            let other = table.admit(&account((*of + 1) % 3), &digest(*number), NOW);
            prop_assert_eq!(other, Verdict::Unknown, "a token admits no other account");
        }
    }
}

#[test]
fn a_re_issued_token_stays_valid_when_the_older_one_is_revoked() {
    let table = Table::default();
    table.issue(&account(1), &digest(1), token(7, 1_000, 9_000));
    table.issue(&account(1), &digest(2), token(7, 2_001, 9_000));
    table
        .revocations
        .close_session(&account(1), SessionId(7), moment(2_000));

    assert_eq!(table.admit(&account(1), &digest(1), 3_000), Verdict::Refused);
    assert_eq!(
        table.admit(&account(1), &digest(2), 3_000),
        Verdict::Admitted(token(7, 2_001, 9_000))
    );
}

#[test]
fn only_tokens_issued_after_a_resignation_are_valid() {
    let table = Table::default();
    table.revocations.resign(&account(1), moment(2_000));
    table.issue(&account(1), &digest(1), token(7, 2_000, 9_000));
    table.issue(&account(1), &digest(2), token(8, 2_001, 9_000));

    assert_eq!(table.admit(&account(1), &digest(1), 3_000), Verdict::Refused);
    assert!(matches!(
        table.admit(&account(1), &digest(2), 3_000),
        Verdict::Admitted(_)
    ));
}

#[test]
fn a_token_expires_at_its_exact_millisecond() {
    let table = Table::default();
    table.issue(&account(1), &digest(1), token(7, 1_000, 2_000));
    assert!(matches!(
        table.admit(&account(1), &digest(1), 1_999),
        Verdict::Admitted(_)
    ));
    assert_eq!(table.admit(&account(1), &digest(1), 2_000), Verdict::Refused);
}

#[test]
fn a_sweep_releases_the_memory_of_expired_tokens() {
    let table = Table::default();
    for number in 0..100_000 {
        table.issue(&account(1), &digest(number), token(number, 1_000, 2_000));
    }
    let full = table.allocated();
    table
        .revocations
        .close_session(&account(1), SessionId(1), moment(1_500));
    table.sweep(2_000, 1_900);
    assert_eq!(table.len(), 0);
    let forgotten = table.revocations.revoked_ms(&account(1), SessionId(1), 1_000);
    assert_eq!(forgotten, None);
    assert!(
        table.allocated() < full / 20,
        "{} of {full} bytes are still held",
        table.allocated()
    );
}

/// The revocation of such a token is forgotten as well, so that its own expiry must not be trusted.
#[test]
fn a_sweep_forgets_tokens_that_outlive_the_longest_life() {
    let table = Table::default();
    table.issue(&account(1), &digest(1), token(1, 1_000, 9_000));
    table.issue(&account(1), &digest(2), token(1, 1_500, 9_000));
    table
        .revocations
        .close_session(&account(1), SessionId(1), moment(1_400));
    table.sweep(2_000, 1_500);
    assert_eq!(table.admit(&account(1), &digest(1), 2_000), Verdict::Unknown);
    assert!(matches!(
        table.admit(&account(1), &digest(2), 2_000),
        Verdict::Admitted(_)
    ));
}

#[test]
fn a_million_tokens_take_at_most_96_bytes_each() {
    const TOKENS: u64 = 1_000_000;
    let table = Table::default();
    let kim = account(1);
    for number in 0..TOKENS {
        table.issue(&kim, &digest(number), token(number, 1_000, 9_000));
    }
    let each = table.allocated() as u64 / TOKENS;
    println!("{each} B a token at {TOKENS} tokens");
    assert!(each <= 96, "{each} B a token");

    let bearer = "x".repeat(300);
    let checks = 20_000_u32;
    let begun = std::time::Instant::now();
    for _ in 0..checks {
        std::hint::black_box(table.admit(&kim, &TokenDigest::of(std::hint::black_box(&bearer)), 2_000));
    }
    let check = begun.elapsed() / checks;
    let begun = std::time::Instant::now();
    for _ in 0..checks {
        std::hint::black_box(TokenDigest::of(std::hint::black_box(&bearer)));
    }
    println!(
        "a check takes {check:?}, of which the token's SHA-256 {:?}",
        begun.elapsed() / checks
    );
}

//! Reads the unverified claims of a token, to refuse without a call what auth would refuse.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use sosohappy_common::Account;

#[derive(Deserialize)]
struct Claims {
    email: String,
    /// Seconds since the epoch, with a fraction where an issuer gives one.
    exp: f64,
}

/// Returns whether auth may accept the token: a JWT whose claims name this account and that has not expired.
///
/// Most tokens that no replica knows are expired ones; they are refused without a call, also while auth is unavailable.
pub(super) fn plausible(token: &str, account: &Account, now_ms: i64) -> bool {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Ok(payload) = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')) else {
        return false;
    };
    let Ok(claims) = serde_json::from_slice::<Claims>(&payload) else {
        return false;
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since the epoch stay far below 2^52"
    )]
    let now = now_ms as f64 / 1000.0;
    claims.email == account.as_str() && claims.exp > now
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn only_an_unexpired_jwt_of_the_account_is_plausible() {
        let kim: Account = "kim@example.com+kakao".parse().unwrap();
        let is_plausible = |payload: &str| plausible(&token(payload), &kim, 1_700_000_000_000);

        assert!(is_plausible(
            r#"{"sub":"AccessToken","email":"kim@example.com+kakao","exp":1700000001}"#
        ));
        assert!(
            !is_plausible(r#"{"email":"kim@example.com+kakao","exp":1700000000}"#),
            "expired"
        );
        assert!(
            !is_plausible(r#"{"email":"lee@example.com+kakao","exp":1700000001}"#),
            "another account"
        );
        assert!(
            !is_plausible(r#"{"email":"kim@example.com+kakao"}"#),
            "without an expiry"
        );
        assert!(!plausible("a.b.c", &kim, 0));
        assert!(!plausible("opaque", &kim, 0));
        assert!(
            !plausible(
                &format!("{}.d", token(r#"{"email":"kim@example.com+kakao","exp":9}"#)),
                &kim,
                0
            ),
            "four parts"
        );
    }
}

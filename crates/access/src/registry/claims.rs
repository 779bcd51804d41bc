//! What a token says of itself, unproven: enough to turn away at the door what auth would turn away anyway.

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

/// Whether it is worth asking auth: a JWT that claims to be this account's and not to have ended.
///
/// An expired token is by far the commonest that no replica knows; it is 403 without a call, also with auth away.
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
    fn only_a_living_jwt_of_the_account_is_worth_a_call() {
        let kim: Account = "kim@example.com+kakao".parse().unwrap();
        let says = |payload: &str| plausible(&token(payload), &kim, 1_700_000_000_000);

        assert!(says(
            r#"{"sub":"AccessToken","email":"kim@example.com+kakao","exp":1700000001}"#
        ));
        assert!(
            !says(r#"{"email":"kim@example.com+kakao","exp":1700000000}"#),
            "its life has ended"
        );
        assert!(
            !says(r#"{"email":"lee@example.com+kakao","exp":1700000001}"#),
            "somebody else's"
        );
        assert!(!says(r#"{"email":"kim@example.com+kakao"}"#), "without an end");
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

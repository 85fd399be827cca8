//! The fingerprint of an order, which an idempotency key is bound to.

use request::idempotency::Fingerprint;

use super::{Order, Source};

impl Order {
    /// Identifies the request of an order: the operation and the values of the body. White space
    /// and the order of the members have no influence. The id and the time are excluded, because
    /// they are new with each try.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let (operation, from): (&[u8], &[u8]) = match &self.source {
            Source::Own { account, .. } => (b"transfer", account.as_bytes()),
            Source::System => (b"deposit", b""),
        };
        Fingerprint::of_parts(&[
            operation,
            from,
            self.to_account.as_bytes(),
            &self.amount.get().to_be_bytes(),
            self.reference.as_str().as_bytes(),
        ])
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::super::{Amount, Reference};
    use super::*;

    fn order(source: Source) -> Order {
        Order {
            id: Uuid::from_u128(1),
            source,
            to_account: Uuid::from_u128(4),
            amount: Amount::parse(5).unwrap(),
            reference: Reference::parse("rent").unwrap(),
            now: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_fingerprint_tells_every_value_of_the_body_and_nothing_else() {
        let first = order(Source::Own {
            account: Uuid::from_u128(2),
            owner: Uuid::from_u128(3),
        });
        let again = Order {
            id: Uuid::from_u128(77),
            now: OffsetDateTime::UNIX_EPOCH + time::Duration::SECOND,
            ..first.clone()
        };
        assert_eq!(first.fingerprint(), again.fingerprint());
        let others = [
            Order {
                source: Source::System,
                ..first.clone()
            },
            Order {
                source: Source::Own {
                    account: Uuid::from_u128(9),
                    owner: Uuid::from_u128(3),
                },
                ..first.clone()
            },
            Order {
                to_account: Uuid::from_u128(9),
                ..first.clone()
            },
            Order {
                amount: Amount::parse(6).unwrap(),
                ..first.clone()
            },
            Order {
                reference: Reference::parse("food").unwrap(),
                ..first.clone()
            },
        ];
        for other in others {
            assert_ne!(first.fingerprint(), other.fingerprint(), "{other:?}");
        }
    }

    /// Replicas of different versions share the table of keys. The expected values come from
    /// another implementation of SHA-256.
    #[test]
    fn fingerprints_never_change() {
        let digest = |source| {
            let fingerprint = order(source).fingerprint();
            let digits = telemetry::hex::digits::<32>(fingerprint.as_bytes().try_into().unwrap());
            String::from_utf8(digits.as_flattened().to_vec()).unwrap()
        };
        let own = Source::Own {
            account: Uuid::from_u128(2),
            owner: Uuid::from_u128(3),
        };
        assert_eq!(
            digest(own),
            "1250ed1e6ccbd4e738196a7463adfaf46201be85d0dea6a9db3b6c0db9e176bb"
        );
        assert_eq!(
            digest(Source::System),
            "80d8953b2f5c3f76b0a871e4e63b05f18afa44fdeee768287cce22a28ee63a1c"
        );
    }
}

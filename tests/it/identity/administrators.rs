//! Administrators in the store.

use identity::store::{ExpectedVersion, FirstAdministrator, Promotion};
use request::Role;
use settings::clock::{Clock as _, SystemClock};

use super::erasure::{Slice, audit, new_user, store};
use super::sql::{execute, value};
use crate::on_both;
use crate::support::Service;

on_both! {
    async fn concurrent_creations_yield_one_first_administrator(backend: Backend) {
        let service = Service::start(backend).await;
        let store = store(&service, Slice::default());
        let count = "SELECT count(*) FROM users WHERE role = 'admin'";
        for _ in 0..10 {
            let demote = "UPDATE users SET role = 'user' WHERE role = $1";
            execute(backend, &service, demote, "admin".to_owned()).await;
            assert!(!store.has_administrator().await.unwrap());
            let audit = audit();
            let create = || store.create_first_administrator(new_user(Role::Admin), &audit);
            let made = tokio::join!(create(), create(), create(), create());
            let made = [made.0, made.1, made.2, made.3].map(Result::unwrap);
            let made_as = |outcome| made.iter().filter(|made| **made == outcome).count();
            assert_eq!(made_as(FirstAdministrator::Created), 1, "{made:?}");
            assert_eq!(made_as(FirstAdministrator::NotNeeded), 3, "{made:?}");
            assert_eq!(value::<i64>(backend, &service, count).await, 1);
        }
    }

    async fn an_erased_user_is_not_promoted(backend: Backend) {
        let service = Service::start(backend).await;
        let store = store(&service, Slice::default());
        let (user, now) = (new_user(Role::User), SystemClock.now());
        let id = user.user.id;
        store.create_user(user, &audit()).await.unwrap();
        assert_eq!(store.promote(id, now, &audit()).await.unwrap(), Promotion::Promoted);
        assert_eq!(store.promote(id, now, &audit()).await.unwrap(), Promotion::AlreadyAdministrator);
        store.erase_user(id, None, ExpectedVersion::Any, now, &audit()).await.unwrap();
        assert_eq!(store.promote(id, now, &audit()).await.unwrap(), Promotion::NoSuchUser);
    }
}

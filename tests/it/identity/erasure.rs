//! Participation of other slices in the erasure of a user: in its transaction, with the right to
//! refuse.

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use db::{self, Database, DbError, DbMetrics};
use identity::domain::{Email, Name, User, UserChange};
use identity::store::{
    ChangeError, ErasureError, ErasureHook, ExpectedVersion, IdentityStore, NewUser,
    PostgresIdentityStore, SqliteIdentityStore,
};
use request::problem::codes;
use request::{Problem, Role};
use settings::clock::{Clock as _, SystemClock, new_id};
use settings::{Layers, Reader};
use telemetry::Exemplars;

use crate::on_both;
use crate::support::Service;

/// A slice that renames the user in the transaction and then agrees or refuses.
#[derive(Default)]
pub(super) struct Slice {
    holds_money: bool,
    asked: Arc<Mutex<Vec<uuid::Uuid>>>,
}

impl Slice {
    fn answer(&self, user: uuid::Uuid) -> Result<(), ErasureError> {
        self.asked.lock().unwrap().push(user);
        if self.holds_money {
            let kept = Problem::new(codes::FORBIDDEN, "The user still has something.");
            return Err(ErasureError::Refused(kept));
        }
        Ok(())
    }
}

#[async_trait]
impl ErasureHook<sqlx::Sqlite> for Slice {
    async fn erase(
        &self,
        connection: &mut sqlx::SqliteConnection,
        user: uuid::Uuid,
    ) -> Result<(), ErasureError> {
        sqlx::query("UPDATE users SET name = 'touched' WHERE id = ?1")
            .bind(user)
            .execute(connection)
            .await
            .map_err(DbError::from)?;
        self.answer(user)
    }
}

#[async_trait]
impl ErasureHook<sqlx::Postgres> for Slice {
    async fn erase(
        &self,
        connection: &mut sqlx::PgConnection,
        user: uuid::Uuid,
    ) -> Result<(), ErasureError> {
        sqlx::query("UPDATE users SET name = 'touched' WHERE id = $1")
            .bind(user)
            .execute(connection)
            .await
            .map_err(DbError::from)?;
        self.answer(user)
    }
}

pub(super) fn store(service: &Service, slice: Slice) -> Arc<dyn IdentityStore> {
    let url = (
        "APP__DATABASE__URL".to_owned(),
        service.database.url().to_owned(),
    );
    let nowhere = Path::new("/nonexistent");
    let mut reader = Reader::new(Layers::load(nowhere, nowhere, [url]));
    let config = db::Config::read(&mut reader);
    let metrics = DbMetrics::register(&prometheus::Registry::new()).unwrap();
    match Database::new(
        &gantry::SCHEMA,
        &config,
        Arc::new(metrics),
        Exemplars::default(),
    )
    .unwrap()
    {
        Database::Sqlite(db) => Arc::new(SqliteIdentityStore::new(db, vec![Arc::new(slice)])),
        Database::Postgres(db) => Arc::new(PostgresIdentityStore::new(db, vec![Arc::new(slice)])),
    }
}

/// A user with a unique address.
pub(super) fn new_user(role: Role) -> NewUser {
    let id = new_id();
    let user = User {
        id,
        email: Email::parse(&format!("{}@example.com", id.simple())).unwrap(),
        name: Name::parse("Ada").unwrap(),
        role,
        created_at: SystemClock.now(),
        version: 1,
    };
    let password_hash = "$argon2id$".to_owned();
    NewUser {
        user,
        password_hash,
    }
}

on_both! {
    async fn a_refused_erasure_is_rolled_back(backend: Backend) {
        // The service has migrated the database.
        let service = Service::start(backend).await;
        let asked = Arc::default();
        let slice = Slice { holds_money: true, asked: Arc::clone(&asked) };
        let store = store(&service, slice);
        let new = new_user(Role::User);
        let user = new.user.clone();
        store.create_user(new).await.unwrap();
        let refused = store.erase_user(user.id, None, ExpectedVersion::Any, SystemClock.now()).await;
        assert!(matches!(refused, Err(ChangeError::ErasureRefused(_))), "{refused:?}");
        assert_eq!(*asked.lock().unwrap(), [user.id]);
        assert_eq!(store.user(user.id).await.unwrap(), Some(user), "its own write included");
    }

    async fn slices_are_called_once_and_only_for_the_current_version(backend: Backend) {
        let service = Service::start(backend).await;
        let asked: Arc<Mutex<Vec<uuid::Uuid>>> = Arc::default();
        let slice = Slice { holds_money: false, asked: Arc::clone(&asked) };
        let store = store(&service, slice);
        let new = new_user(Role::User);
        let user = new.user.clone();
        store.create_user(new).await.unwrap();
        let now = SystemClock.now();
        let stale = store.erase_user(user.id, None, ExpectedVersion::OneOf(vec![7]), now).await;
        assert!(matches!(stale, Err(ChangeError::VersionMismatch)), "{stale:?}");
        store.erase_user(user.id, None, ExpectedVersion::OneOf(vec![1]), now).await.unwrap();
        let again = store.erase_user(user.id, None, ExpectedVersion::Any, now).await;
        assert!(matches!(again, Err(ChangeError::NoSuchUser)), "{again:?}");
        assert_eq!(*asked.lock().unwrap(), [user.id]);
        assert_eq!(store.user(user.id).await.unwrap(), None);
        assert_eq!(store.access_state(user.id, None).await.unwrap().user, None);
        let change = store.update_user(user.id, None, ExpectedVersion::Any, UserChange::default(), now).await;
        assert!(matches!(change, Err(ChangeError::NoSuchUser)), "{change:?}");
    }
}

//! The store of both backends. A backend has the SQL, in modules of the same names. Everything else is
//! written once, here and in [`decisions`](super::decisions).

/// Runs `$work` in a transaction and adds the events of its log to the audit trail before the commit.
macro_rules! audited {
    ($store:ident, $name:literal, $audit:expr, $now:expr, |$tx:ident, $log:ident| $work:block) => {
        $store
            .db
            .transact($name, || async {
                let mut $tx = $store.db.begin().await?;
                let mut $log = AuditLog::new($audit, $now);
                let done = async { $work }.await?;
                decisions::append_audit_events(&mut *$tx, &mut $log).await?;
                $tx.commit().await.map_err(DbError::from)?;
                $log.committed();
                Ok(done)
            })
            .await
    };
}
pub(super) use audited;

/// Implements [`IdentityStore`](super::IdentityStore) for the store of a backend. The calling module
/// has the store, with the fields `db` and `hooks`, and the modules of its SQL.
macro_rules! implement_identity_store {
    ($store:ident) => {
        mod implementation {
            use async_trait::async_trait;
            use db::DbError;
            use request::Role;
            use request::page::PageRequest;
            use time::OffsetDateTime;
            use uuid::Uuid;

            use super::{api_keys, audit, sessions, tokens, users, $store};
            use crate::audit::{AuditContext, AuditEvent, StoredEvent};
            use crate::domain::{ApiKey, Email, Session, User, UserChange, UserFilter};
            use crate::store::audit::AuditLog;
            use crate::store::decisions;
            use crate::store::implementation::audited;
            use crate::store::queries::Queries as _;
            use crate::store::{
                AccessState, AuditFilter, AuditHead, ChangeError, ExpectedVersion,
                FirstAdministrator, IdentityStore, NewApiKey, NewTokenFamily, NewUser, Promotion,
                RefreshTokenHash, RotationOutcome, RotationRequest, StoredApiKey,
                StoredCredentials,
            };

            #[async_trait]
            impl IdentityStore for $store {
                async fn create_user(
                    &self,
                    new: NewUser,
                    audit: &AuditContext,
                ) -> Result<(), ChangeError> {
                    audited!(
                        self,
                        "create_user",
                        audit,
                        new.user.created_at,
                        |tx, log| { decisions::create_user(&mut *tx, &new, &mut log).await }
                    )
                }

                async fn user(&self, id: Uuid) -> Result<Option<User>, DbError> {
                    users::user(&self.db, id).await
                }

                async fn list_users(
                    &self,
                    filter: &UserFilter,
                    page: PageRequest,
                ) -> Result<Vec<User>, DbError> {
                    users::list(&self.db, filter, page).await
                }

                async fn access_state(
                    &self,
                    user: Uuid,
                    session: Option<Uuid>,
                ) -> Result<AccessState, DbError> {
                    sessions::access_state(&self.db, user, session).await
                }

                async fn credentials(
                    &self,
                    email: &Email,
                ) -> Result<Option<StoredCredentials>, DbError> {
                    users::credentials(&self.db, email).await
                }

                async fn password_hash(&self, id: Uuid) -> Result<Option<String>, DbError> {
                    users::password_hash(&self.db, id).await
                }

                async fn update_user(
                    &self,
                    id: Uuid,
                    verified_hash: Option<&str>,
                    expected: ExpectedVersion,
                    change: UserChange,
                    now: OffsetDateTime,
                    audit: &AuditContext,
                ) -> Result<User, ChangeError> {
                    audited!(self, "update_user", audit, now, |tx, log| {
                        decisions::update_user(
                            &mut *tx,
                            id,
                            verified_hash,
                            &expected,
                            &change,
                            now,
                            &mut log,
                        )
                        .await
                    })
                }

                async fn change_password(
                    &self,
                    id: Uuid,
                    verified_hash: &str,
                    new_hash: &str,
                    now: OffsetDateTime,
                    audit: &AuditContext,
                ) -> Result<(), ChangeError> {
                    audited!(self, "change_password", audit, now, |tx, log| {
                        decisions::change_password(
                            &mut *tx,
                            id,
                            verified_hash,
                            new_hash,
                            now,
                            &mut log,
                        )
                        .await
                    })
                }

                async fn change_role(
                    &self,
                    id: Uuid,
                    expected: ExpectedVersion,
                    role: Role,
                    now: OffsetDateTime,
                    audit: &AuditContext,
                ) -> Result<User, ChangeError> {
                    audited!(self, "change_role", audit, now, |tx, log| {
                        decisions::change_role(&mut *tx, id, &expected, role, now, &mut log).await
                    })
                }

                async fn erase_user(
                    &self,
                    id: Uuid,
                    verified_hash: Option<&str>,
                    expected: ExpectedVersion,
                    now: OffsetDateTime,
                    audit: &AuditContext,
                ) -> Result<(), ChangeError> {
                    audited!(self, "erase_user", audit, now, |tx, log| {
                        tx.lock_inserts_for(id).await?;
                        decisions::lock_for_erasure(&mut *tx, id, verified_hash, &expected).await?;
                        for hook in &self.hooks {
                            hook.erase(&mut tx, id).await?;
                        }
                        decisions::erase_user(&mut *tx, id, now, &mut log).await
                    })
                }

                async fn has_administrator(&self) -> Result<bool, DbError> {
                    self.db
                        .transact("has_administrator", || async {
                            let mut connection = self.db.acquire().await?;
                            connection.administrator_exists().await
                        })
                        .await
                }

                async fn create_first_administrator(
                    &self,
                    new: NewUser,
                    audit: &AuditContext,
                ) -> Result<FirstAdministrator, DbError> {
                    audited!(
                        self,
                        "create_first_administrator",
                        audit,
                        new.user.created_at,
                        |tx, log| {
                            tx.lock_first_administrator().await?;
                            decisions::create_first_administrator(&mut *tx, &new, &mut log).await
                        }
                    )
                }

                async fn promote(
                    &self,
                    id: Uuid,
                    now: OffsetDateTime,
                    audit: &AuditContext,
                ) -> Result<Promotion, DbError> {
                    audited!(self, "promote_user", audit, now, |tx, log| {
                        decisions::promote(&mut *tx, id, now, &mut log).await
                    })
                }

                async fn create_token_family(
                    &self,
                    family: NewTokenFamily,
                    audit: &AuditContext,
                ) -> Result<Option<u64>, DbError> {
                    audited!(self, "open_refresh_family", audit, family.now, |tx, log| {
                        decisions::create_token_family(&mut *tx, &family, &mut log).await
                    })
                }

                async fn rotate(
                    &self,
                    request: RotationRequest,
                    audit: &AuditContext,
                ) -> Result<RotationOutcome, DbError> {
                    audited!(
                        self,
                        "rotate_refresh_token",
                        audit,
                        request.now,
                        |tx, log| { decisions::rotate(&mut *tx, &request, &mut log).await }
                    )
                }

                async fn revoke_token_family(
                    &self,
                    token: RefreshTokenHash,
                    now: OffsetDateTime,
                    audit: &AuditContext,
                ) -> Result<Option<Uuid>, DbError> {
                    audited!(self, "revoke_refresh_family", audit, now, |tx, log| {
                        decisions::revoke_token_family(&mut *tx, token, now, &mut log).await
                    })
                }

                async fn list_sessions(
                    &self,
                    user: Uuid,
                    page: PageRequest,
                    now: OffsetDateTime,
                ) -> Result<Vec<Session>, DbError> {
                    sessions::list(&self.db, user, page, now).await
                }

                async fn end_session(
                    &self,
                    user: Uuid,
                    session: Uuid,
                    now: OffsetDateTime,
                    audit: &AuditContext,
                ) -> Result<bool, DbError> {
                    audited!(self, "end_session", audit, now, |tx, log| {
                        decisions::end_session(&mut *tx, user, session, now, &mut log).await
                    })
                }

                async fn end_sessions(
                    &self,
                    user: Uuid,
                    now: OffsetDateTime,
                    audit: &AuditContext,
                ) -> Result<(), DbError> {
                    audited!(self, "end_sessions", audit, now, |tx, log| {
                        decisions::end_sessions(&mut *tx, user, now, &mut log).await
                    })
                }

                async fn create_api_key(
                    &self,
                    new: NewApiKey,
                    audit: &AuditContext,
                ) -> Result<(), ChangeError> {
                    audited!(
                        self,
                        "create_api_key",
                        audit,
                        new.key.created_at,
                        |tx, log| { decisions::create_api_key(&mut *tx, &new, &mut log).await }
                    )
                }

                async fn list_api_keys(
                    &self,
                    user: Uuid,
                    page: PageRequest,
                    now: OffsetDateTime,
                ) -> Result<Vec<ApiKey>, DbError> {
                    api_keys::list(&self.db, user, page, now).await
                }

                async fn delete_api_key(
                    &self,
                    user: Uuid,
                    id: Uuid,
                    now: OffsetDateTime,
                    audit: &AuditContext,
                ) -> Result<bool, DbError> {
                    audited!(self, "delete_api_key", audit, now, |tx, log| {
                        decisions::delete_api_key(&mut *tx, user, id, &mut log).await
                    })
                }

                async fn api_key(&self, id: Uuid) -> Result<Option<StoredApiKey>, DbError> {
                    api_keys::find(&self.db, id).await
                }

                async fn record_api_key_use(
                    &self,
                    id: Uuid,
                    now: OffsetDateTime,
                    audit: &AuditContext,
                ) -> Result<(), DbError> {
                    audited!(self, "record_api_key_use", audit, now, |tx, log| {
                        decisions::record_api_key_use(&mut *tx, id, now, &mut log).await
                    })
                }

                async fn remove_api_key_batch(&self, now: OffsetDateTime) -> Result<u64, DbError> {
                    api_keys::remove_batch(&self.db, now).await
                }

                async fn remove_token_batch(&self, now: OffsetDateTime) -> Result<u64, DbError> {
                    tokens::remove_token_batch(&self.db, now).await
                }

                async fn remove_family_batch(&self, now: OffsetDateTime) -> Result<u64, DbError> {
                    tokens::remove_family_batch(&self.db, now).await
                }

                async fn append_audit_event(&self, event: AuditEvent) -> Result<(), DbError> {
                    let (context, now) = (event.context.clone(), event.occurred_at);
                    audited!(self, "append_audit_event", &context, now, |tx, log| {
                        log.push(event.clone());
                        Ok::<(), DbError>(())
                    })
                }

                async fn list_audit_events(
                    &self,
                    filter: AuditFilter,
                    page: PageRequest,
                ) -> Result<Vec<StoredEvent>, DbError> {
                    audit::list(&self.db, filter, page).await
                }

                async fn audit_head(&self) -> Result<AuditHead, DbError> {
                    audit::head(&self.db).await
                }

                async fn audit_events_from(
                    &self,
                    first: i64,
                    last: i64,
                    limit: u32,
                ) -> Result<Vec<StoredEvent>, DbError> {
                    audit::events_from(&self.db, first, last, limit).await
                }

                async fn expire_audit_events(
                    &self,
                    before: OffsetDateTime,
                    now: OffsetDateTime,
                ) -> Result<u64, DbError> {
                    let context = AuditContext::service();
                    audited!(self, "expire_audit_events", &context, now, |tx, log| {
                        decisions::expire_audit_events(&mut *tx, before, &mut log).await
                    })
                }
            }
        }
    };
}
pub(super) use implement_identity_store;

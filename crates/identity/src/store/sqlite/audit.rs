//! The audit trail on SQLite.

use db::{Db, DbError};
use request::page::PageRequest;
use settings::clock::{from_micros, to_micros};
use sqlx::{Sqlite, SqliteConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{Action, StoredEvent};
use crate::store::{AuditFilter, AuditHead, CLEANUP_BATCH};

/// A row as the table has it.
struct Row {
    sequence: i64,
    id: Uuid,
    occurred_at: i64,
    action: String,
    outcome: String,
    actor_kind: String,
    actor_id: Option<Uuid>,
    credential_id: Option<Uuid>,
    subject_id: Option<Uuid>,
    object_id: Option<Uuid>,
    network: Option<String>,
    request_id: Option<String>,
    detail: Option<String>,
    hash: Vec<u8>,
}

impl From<Row> for StoredEvent {
    fn from(row: Row) -> Self {
        Self {
            sequence: row.sequence,
            id: row.id,
            occurred_at: from_micros(row.occurred_at),
            action: row.action,
            outcome: row.outcome,
            actor_kind: row.actor_kind,
            actor_id: row.actor_id,
            credential_id: row.credential_id,
            subject_id: row.subject_id,
            object_id: row.object_id,
            network: row.network,
            request_id: row.request_id,
            detail: row.detail,
            // The table admits this length only. Another one would equal no hash.
            hash: row.hash.try_into().unwrap_or_default(),
        }
    }
}

/// Reads the ends of the trail.
pub(super) async fn read_head(connection: &mut SqliteConnection) -> Result<AuditHead, DbError> {
    let head = sqlx::query!("SELECT sequence, hash, expired_through, expired_hash FROM audit_head")
        .fetch_one(connection)
        .await?;
    Ok(AuditHead {
        sequence: head.sequence,
        hash: head.hash.try_into().unwrap_or_default(),
        expired_through: head.expired_through,
        expired_hash: head.expired_hash.try_into().unwrap_or_default(),
    })
}

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    event: &StoredEvent,
) -> Result<(), DbError> {
    let (occurred_at, hash) = (to_micros(event.occurred_at), event.hash.as_slice());
    sqlx::query!(
        "INSERT INTO audit_events
             (sequence, id, occurred_at, action, outcome, actor_kind, actor_id, credential_id,
              subject_id, object_id, network, request_id, detail, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        event.sequence,
        event.id,
        occurred_at,
        event.action,
        event.outcome,
        event.actor_kind,
        event.actor_id,
        event.credential_id,
        event.subject_id,
        event.object_id,
        event.network,
        event.request_id,
        event.detail,
        hash,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "UPDATE audit_head SET sequence = ?1, hash = ?2",
        event.sequence,
        hash,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Releases the oldest events that happened before a time, and removes them. The database refuses
/// to release young ones.
pub(super) async fn release(
    connection: &mut SqliteConnection,
    before: OffsetDateTime,
) -> Result<u64, DbError> {
    let head = read_head(&mut *connection).await?;
    let last_of_batch = head.expired_through + i64::from(CLEANUP_BATCH);
    let before = to_micros(before);
    // The first event that stays ends the batch, also where the clocks of replicas differ.
    let first_kept = sqlx::query_scalar!(
        r#"SELECT min(sequence) AS "first_kept: i64" FROM audit_events
           WHERE sequence <= ?1 AND occurred_at >= ?2"#,
        last_of_batch,
        before,
    )
    .fetch_one(&mut *connection)
    .await?;
    let through = first_kept.map_or(last_of_batch, |kept| kept - 1);
    let through = through.min(head.sequence);
    if through <= head.expired_through {
        return Ok(0);
    }
    sqlx::query!(
        "UPDATE audit_head
         SET expired_through = ?1,
             expired_hash = (SELECT hash FROM audit_events WHERE sequence = ?1)",
        through,
    )
    .execute(&mut *connection)
    .await?;
    let removed = sqlx::query!("DELETE FROM audit_events WHERE sequence <= ?1", through)
        .execute(connection)
        .await?;
    Ok(removed.rows_affected())
}

pub(super) async fn head(db: &Db<Sqlite>) -> Result<AuditHead, DbError> {
    db.run("audit_head", async {
        let mut connection = db.acquire().await?;
        read_head(&mut connection).await
    })
    .await
}

pub(super) async fn events_from(
    db: &Db<Sqlite>,
    first: i64,
    last: i64,
    limit: u32,
) -> Result<Vec<StoredEvent>, DbError> {
    let limit = i64::from(limit);
    db.run("audit_events_from", async {
        let mut connection = db.acquire().await?;
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT sequence, id AS "id: Uuid", occurred_at, action, outcome, actor_kind,
                      actor_id AS "actor_id: Uuid", credential_id AS "credential_id: Uuid",
                      subject_id AS "subject_id: Uuid", object_id AS "object_id: Uuid",
                      network, request_id, detail, hash
               FROM audit_events WHERE sequence BETWEEN ?1 AND ?2
               ORDER BY sequence LIMIT ?3"#,
            first,
            last,
            limit,
        )
        .fetch_all(&mut *connection)
        .await?;
        Ok(rows.into_iter().map(StoredEvent::from).collect())
    })
    .await
}

pub(super) async fn list(
    db: &Db<Sqlite>,
    filter: AuditFilter,
    page: PageRequest,
) -> Result<Vec<StoredEvent>, DbError> {
    let action = filter.action.map(Action::as_str);
    let (after, limit) = (page.after.unwrap_or(Uuid::max()), page.fetch());
    db.run("list_audit_events", async {
        let mut connection = db.acquire().await?;
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT sequence, id AS "id: Uuid", occurred_at, action, outcome, actor_kind,
                      actor_id AS "actor_id: Uuid", credential_id AS "credential_id: Uuid",
                      subject_id AS "subject_id: Uuid", object_id AS "object_id: Uuid",
                      network, request_id, detail, hash
               FROM audit_events
               WHERE id < ?1 AND (?2 IS NULL OR action = ?2)
                 AND (?3 IS NULL OR actor_id = ?3)
                 AND (?4 IS NULL OR subject_id = ?4)
               ORDER BY id DESC LIMIT ?5"#,
            after,
            action,
            filter.actor,
            filter.subject,
            limit,
        )
        .fetch_all(&mut *connection)
        .await?;
        Ok(rows.into_iter().map(StoredEvent::from).collect())
    })
    .await
}

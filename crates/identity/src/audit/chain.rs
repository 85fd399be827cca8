//! The chain of hashes over the events.

use settings::clock::to_micros;
use time::OffsetDateTime;
use uuid::Uuid;

use super::event::{Actor, AuditEvent};
use crate::hash::{hex, sha256};

/// SHA-256 of an event and the hash before it.
pub type ChainHash = [u8; 32];

/// The hash before the first event.
pub(crate) const GENESIS: ChainHash = [0; 32];

/// An event at its place in the chain, as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Position in the chain, from 1 without gaps.
    pub sequence: i64,
    /// UUIDv7.
    pub id: Uuid,
    /// Time of the event.
    pub occurred_at: OffsetDateTime,
    /// A word of [`Action`](super::Action).
    pub action: String,
    /// A word of [`AuditOutcome`](super::AuditOutcome).
    pub outcome: String,
    /// A word of [`Actor`].
    pub actor_kind: String,
    /// The user who acted.
    pub actor_id: Option<Uuid>,
    /// The API key of the actor.
    pub credential_id: Option<Uuid>,
    /// The user whom the event concerns.
    pub subject_id: Option<Uuid>,
    /// The session or the API key that the event concerns.
    pub object_id: Option<Uuid>,
    /// Network of the client.
    pub network: Option<String>,
    /// Id of the request.
    pub request_id: Option<String>,
    /// A word that the action needs beside the ids.
    pub detail: Option<String>,
    /// Hash of this row.
    pub hash: ChainHash,
}

impl StoredEvent {
    /// Puts an event behind the row `sequence - 1`, whose hash is `previous`.
    pub(crate) fn chained(event: &AuditEvent, sequence: i64, previous: &ChainHash) -> Self {
        let (actor_id, credential_id) = match event.context.actor {
            Actor::User { id, api_key } => (Some(id), api_key),
            _ => (None, None),
        };
        let mut stored = Self {
            sequence,
            id: event.id,
            occurred_at: event.occurred_at,
            action: event.action.as_str().to_owned(),
            outcome: event.outcome.as_str().to_owned(),
            actor_kind: event.context.actor.kind().to_owned(),
            actor_id,
            credential_id,
            subject_id: event.subject,
            object_id: event.object,
            network: event.context.network.clone(),
            request_id: event.context.request_id.clone(),
            detail: event.detail.clone(),
            hash: GENESIS,
        };
        stored.hash = stored.compute_hash(previous);
        stored
    }

    /// The hash that this row must have behind a row with the hash `previous`. Each column has its
    /// length before it, so that two rows with different columns never have the same bytes.
    pub(crate) fn compute_hash(&self, previous: &ChainHash) -> ChainHash {
        let mut row = previous.to_vec();
        let mut column = |bytes: Option<&[u8]>| match bytes {
            None => row.extend(u64::MAX.to_be_bytes()),
            Some(bytes) => {
                row.extend((bytes.len() as u64).to_be_bytes());
                row.extend(bytes);
            }
        };
        column(Some(&self.sequence.to_be_bytes()));
        column(Some(self.id.as_bytes()));
        column(Some(&to_micros(self.occurred_at).to_be_bytes()));
        for text in [&self.action, &self.outcome, &self.actor_kind] {
            column(Some(text.as_bytes()));
        }
        for id in [
            &self.actor_id,
            &self.credential_id,
            &self.subject_id,
            &self.object_id,
        ] {
            column(id.as_ref().map(|id| id.as_bytes().as_slice()));
        }
        for text in [&self.network, &self.request_id, &self.detail] {
            column(text.as_deref().map(str::as_bytes));
        }
        sha256(&row)
    }

    /// Writes the event to the log, after its commit.
    pub(crate) fn log(&self) {
        tracing::info!(
            target: "audit",
            sequence = self.sequence,
            action = self.action,
            outcome = self.outcome,
            actor_kind = self.actor_kind,
            actor = self.actor_id.map(tracing::field::display),
            api_key = self.credential_id.map(tracing::field::display),
            subject = self.subject_id.map(tracing::field::display),
            object = self.object_id.map(tracing::field::display),
            network = self.network,
            detail = self.detail,
            hash = hex(&self.hash),
            "audit event"
        );
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::event::{Action, AuditContext};
    use super::*;

    /// A chain of events, the first of which follows `previous`.
    pub(crate) fn chain(length: i64) -> Vec<StoredEvent> {
        let mut previous = GENESIS;
        let event = |_| {
            let now = OffsetDateTime::UNIX_EPOCH;
            let context = AuditContext::operator();
            AuditEvent::new(Action::RoleChanged, context, now).subject(Uuid::nil())
        };
        (1..=length)
            .map(|sequence| {
                let stored = StoredEvent::chained(&event(sequence), sequence, &previous);
                previous = stored.hash;
                stored
            })
            .collect()
    }

    #[test]
    fn every_column_changes_the_hash() {
        let row = chain(1).remove(0);
        let changes: [fn(&mut StoredEvent); 12] = [
            |row| row.sequence += 1,
            |row| row.id = Uuid::max(),
            |row| row.occurred_at += time::Duration::microseconds(1),
            |row| row.action.push('x'),
            |row| row.outcome.push('x'),
            |row| row.actor_kind.push('x'),
            |row| row.actor_id = Some(Uuid::max()),
            |row| row.credential_id = Some(Uuid::max()),
            |row| row.subject_id = None,
            |row| row.object_id = Some(Uuid::max()),
            |row| row.network = Some("x".to_owned()),
            |row| row.detail = Some(String::new()),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut copy = row.clone();
            change(&mut copy);
            assert_ne!(copy.compute_hash(&GENESIS), row.hash, "{number}");
        }
        assert_ne!(row.compute_hash(&[1; 32]), row.hash);
        // A value that moves to the neighbouring column changes the hash too.
        let hash_with = |change: fn(&mut StoredEvent)| {
            let mut copy = row.clone();
            change(&mut copy);
            copy.compute_hash(&GENESIS)
        };
        assert_ne!(
            hash_with(|row| row.actor_id = Some(Uuid::max())),
            hash_with(|row| row.credential_id = Some(Uuid::max()))
        );
        assert_ne!(
            hash_with(|row| row.network = Some(String::new())),
            hash_with(|row| row.request_id = Some(String::new()))
        );
    }
}

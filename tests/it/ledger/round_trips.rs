//! Number of round trips between a request and Postgres.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use settings::clock::new_id;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Fixture, claim, payment};
use crate::support::{Backend, TestDatabase};

/// A proxy in front of the server that counts `ReadyForQuery`: one for each response that a client
/// waits for.
struct Counter {
    port: u16,
    answers: Arc<AtomicUsize>,
}

impl Counter {
    async fn start_before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&answers);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server)
                    .await
                    .expect("the server answers");
                let (mut from_client, mut to_client) = client.into_split();
                let (from_server, mut to_server) = server.into_split();
                tokio::spawn(
                    async move { tokio::io::copy(&mut from_client, &mut to_server).await },
                );
                let counted = Arc::clone(&counted);
                tokio::spawn(async move { forward(from_server, &mut to_client, &counted).await });
            }
        });
        Self { port, answers }
    }

    fn answers(&self) -> usize {
        self.answers.load(Ordering::SeqCst)
    }
}

/// Forwards whole server messages: a type, a length that includes itself, and the content.
async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    answers: &AtomicUsize,
) -> std::io::Result<()> {
    loop {
        let kind = from.read_u8().await?;
        let length = from.read_u32().await?;
        let mut rest = vec![0; usize::try_from(length).unwrap() - 4];
        from.read_exact(&mut rest).await?;
        // Counted before the client receives it.
        answers.fetch_add(usize::from(kind == b'Z'), Ordering::SeqCst);
        to.write_u8(kind).await?;
        to.write_u32(length).await?;
        to.write_all(&rest).await?;
    }
}

async fn fixture() -> (Fixture, Counter) {
    let database = TestDatabase::create(Backend::Postgres).await;
    let mut url = reqwest::Url::parse(database.url()).unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
    let counter = Counter::start_before(server).await;
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(counter.port)).unwrap();
    url.query_pairs_mut().append_pair("sslmode", "disable");
    (Fixture::reached_by(database, url.into()).await, counter)
}

/// Number of requests.
const TIMES: usize = 20;
/// sqlx pings connections that were idle for a second, which happens on busy machines. Half a round
/// trip more for each request would be another statement, or a ping after each.
const AT_MOST: usize = TIMES + TIMES / 2;

#[tokio::test]
async fn a_transfer_on_postgres_is_one_round_trip() {
    let (ledger, counter) = fixture().await;
    let (anna, ben) = (new_id(), new_id());
    let from = ledger.open_with(anna, "EUR", 1_000).await;
    let to = ledger.open(ben, "EUR").await;
    for keyed in [true, false] {
        // The first execution prepares the statement.
        for index in 0..=TIMES {
            let order = payment(anna, from, to, 1);
            let held = claim(anna, &format!("{keyed}{index}"), &order);
            let before = counter.answers();
            ledger.send(&order, keyed.then_some(&held)).await.unwrap();
            assert!(counter.answers() > before, "the counter counts");
            if index == 0 {
                counter.answers.store(0, Ordering::SeqCst);
            }
        }
        let answers = counter.answers();
        assert!(
            (TIMES..AT_MOST).contains(&answers),
            "{answers} for {TIMES} transfers"
        );
    }
    // Refusals and replayed responses take one round trip as well.
    let order = payment(anna, from, to, 10_000);
    let held = claim(anna, "refused", &order);
    counter.answers.store(0, Ordering::SeqCst);
    for _ in 0..TIMES {
        ledger.send(&order, Some(&held)).await.unwrap_err();
    }
    let answers = counter.answers();
    assert!(
        (TIMES..AT_MOST).contains(&answers),
        "{answers} for {TIMES} refusals"
    );
}

#[tokio::test]
async fn a_read_on_postgres_is_one_round_trip() {
    let (ledger, counter) = fixture().await;
    let anna = new_id();
    let account = ledger.open(anna, "EUR").await;
    ledger.balance(anna, account).await;
    counter.answers.store(0, Ordering::SeqCst);
    for _ in 0..TIMES {
        ledger.balance(anna, account).await;
    }
    let answers = counter.answers();
    assert!(
        (TIMES..AT_MOST).contains(&answers),
        "{answers} for {TIMES} reads"
    );
}

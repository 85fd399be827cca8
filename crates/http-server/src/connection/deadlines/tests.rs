use super::*;

const PATIENCE: ConnectionTimeouts = ConnectionTimeouts {
    header: Duration::from_millis(20),
    idle: Duration::from_millis(60),
    rate: 1,
};

#[tokio::test]
async fn a_new_connection_waits_for_its_header_a_used_one_for_longer() {
    let watch = ConnectionDeadlines::new(PATIENCE);
    let began = Instant::now();
    assert_eq!(watch.lapse().await, EndReason::Header);
    drop(watch.begin());
    assert_eq!(watch.lapse().await, EndReason::Idle);
    assert!(began.elapsed() >= PATIENCE.header + PATIENCE.idle);
}

#[tokio::test]
async fn half_a_header_after_a_request_has_the_shorter_patience() {
    let watch = ConnectionDeadlines::new(PATIENCE);
    drop(watch.begin());
    watch.bytes_came();
    assert_eq!(watch.lapse().await, EndReason::Header);
}

#[tokio::test]
async fn a_request_in_flight_has_no_deadline_here() {
    let watch = ConnectionDeadlines::new(PATIENCE);
    let flight = watch.begin();
    let lapse = tokio::time::timeout(PATIENCE.idle * 3, watch.lapse()).await;
    assert!(lapse.is_err());
    drop(flight);
    assert_eq!(watch.lapse().await, EndReason::Idle);
}

/// Writes `bytes` every 5 ms and is then blocked. Returns the time until the watch ended the wait.
async fn read_at(bytes: usize) -> Option<Duration> {
    let watch = ConnectionDeadlines::new(ConnectionTimeouts {
        rate: 10_000,
        ..PATIENCE
    });
    let _flight = watch.begin();
    let began = Instant::now();
    watch.wrote(Poll::Pending);
    let reading = async {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            watch.wrote(Poll::Ready(bytes));
            watch.wrote(Poll::Pending);
        }
    };
    tokio::select! {
        lapse = watch.lapse() => {
            assert_eq!(lapse, EndReason::Write);
            Some(began.elapsed())
        }
        () = reading => None,
        () = tokio::time::sleep(PATIENCE.idle * 4) => None,
    }
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_is_one_that_does_not_read() {
    let ended = read_at(1).await.expect("200 bytes a second are too few");
    assert!(
        ended >= PATIENCE.idle && ended < PATIENCE.idle * 3,
        "{ended:?}"
    );
    assert_eq!(read_at(1_000).await, None);
}

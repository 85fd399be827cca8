//! Closes a connection without losing the answer (RFC 9112, section 9.6).
//!
//! The operating system resets a connection that is closed while bytes of the client are unread.
//! The reset can overtake the answer, for example a 431 or a 400. So after the last byte of the
//! answer, such bytes are read and discarded for a bounded time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Time for the client to send the rest and to close.
const TIME: Duration = Duration::from_secs(1);
/// Maximum bytes that are discarded.
const MAX_BYTES: usize = 1 << 20;

/// Progress of closing a connection.
#[derive(Default)]
pub(crate) enum Linger {
    /// The answer is being sent.
    #[default]
    Open,
    /// The sending side is shut down.
    Shut,
    /// The client had sent bytes that were not read. They are being discarded.
    Discarding { bytes: usize, end: Pin<Box<Sleep>> },
}

impl Linger {
    /// Shuts the connection down and discards the bytes that the client has sent.
    pub(crate) fn poll_shutdown<T: AsyncRead + AsyncWrite>(
        &mut self,
        mut inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if matches!(self, Self::Open) {
            ready!(inner.as_mut().poll_shutdown(cx))?;
            *self = Self::Shut;
        }
        let mut scratch = [0; 4 << 10];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            let polled = inner.as_mut().poll_read(cx, &mut buffer);
            let length = buffer.filled().len();
            match (&mut *self, polled) {
                // Without unread bytes there is no reset.
                (Self::Open | Self::Shut, Poll::Pending) => return Poll::Ready(Ok(())),
                (Self::Discarding { end, .. }, Poll::Pending) => {
                    return end.as_mut().poll(cx).map(Ok);
                }
                (_, Poll::Ready(read)) if length == 0 || read.is_err() => {
                    return Poll::Ready(Ok(()));
                }
                (Self::Discarding { bytes, .. }, Poll::Ready(_)) => {
                    *bytes += length;
                    if *bytes > MAX_BYTES {
                        return Poll::Ready(Ok(()));
                    }
                }
                (Self::Open | Self::Shut, Poll::Ready(_)) => {
                    *self = Self::Discarding {
                        bytes: length,
                        end: Box::pin(tokio::time::sleep(TIME)),
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    async fn close(mut server: TcpStream) {
        let mut linger = Linger::default();
        let shut = poll_fn(|cx| linger.poll_shutdown(Pin::new(&mut server), cx));
        shut.await.unwrap();
    }

    #[tokio::test]
    async fn what_the_client_has_sent_too_much_costs_it_no_answer() {
        let (mut client, mut server) = pair().await;
        client.write_all(&vec![b'x'; 100 << 10]).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        let reading = async {
            let mut answer = Vec::new();
            // A reset would be an error here.
            client.read_to_end(&mut answer).await.unwrap();
            client.write_all(&[b'x'; 1 << 10]).await.unwrap();
            drop(client);
            answer
        };
        let (answer, ()) = tokio::join!(reading, close(server));
        assert_eq!(answer, b"answer");
    }

    #[tokio::test]
    async fn a_connection_without_unread_bytes_closes_at_once() {
        let (client, server) = pair().await;
        tokio::time::timeout(TIME / 2, close(server)).await.unwrap();
        drop(client);
    }

    #[tokio::test]
    async fn a_client_that_goes_on_sending_is_left_after_so_many_bytes() {
        let (mut client, server) = pair().await;
        let endless = async {
            let piece = vec![b'x'; 64 << 10];
            while client.write_all(&piece).await.is_ok() {}
        };
        let bound = Duration::from_secs(30);
        let both = async { tokio::join!(endless, close(server)) };
        tokio::time::timeout(bound, both).await.unwrap();
    }
}

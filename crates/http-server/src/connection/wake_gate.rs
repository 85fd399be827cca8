//! A future that is polled only when its own waker was called.
//!
//! `select!` polls all of its branches when one of them is woken. A connection is woken at every
//! request. The events that could end it (a token, a timer) are rare, and each poll of them takes
//! locks.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use pin_project_lite::pin_project;

pin_project! {
    /// Skips polls that are meant for other futures of the same task.
    pub(crate) struct WakeGate<F> {
        #[pin]
        inner: F,
        bell: Arc<Bell>,
        // The waker of the inner future. It rings the bell.
        waker: Waker,
        // The task that the bell wakes, as of the last poll.
        task: Option<Waker>,
    }
}

#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Bell {
    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        // The task stays registered for the next ring.
        if let Some(task) = &*self.task() {
            task.wake_by_ref();
        }
    }
}

impl<F> WakeGate<F> {
    pub(crate) fn new(inner: F) -> Self {
        let bell = Arc::new(Bell::default());
        // The first poll must reach the inner future.
        bell.rung.store(true, Ordering::Relaxed);
        Self {
            inner,
            waker: Waker::from(Arc::clone(&bell)),
            bell,
            task: None,
        }
    }
}

impl<F: Future> Future for WakeGate<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // The task is registered before the bell is read, so that a later ring wakes this task.
        if !this
            .task
            .as_ref()
            .is_some_and(|task| task.will_wake(cx.waker()))
        {
            *this.bell.task() = Some(cx.waker().clone());
            *this.task = Some(cx.waker().clone());
        }
        if !this.bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // The bell is reset before the poll, so that a ring during the poll causes another one.
        this.bell.rung.store(false, Ordering::Relaxed);
        this.inner.poll(&mut Context::from_waker(this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn polls_for_others_do_not_reach_it() {
        let polls = Cell::new(0);
        let (send, mut receive) = tokio::sync::oneshot::channel();
        let counted = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            Pin::new(&mut receive).poll(cx)
        });
        let mut rarely = std::pin::pin!(WakeGate::new(counted));
        // The other branch is ready many times.
        for _ in 0..100 {
            tokio::select! {
                biased;
                _ = &mut rarely => panic!("nothing was sent"),
                () = tokio::task::yield_now() => {}
            }
            assert_eq!(polls.get(), 1);
        }
        send.send(7).unwrap();
        assert_eq!(rarely.await, Ok(7));
        assert_eq!(polls.get(), 2);
    }

    #[tokio::test]
    async fn it_is_woken_as_often_as_it_rings() {
        let (send, mut receive) = tokio::sync::mpsc::channel(1);
        let (echo, mut echoed) = tokio::sync::mpsc::channel(1);
        let echoing = WakeGate::new(async move {
            while let Some(number) = receive.recv().await {
                echo.send(number).await.unwrap();
            }
        });
        let asking = async move {
            for number in 0..3 {
                send.send(number).await.unwrap();
                let answer = tokio::time::timeout(Duration::from_secs(10), echoed.recv()).await;
                assert_eq!(answer.unwrap(), Some(number));
            }
        };
        tokio::join!(echoing, asking);
    }

    #[test]
    fn it_wakes_the_task_that_polled_it_last() {
        #[derive(Default)]
        struct Woken(AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let (send, receive) = tokio::sync::oneshot::channel();
        let mut rarely = Box::pin(WakeGate::new(receive));
        let [first, last]: [Arc<Woken>; 2] = Default::default();
        for task in [&first, &last] {
            let waker = Waker::from(Arc::clone(task));
            let polled = rarely.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        send.send(7).unwrap();
        assert!(!first.0.load(Ordering::Relaxed));
        assert!(last.0.load(Ordering::Relaxed));
    }
}

//! Callers who want the same kind of thing at the same moment share one round trip: whoever comes while one is under way waits for the
//! next. Where nobody is in a hurry, a round trip waits a moment for company.

use std::{future::Future, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use crate::event_log::StoreError;

/// How long a round trip may take: one that hangs must not hold up all who come after it.
const PATIENCE: Duration = Duration::from_secs(5);

type Waiting<T> = (T, oneshot::Sender<Result<(), StoreError>>);

/// Where things are handed in.
pub struct Grouped<T>(mpsc::UnboundedSender<Waiting<T>>);

/// The same for who must not keep it open: nothing is done any more once all others have gone.
pub struct LaterGrouped<T>(mpsc::WeakUnboundedSender<Waiting<T>>);

impl<T> LaterGrouped<T> {
    /// The place, while there is one.
    pub fn open(&self) -> Option<Grouped<T>> {
        self.0.upgrade().map(Grouped)
    }
}

impl<T: Clone + Send> Grouped<T> {
    /// `work` does up to `most` things, all or nothing, `moment` after the first of them came. The second part does it: it runs for as
    /// long as anybody may hand something in.
    pub fn new<W, F>(most: usize, moment: Duration, work: W) -> (Self, impl Future<Output = ()> + Send)
    where
        W: Fn(Vec<T>) -> F + Send + Sync,
        F: Future<Output = Result<(), StoreError>> + Send,
    {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Waiting<T>>();
        let drive = async move {
            let mut waiting = Vec::new();
            while receiver.recv_many(&mut waiting, most).await > 0 {
                if waiting.len() < most && !moment.is_zero() {
                    sleep(moment).await;
                    while waiting.len() < most
                        && let Ok(next) = receiver.try_recv()
                    {
                        waiting.push(next);
                    }
                }
                let (things, answers): (Vec<T>, Vec<_>) = waiting.drain(..).unzip();
                let done = in_time(work(things.clone())).await;
                if let (Err(StoreError::Refused(_)), 2..) = (&done, things.len()) {
                    // One of them is refused, which is no reason to refuse the others.
                    for (thing, answer) in things.into_iter().zip(answers) {
                        let _ = answer.send(in_time(work(vec![thing])).await);
                    }
                } else {
                    for answer in answers {
                        let _ = answer.send(done.clone());
                    }
                }
            }
        };
        (Self(sender), drive)
    }

    /// For who may want to hand something in later.
    pub fn later(&self) -> LaterGrouped<T> {
        LaterGrouped(self.0.downgrade())
    }

    /// Hands in one thing at once, whether or not anybody waits for what is given back: how that went.
    ///
    /// # Errors
    /// `work`'s; `Lost` when nobody does it any more.
    pub fn hand_in(&self, thing: T) -> impl Future<Output = Result<(), StoreError>> + Send + use<T> {
        let gone = || StoreError::Lost("nobody writes any more".to_owned());
        let (sender, answer) = oneshot::channel();
        let sent = self.0.send((thing, sender)).map_err(|_| gone());
        async move {
            sent?;
            answer.await.map_err(|_| gone())?
        }
    }

    /// Hands in one thing and waits until it is done.
    ///
    /// # Errors
    /// As of [`Self::hand_in`].
    pub async fn ask(&self, thing: T) -> Result<(), StoreError> {
        self.hand_in(thing).await
    }
}

async fn in_time(work: impl Future<Output = Result<(), StoreError>>) -> Result<(), StoreError> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(StoreError::Lost("no answer in time".to_owned())))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::future::join_all;

    use super::*;

    /// What was done, in groups; everything but 13 succeeds.
    async fn done_of(moment: Duration, things: Vec<u32>) -> (Vec<Vec<u32>>, Vec<Result<(), StoreError>>) {
        let seen: Arc<Mutex<Vec<Vec<u32>>>> = Arc::default();
        let note = Arc::clone(&seen);
        let (grouped, drive) = Grouped::new(3, moment, move |group: Vec<u32>| {
            note.lock().unwrap().push(group.clone());
            async move { if group.contains(&13) { Err(StoreError::Refused("13".to_owned())) } else { Ok(()) } }
        });
        let asked = async move { join_all(things.into_iter().map(|thing| grouped.ask(thing))).await };
        let (answers, ()) = tokio::join!(asked, drive);
        let seen = seen.lock().unwrap().clone();
        (seen, answers)
    }

    #[tokio::test]
    async fn those_who_come_together_share_a_round_trip() {
        let (seen, answers) = done_of(Duration::ZERO, vec![1, 2, 3, 4, 5]).await;
        assert_eq!(seen, [vec![1, 2, 3], vec![4, 5]]);
        assert!(answers.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn who_may_come_later_keeps_nobody_waiting_at_the_end() {
        let (grouped, drive) = Grouped::new(3, Duration::ZERO, |_: Vec<u32>| async { Ok(()) });
        let later = grouped.later();
        assert!(later.open().is_some());
        drop(grouped);
        drive.await;
        assert!(later.open().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_come_within_a_moment_share_one_too() {
        let (seen, moment) = (Arc::<Mutex<Vec<Vec<u32>>>>::default(), Duration::from_millis(10));
        let note = Arc::clone(&seen);
        let (grouped, drive) = Grouped::new(3, moment, move |group: Vec<u32>| {
            note.lock().unwrap().push(group);
            async { Ok(()) }
        });
        let handed_in = async move {
            let first = grouped.hand_in(1);
            sleep(moment / 2).await;
            let second = grouped.hand_in(2);
            sleep(moment).await;
            (first.await, second.await, grouped.ask(3).await)
        };
        let (answers, ()) = tokio::join!(handed_in, drive);
        assert_eq!(answers, (Ok(()), Ok(()), Ok(())));
        assert_eq!(*seen.lock().unwrap(), [vec![1, 2], vec![3]]);
    }

    #[tokio::test]
    async fn what_is_refused_does_not_stop_what_came_with_it() {
        let (seen, answers) = done_of(Duration::ZERO, vec![1, 13, 3]).await;
        assert_eq!(seen, [vec![1, 13, 3], vec![1], vec![13], vec![3]]);
        assert_eq!(answers, [Ok(()), Err(StoreError::Refused("13".to_owned())), Ok(())]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_holds_up_nobody_for_long() {
        let (grouped, drive) = Grouped::new(1, Duration::ZERO, |group: Vec<u32>| async move {
            if group == [1] {
                std::future::pending::<()>().await;
            }
            Ok(())
        });
        let asked = async move { join_all([grouped.ask(1), grouped.ask(2)]).await };
        let (answers, ()) = tokio::join!(asked, drive);
        assert_eq!(answers, [Err(StoreError::Lost("no answer in time".to_owned())), Ok(())]);
    }

    #[tokio::test]
    async fn nobody_waits_for_one_who_is_gone() {
        let (grouped, drive) = Grouped::new(3, Duration::ZERO, |_: Vec<u32>| async { Ok(()) });
        drop(drive);
        assert!(matches!(grouped.ask(1).await, Err(StoreError::Lost(_))));
    }
}

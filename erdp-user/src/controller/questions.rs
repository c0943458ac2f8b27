//! What a turn of the loop does for whoever asks: one request, one piece of a long list, or one piece of what a guard rail has to know.

use tokio::sync::oneshot;

use super::{
    Controller,
    configure::Step,
    exchange::{CHANGING, Order},
};
use crate::control::{
    Reply, Request,
    asked::{Asked, Asker},
};

impl Controller {
    /// Answers what was asked. Nobody waits for an answer any more where the asker has gone: then nothing is done, be it an order.
    pub(super) async fn on_asked(&mut self, asked: Asked) {
        match asked {
            Asked::Request { request, parsed, only_here, asker, answer } => {
                if is_given_up(&request, asker.as_ref(), &answer) {
                    return;
                }
                // The asker may have gone, whenever it is answered.
                if self.is_changing() && request.is_order() {
                    let reply = Reply::Error(CHANGING.to_owned());
                    self.note_order(&request, asker.as_ref(), &reply);
                    let _ = answer.send(reply);
                    return;
                }
                let reply = match &request {
                    Request::Config(asked) => match self.configure(asked, parsed.map(|it| *it)) {
                        Ok(Step::Change(change)) => {
                            let order = Order { request, asker, answer };
                            return self.begin_change(*change, Some(order)).await;
                        }
                        Ok(Step::Answer(value)) => Reply::Ok(value),
                        Err(why) => Reply::Error(why),
                    },
                    request => self.answer(request, only_here.as_ref()),
                };
                // What follows from an order is carried out before it is answered.
                self.carry_out().await;
                self.note_order(&request, asker.as_ref(), &reply);
                self.once_kept(&request, Box::new(move || drop(answer.send(reply))));
            }
            Asked::Parts { list, answer } => give(answer, || self.parts(&list)),
            Asked::Keys { part, answer } => give(answer, || self.keys(&part)),
            Asked::Rows { part, keys, answer } => give(answer, || self.rows(&part, &keys)),
            Asked::Search { request, answer } => give(answer, || self.search_for(&request)),
            Asked::Seek { peers, keys, answer } => give(answer, || self.seek(&peers, &keys)),
        }
    }
}

/// Whether nobody waits for the answer. It is looked at where the order would be carried out next, because it may have waited long: for a process
/// that was stopped, or a turn of the loop that took its time.
fn is_given_up(request: &Request, asker: Option<&Asker>, answer: &oneshot::Sender<Reply>) -> bool {
    let is_given_up = answer.is_closed() || asker.is_some_and(Asker::is_gone);
    if is_given_up && request.is_order() {
        let (user, process) = (asker.map(|it| it.user), asker.and_then(|it| it.process));
        tracing::warn!(
            user,
            process,
            what = request.summary(),
            "the order is not carried out: its client has gone"
        );
    }
    is_given_up
}

fn give<T>(answer: oneshot::Sender<T>, make: impl FnOnce() -> T) {
    if !answer.is_closed() {
        let _ = answer.send(make());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Configuring, Drilling, Topic};

    #[tokio::test]
    async fn an_order_of_a_client_that_has_gone_is_dropped_right_before_it_would_be_carried_out() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let asker = Asker::of(&tokio::net::UnixStream::from_std(ours).unwrap()).unwrap();
        let orders = [
            Request::Restart,
            Request::Config(Configuring::Rollback),
            Request::Drill(Drilling::Stop),
            Request::Show(Topic::Links),
        ];
        let (answer, _waits) = oneshot::channel();
        for order in &orders {
            assert!(!is_given_up(order, Some(&asker), &answer), "{order:?}");
            assert!(!is_given_up(order, None, &answer), "a signal's {order:?}");
        }
        // It is killed while its order waits; its task may not have noticed yet.
        drop(theirs);
        for order in &orders {
            assert!(is_given_up(order, Some(&asker), &answer), "{order:?}");
        }
    }
}

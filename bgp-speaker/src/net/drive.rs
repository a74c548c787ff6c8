//! The one task that owns the speaker.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};

use super::shell::Shell;
use super::{Options, Question};
use crate::config::SpeakerConfig;
use crate::speaker::{Event, Input, Output, Request, Shutdown, Speaker, Start};

/// Inputs handled before other tasks of the runtime have a turn.
const TURN: usize = 32;

/// The speaker and its sockets.
#[derive(Debug)]
pub(super) struct Driver {
    speaker: Speaker,
    shell: Shell,
    orders: Vec<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    End,
}

impl Driver {
    pub(super) fn new(start: Start, seed: u64, options: Options, events: mpsc::Sender<Event>) -> Self {
        let mut speaker = Speaker::new(seed, start);
        if let Some(host) = &options.host_name {
            speaker = speaker.with_host_name(host.clone());
        }
        Self {
            speaker,
            shell: Shell::new(options, events),
            orders: Vec::new(),
        }
    }

    pub(super) async fn run(
        mut self,
        mut wished: watch::Receiver<Arc<SpeakerConfig>>,
        mut asked: mpsc::Receiver<Question>,
    ) {
        loop {
            let due = self.speaker.next_timeout();
            let then = tokio::select! {
                input = self.shell.next() => {
                    self.handle(input);
                    self.take_turn();
                    Then::GoOn
                }
                // An error says that no handle is left; `asked` says so too.
                Ok(()) = wished.changed() => {
                    let config = Arc::clone(&wished.borrow_and_update());
                    self.handle(Input::Configured(config));
                    Then::GoOn
                }
                question = asked.recv() => {
                    self.answer(question.unwrap_or(Question::Shutdown(Shutdown::Stop)))
                }
                () = sleep_until(due) => {
                    self.handle(Input::TimedOut);
                    Then::GoOn
                }
            };
            if then == Then::End {
                break;
            }
        }
        self.shell.finish().await;
    }

    /// What else is there now, up to a limit, with every timer on its time.
    fn take_turn(&mut self) {
        for _ in 0..TURN {
            if self
                .speaker
                .next_timeout()
                .is_some_and(|due| due <= Instant::now())
            {
                self.handle(Input::TimedOut);
            }
            match self.shell.try_next() {
                Some(input) => self.handle(input),
                None => return,
            }
        }
    }

    fn handle(&mut self, input: Input) {
        self.speaker.handle(Instant::now(), input, &mut self.orders);
        for order in self.orders.drain(..) {
            self.shell.carry_out(order);
        }
        self.shell.settle();
    }

    fn answer(&mut self, question: Question) -> Then {
        // Who asked may have gone; then nobody misses the answer.
        match question {
            Question::Peers(answer) => {
                let _ = answer.send(self.speaker.peers());
            }
            Question::Routes(query, answer) => {
                let routes =
                    self.speaker
                        .routes(query.instance.as_deref(), query.table, query.family, query.peer);
                let _ = answer.send(routes);
            }
            Question::Ask(request, answer) => {
                let last = matches!(request, Request::Shutdown(_));
                let checked = self.speaker.check(&request);
                if checked.is_ok() {
                    self.handle(Input::Asked(request));
                }
                let _ = answer.send(checked);
                if last {
                    return Then::End;
                }
            }
            Question::Shutdown(how) => {
                self.handle(Input::Asked(Request::Shutdown(how)));
                return Then::End;
            }
            Question::LinkDown { interface, peers } => self.handle(Input::LinkDown { interface, peers }),
        }
        Then::GoOn
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

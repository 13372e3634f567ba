//! What is kept of an answer, for a caller that loses it.

use core::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header, response::Parts};
use tollgate_payment::{
    Retention, StoredBody,
    command::{Answer, Charge, Told},
    port::Admitted,
};

use crate::{Ending, Meter, Outcome};

/// The frames of a stream, as they go out, up to a length.
pub(crate) struct Record {
    retention: Retention,
    status: StatusCode,
    content_type: String,
    body: BytesMut,
    over: bool,
}

impl Record {
    /// An empty record of an answer with this head.
    pub(crate) fn new(retention: Retention, head: &Parts) -> Self {
        let content_type = head
            .headers
            .get(header::CONTENT_TYPE)
            .map(HeaderValue::to_str)
            .and_then(Result::ok)
            .unwrap_or_default();
        Self {
            retention,
            status: head.status,
            content_type: content_type.to_owned(),
            body: BytesMut::new(),
            over: false,
        }
    }

    pub(crate) fn push(&mut self, frame: &Bytes) {
        self.over |= self.body.len().saturating_add(frame.len()) > self.retention.bytes;
        if self.over {
            self.body = BytesMut::new();
        } else {
            self.body.extend_from_slice(frame);
        }
    }
}

/// How the last bytes belong to what came before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Join {
    /// They are the end of a stream.
    After,
    /// They are the whole answer.
    Instead,
}

/// The end of an answer: the meter writes it from the charge. What is kept and what is sent are the same bytes.
pub(crate) struct Closer<M>(Arc<Mutex<Closing<M>>>);

struct Closing<M> {
    meter: M,
    admitted: Admitted,
    outcome: Outcome,
    last: Option<(Charge, Option<Bytes>)>,
}

impl<M: Meter> Closer<M> {
    pub(crate) fn new(meter: M, admitted: Admitted, outcome: Outcome) -> Self {
        Self(Arc::new(Mutex::new(Closing {
            meter,
            admitted,
            outcome,
            last: None,
        })))
    }

    /// What the caller is told in the end, if it is worth keeping.
    pub(crate) fn answer(&self, record: Record, join: Join) -> Answer {
        let Record {
            retention,
            status,
            content_type,
            body,
            over,
        } = record;
        let (closing, body) = (Arc::clone(&self.0), body.freeze());
        Answer::new(retention, move |charge| {
            let mut closing = lock(&closing);
            // What cost nothing and was not finished is asked for anew.
            if charge.amount.is_zero() && closing.outcome != Outcome::Complete {
                return None;
            }
            let body = if over {
                StoredBody::TooLong
            } else {
                StoredBody::Whole(joined(&body, closing.write(charge), join).into())
            };
            Some(Told {
                status: status.as_u16(),
                content_type: content_type.clone(),
                body,
            })
        })
    }

    /// The last bytes: those that were kept, if they were.
    pub(crate) fn close(&self, charge: &Charge) -> Option<Bytes> {
        lock(&self.0).write(charge)
    }
}

impl<M: Meter> Closing<M> {
    fn write(&mut self, charge: &Charge) -> Option<Bytes> {
        if let Some((known, bytes)) = &self.last
            && known == charge
        {
            return bytes.clone();
        }
        let ending = Ending::new(*charge, self.admitted.clone(), self.outcome);
        let closing = AssertUnwindSafe(|| self.meter.closing(&ending));
        // The ledger asks, in a step of its own: a panic of the meter must not reach it.
        let bytes = std::panic::catch_unwind(closing).unwrap_or_else(|_| {
            tracing::error!(payment = ?self.admitted.id, "the meter panicked at the end of an answer");
            None
        });
        self.last = Some((*charge, bytes.clone()));
        bytes
    }
}

fn joined(sent: &Bytes, last: Option<Bytes>, join: Join) -> Bytes {
    match (last, join) {
        (None, _) => sent.clone(),
        (Some(last), Join::Instead) => last,
        (Some(last), Join::After) => {
            let mut whole = BytesMut::with_capacity(sent.len().saturating_add(last.len()));
            whole.extend_from_slice(sent);
            whole.extend_from_slice(&last);
            whole.freeze()
        }
    }
}

fn lock<M>(closing: &Mutex<Closing<M>>) -> MutexGuard<'_, Closing<M>> {
    closing.lock().unwrap_or_else(PoisonError::into_inner)
}

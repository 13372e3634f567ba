//! What the tariff hands to the service behind the paywall, so that nothing is read twice.

use std::sync::{Arc, Mutex, PoisonError};

use tollgate_chat::ChatRequest;
use tollgate_payment::port::Admitted;
use tollgate_x402::{Amount, PaymentId};

use crate::{catalogue::Model, course::SharedCourse};

/// A chat that was priced.
#[derive(Debug)]
pub(crate) struct Order<U> {
    pub(crate) model: Arc<Model<U>>,
    pub(crate) request: ChatRequest,
    /// The most output tokens that are asked for.
    pub(crate) max_output: u32,
    /// The exact tokens of its texts, if they were counted before it was paid for.
    pub(crate) counted: Option<u64>,
}

/// An order that is paid for, to be taken once.
pub(crate) struct Handover<U>(Arc<Mutex<Option<Job<U>>>>);

/// What is taken.
#[derive(Debug)]
pub(crate) struct Job<U> {
    pub(crate) order: Order<U>,
    pub(crate) course: SharedCourse,
    /// The payment.
    pub(crate) id: PaymentId,
    /// What was reserved, in atomic units.
    pub(crate) cap: Amount,
}

impl<U> Clone for Handover<U> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<U> Handover<U> {
    pub(crate) fn new(order: Order<U>, course: SharedCourse, admitted: &Admitted) -> Self {
        let job = Job {
            order,
            course,
            id: admitted.id,
            cap: admitted.cap,
        };
        Self(Arc::new(Mutex::new(Some(job))))
    }

    pub(crate) fn take(&self) -> Option<Job<U>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

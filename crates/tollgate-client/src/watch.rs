//! What is done when a paid answer has ended.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tollgate_x402::Allowance;

use crate::{
    Finding, Paid, Receipt, ReceiptHandle, attempts::InFlight, audit, state::State, tap::Tap,
};

/// Watches one paid answer to its end, and keeps the books then.
pub(crate) struct Watch {
    state: Arc<State>,
    paid: Paid,
    allowance: Option<Arc<Allowance>>,
    in_flight: Option<InFlight>,
    tap: Tap,
    head: Receipt,
    unreadable: Option<Finding>,
    handle: ReceiptHandle,
    served: bool,
    ended: bool,
}

impl Watch {
    pub(crate) fn new(
        state: Arc<State>,
        paid: Paid,
        allowance: Option<Arc<Allowance>>,
        in_flight: Option<InFlight>,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Self {
        let served = status.is_success();
        let (head, unreadable) = match Receipt::from_headers(headers, &state.policy.limits) {
            Ok(receipt) => (receipt.unwrap_or_default(), None),
            Err(error) => (
                Receipt::default(),
                Some(Finding::Unreadable(error.to_string().into())),
            ),
        };
        let watch = Self {
            tap: if served { Tap::of(headers) } else { Tap::Off },
            state,
            paid,
            allowance,
            in_flight,
            head,
            unreadable,
            handle: ReceiptHandle::default(),
            served,
            ended: false,
        };
        watch.tell(watch.head.clone(), false);
        watch
    }

    pub(crate) fn handle(&self) -> ReceiptHandle {
        self.handle.clone()
    }

    pub(crate) fn paid(&self) -> &Paid {
        &self.paid
    }

    pub(crate) fn see(&mut self, chunk: &Bytes) {
        self.tap.see(chunk);
    }

    /// No more comes. That is the answer's end only if the answer says so: a connection that is closed behind a body
    /// without a length looks just the same when its other side was killed.
    pub(crate) fn ended(&mut self) {
        if self.tap.is_cut() {
            self.broken();
        } else {
            self.left();
        }
    }

    /// The answer came to its end, or its reader had enough of it.
    fn left(&mut self) {
        self.close();
        if let Some(in_flight) = self.in_flight.take() {
            in_flight.answered();
        }
    }

    /// The answer broke off: what became of the payment is not known.
    pub(crate) fn broken(&mut self) {
        self.close();
        self.handle.break_off();
        self.in_flight = None;
    }

    fn close(&mut self) {
        if core::mem::replace(&mut self.ended, true) {
            return;
        }
        let receipt = self.tap.finish().or(core::mem::take(&mut self.head));
        if let Some(allowance) = self.allowance.as_deref().filter(|_| self.served) {
            match receipt.allowance_left {
                Some(left) => self.state.permits.told(allowance, left),
                // Not told: what it can have cost at most.
                None => self
                    .state
                    .permits
                    .spent(allowance, receipt.charge.unwrap_or(self.paid.expected)),
            }
        }
        self.tell(receipt, true);
    }

    fn tell(&self, receipt: Receipt, ended: bool) {
        let mut findings = audit(&self.paid, &receipt, None, None);
        findings.extend(self.unreadable.clone());
        if findings.iter().any(Finding::blocks) {
            self.state.hosts.block(&self.paid.origin);
        }
        let receipt = Some(receipt).filter(|receipt| !receipt.is_empty());
        self.handle.tell(receipt, findings, ended);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.left();
    }
}

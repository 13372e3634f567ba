//! What payments come to, for whoever they are of.

use tollgate_payment::{PaymentRow, PaymentState};
use tollgate_x402::{Allowance, Authorization};

use super::{Books, units};

#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(super) struct Sums {
    pub(super) held: u64,
    pub(super) due: u64,
    pub(super) in_flight: u64,
    pub(super) lost: u64,
    pub(super) paid: u64,
    pub(super) unproven: u64,
}

impl Sums {
    pub(super) fn of(payment: &PaymentRow) -> Self {
        let mut sums = Self {
            unproven: units(payment.unproven),
            lost: units(payment.short),
            ..Self::default()
        };
        match payment.state {
            PaymentState::Serving { .. } => {
                sums.held = units(payment.reserved);
                sums.in_flight = 1;
            }
            PaymentState::Due { .. } | PaymentState::Claimed { .. } => {
                sums.due = units(payment.charge);
            }
            PaymentState::Final { .. } => sums.paid = units(payment.charge),
            PaymentState::Lost { .. } => sums.lost += units(payment.charge),
            PaymentState::Released { .. } => {}
        }
        sums
    }

    pub(super) fn add(&mut self, other: Self) {
        self.held += other.held;
        self.due += other.due;
        self.in_flight += other.in_flight;
        self.lost += other.lost;
        self.paid += other.paid;
        self.unproven += other.unproven;
    }

    pub(super) fn take(&mut self, other: Self) {
        self.held -= other.held;
        self.due -= other.due;
        self.in_flight -= other.in_flight;
        self.lost -= other.lost;
        self.paid -= other.paid;
        self.unproven -= other.unproven;
    }
}

impl Books {
    /// What permits of this one's nonce are charged or may be.
    pub(super) fn spent(&self, permit: &Allowance) -> u64 {
        let of_it = |payment: &&PaymentRow| match self.signed.get(&payment.keys.authorization) {
            Some(Authorization::Allowance(other)) => {
                (other.owner, other.spender, other.nonce)
                    == (permit.owner, permit.spender, permit.nonce)
            }
            _ => false,
        };
        let spends = |payment: &PaymentRow| {
            let sums = Sums::of(payment);
            sums.held + sums.due + sums.paid
        };
        self.payments.values().filter(of_it).map(spends).sum()
    }
}

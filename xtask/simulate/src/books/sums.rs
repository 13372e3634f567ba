//! What payments come to, for whoever they are of.

use tollgate_payment::{PaymentRow, PaymentState};

use super::units;

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

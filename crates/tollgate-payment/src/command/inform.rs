//! A payer is told of other prices, once.

use tollgate_x402::{B256, Timestamp};

use crate::{
    key::{AuthorizationKey, RowKey},
    refusal::Refusal,
    row::Row,
    store::{Command, Decision, RowSet, Rows},
};

/// Notes of an allowance, which serves many requests, under which prices its payer knows it to be used.
///
/// Of an authorization that was never admitted nothing is written: who signs now was offered the prices of now.
#[derive(Clone, Copy, Debug)]
pub struct Inform {
    /// The allowance.
    pub authorization: AuthorizationKey,
    /// The digest of the prices.
    pub prices: B256,
}

/// What a payer knew before it was informed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Informed {
    /// The authorization is not known.
    Unknown,
    /// Nothing was noted of it: these are the first prices.
    First,
    /// These prices.
    Before,
    /// Others.
    Now,
}

impl Informed {
    /// What a row with these prices means.
    fn of(known: Option<B256>, prices: B256) -> Self {
        match known {
            None => Self::First,
            Some(known) if known == prices => Self::Before,
            Some(_) => Self::Now,
        }
    }
}

impl Inform {
    /// What would come of it. Nothing is written.
    pub fn look(&self, rows: &Rows) -> Informed {
        rows.authorization(&self.authorization)
            .map_or(Informed::Unknown, |row| {
                Informed::of(row.prices, self.prices)
            })
    }
}

impl Command for Inform {
    type Outcome = Informed;

    fn rows(&self) -> RowSet {
        [RowKey::Authorization(self.authorization)]
            .into_iter()
            .collect()
    }

    fn decide(&self, rows: &Rows, _now: Timestamp) -> Result<Decision<Informed>, Refusal> {
        let outcome = self.look(rows);
        let mut writes = Vec::new();
        if let (Informed::First | Informed::Now, Some(row)) =
            (outcome, rows.authorization(&self.authorization))
        {
            let mut row = row.clone();
            row.prices = Some(self.prices);
            writes.push(Row::Authorization(row));
        }
        Ok(Decision {
            writes,
            entries: Vec::new(),
            outcome,
        })
    }
}

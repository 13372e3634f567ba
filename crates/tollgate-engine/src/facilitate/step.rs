//! Reserve and commit in one step: between the two there is nothing to serve, and nothing to die in.

use tollgate_ledger::Run;
use tollgate_payment::{
    AuthorizationKey, Command, Credit, Decision, ExposureKey, OwnerKey, PaymentKeys, Refusal, Row,
    RowSet, Rows,
    command::{Commit, Funds, Reserve},
};
use tollgate_x402::{Amount, Authorization, B256, Exact, PaymentId, Timestamp};

use super::judge::Judged;

/// What a settlement is asked for beside what is signed, as a digest: the amount. Payee, token and chain are signed.
pub(crate) fn terms(amount: Amount) -> B256 {
    B256::from(amount.to_be_bytes())
}

/// Claims an authorization and makes a charge of it.
#[derive(Clone, Debug)]
pub(super) struct Facilitated {
    reserve: Reserve,
    commit: Commit,
}

impl Facilitated {
    pub(super) fn new(
        judged: &Judged<'_>,
        id: PaymentId,
        amount: Amount,
        funds: Funds,
        run: Run,
        memo: String,
    ) -> Self {
        let authorization = judged.authorization.clone();
        let (chain, token) = (authorization.chain(), authorization.token());
        let spender = match &authorization {
            Authorization::Allowance(signed) => Some(signed.spender),
            Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)) => {
                Some(judged.permit2)
            }
            Authorization::Exact(Exact::Eip3009(_)) => None,
        };
        let keys = PaymentKeys {
            id,
            owner: OwnerKey {
                chain,
                token,
                owner: authorization.owner(),
            },
            spender,
            authorization: judged.key,
            exposure: ExposureKey {
                chain,
                token,
                slice: run.slot,
            },
        };
        let reserve = Reserve {
            keys,
            digest: judged.digest,
            authorization,
            request: terms(amount),
            worst: amount,
            least: amount,
            identifier: None,
            memo,
            epoch: run.epoch,
            credit: UNBOUNDED,
            funds: Some(funds),
        };
        let commit = Commit {
            keys,
            used: Some(amount),
            memo: None,
            answer: None,
        };
        Self { reserve, commit }
    }

    pub(super) const fn id(&self) -> PaymentId {
        self.reserve.keys.id
    }
}

/// A facilitator serves nothing before it is paid, so it bounds nothing that it would lend.
const UNBOUNDED: Credit = Credit {
    floor: Amount::MAX,
    factor: 0,
    ceiling: Amount::MAX,
    in_flight: u32::MAX,
    in_flight_proven: u32::MAX,
    proven: Amount::ZERO,
    exposure: Amount::MAX,
    view_age: 3,
};

impl Command for Facilitated {
    type Outcome = ();

    fn rows(&self) -> RowSet {
        let (reserve, commit) = (self.reserve.rows(), self.commit.rows());
        reserve.iter().chain(commit.iter()).copied().collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<()>, Refusal> {
        debug_assert!(
            matches!(
                self.reserve.keys.authorization,
                AuthorizationKey::Claim { .. }
            ),
            "an allowance is not settled once"
        );
        let owner = self.reserve.keys.owner;
        // What a payer's other payments could not pay is owed to whom they were for, and is no reason to keep this one
        // from moving: whether it can is what the chain said a moment ago.
        let lost = rows.owner(&owner).map_or(Amount::ZERO, |owner| owner.lost);
        let mut seen = rows.clone();
        if let Some(mut row) = rows.owner(&owner).cloned() {
            row.lost = Amount::ZERO;
            seen.put(Row::Owner(row));
        }
        let reserved = self.reserve.decide(&seen, now)?;
        let mut written = Rows::default();
        for row in reserved.writes {
            seen.put(row.clone());
            written.put(row);
        }
        let committed = self.commit.decide(&seen, now)?;
        for row in committed.writes {
            written.put(row);
        }
        if let Some(mut row) = written.owner(&owner).cloned() {
            row.lost = lost;
            written.put(Row::Owner(row));
        }
        let entries = reserved.entries.into_iter().chain(committed.entries);
        Ok(Decision {
            writes: written.iter().cloned().collect(),
            // Nothing was due: nothing is booked.
            entries: entries.filter(|entry| !entry.amount.is_zero()).collect(),
            outcome: (),
        })
    }
}

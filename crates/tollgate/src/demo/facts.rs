//! What happened, and whether it adds up.

use alloy_sol_types::SolCall;
use anyhow::Context;
use serde::Serialize;
use tollgate_bsc::{BlockTag, CallRequest, Chain, Verdict};
use tollgate_client::{Finding, SignedReceipt};
use tollgate_contracts::{
    abi::{IErc20, Settler},
    tokens::USD1,
};
use tollgate_ledger::Store;
use tollgate_price::BillableUsage;
use tollgate_x402::{Address, Amount, B256, PaymentStatus, U256};

use crate::{plan::Plan, seller::Seller};

/// What happened, and whether it adds up. Amounts are atomic units.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Facts {
    pub(super) chain_id: u64,
    pub(super) token: Address,
    pub(super) payer: Address,
    pub(super) pay_to: Address,
    pub(super) treasury: Address,
    pub(super) payment_id: String,
    pub(super) model: Option<String>,
    pub(super) answer: String,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) offered: Amount,
    pub(super) quoted: Amount,
    pub(super) signed: Amount,
    pub(super) reserved: Amount,
    pub(super) calculated: Amount,
    pub(super) charged: Amount,
    pub(super) allowance_left: Amount,
    pub(super) settled: Amount,
    pub(super) transaction: B256,
    pub(super) block: u64,
    pub(super) gas_used: u64,
    pub(super) payer_before: Amount,
    pub(super) payer_after: Amount,
    pub(super) treasury_before: Amount,
    pub(super) treasury_after: Amount,
    pub(super) first_byte_ms: u128,
    pub(super) final_ms: u128,
    pub(super) receipt: Option<SignedReceipt>,
    pub(super) checks: Vec<CheckLine>,
    pub(super) adds_up: bool,
}

/// One thing that has to be so.
#[derive(Debug, Serialize)]
pub(super) struct CheckLine {
    pub(super) what: &'static str,
    pub(super) ok: bool,
    pub(super) seen: String,
}

/// What others say of the same payment: the price table, the chain, the gateway's status, the books.
struct Evidence {
    /// What the tokens cost.
    by_price: Amount,
    /// The charge that the payment's status tells.
    told: Option<Amount>,
    /// The payer's counter at the Settler.
    counter: Amount,
    /// Whether the chain shows exactly the receipt's transfer, final; and in words.
    shown: (bool, String),
    /// Whether the receipt is signed; and what is wrong with it.
    signed: (bool, String),
    /// What the double-entry book contradicts itself in.
    books: Vec<String>,
}

impl Facts {
    /// Holds everything against everything.
    pub(super) async fn check(
        &mut self,
        plan: &Plan,
        seller: &Seller,
        status: &PaymentStatus,
        verdict: Verdict,
        wrong: &[Finding],
        decimals: u8,
    ) -> anyhow::Result<()> {
        let rates = plan
            .models
            .first()
            .context("the plan sells a model")?
            .rates
            .of(decimals)
            .map_err(|(key, error)| anyhow::anyhow!("{key}: {error}"))?;
        let evidence = Evidence {
            by_price: rates.cost(BillableUsage::new(self.input_tokens, self.output_tokens)),
            told: status.charge,
            counter: counter(&seller.chain, seller.pay_to, self.payer).await?,
            shown: (verdict.is_final(), format!("{verdict:?}")),
            signed: (
                self.receipt.is_some() && wrong.is_empty(),
                format!("{wrong:?}"),
            ),
            books: seller.store.totals().await?.discrepancies(),
        };
        self.hold_against(evidence);
        Ok(())
    }

    fn hold_against(&mut self, evidence: Evidence) {
        let fallen = self.payer_before.checked_sub(self.payer_after);
        let risen = self.treasury_after.checked_sub(self.treasury_before);
        let (charged, left) = (self.charged, self.signed.checked_sub(self.charged));
        let mut line = |what, ok, seen: String| self.checks.push(CheckLine { what, ok, seen });
        line(
            "the charge is tokens times price",
            evidence.by_price == self.calculated,
            format!(
                "{} + {} tokens cost {}",
                self.input_tokens, self.output_tokens, evidence.by_price
            ),
        );
        line(
            "charged ≤ reserved ≤ signed",
            charged <= self.reserved && self.reserved <= self.signed && charged == self.calculated,
            format!("{charged} ≤ {} ≤ {}", self.reserved, self.signed),
        );
        line(
            "what is left is what was signed less the charge",
            left == Some(self.allowance_left),
            self.allowance_left.to_string(),
        );
        line(
            "the receipt tells the charge of the stream",
            evidence.told == Some(charged),
            format!("{:?}", evidence.told),
        );
        line(
            "the payer's balance fell by the charge",
            fallen == Some(charged),
            format!("{fallen:?}"),
        );
        line(
            "the treasury's balance rose by the charge",
            self.settled == charged && risen == Some(charged),
            self.settled.to_string(),
        );
        line(
            "the Settler's counter stands at the charge",
            evidence.counter == charged,
            evidence.counter.to_string(),
        );
        let (ok, seen) = evidence.shown;
        line(
            "the chain shows exactly the receipt's transfer, final",
            ok,
            seen,
        );
        let (ok, seen) = evidence.signed;
        line(
            "the receipt is signed by the Settler's operator, and says the same",
            ok,
            seen,
        );
        line(
            "the double-entry book balances",
            evidence.books.is_empty(),
            evidence.books.join("; "),
        );
        self.adds_up = self.checks.iter().all(|check| check.ok);
    }
}

pub(super) async fn balance(chain: &Chain, account: Address) -> anyhow::Result<Amount> {
    read(chain, USD1, &IErc20::balanceOfCall { owner: account }).await
}

pub(super) async fn counter(
    chain: &Chain,
    settler: Address,
    owner: Address,
) -> anyhow::Result<Amount> {
    read(chain, settler, &Settler::chargedCall { token: USD1, owner }).await
}

/// A call that answers with one number.
pub(super) async fn read<C: SolCall<Return = U256>>(
    chain: &Chain,
    to: Address,
    call: &C,
) -> anyhow::Result<Amount> {
    let request = CallRequest {
        to: Some(to),
        input: call.abi_encode().into(),
        ..CallRequest::default()
    };
    let answer = chain.call(&request, BlockTag::Latest).await?;
    Ok(Amount::new(C::abi_decode_returns_validate(&answer)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cent of which everybody says the same.
    fn agreed() -> (Facts, Evidence) {
        let of = |number: u64| Amount::from(number);
        let facts = Facts {
            chain_id: 31_337,
            token: USD1,
            payer: Address::repeat_byte(1),
            pay_to: Address::repeat_byte(2),
            treasury: Address::repeat_byte(3),
            payment_id: String::new(),
            model: None,
            answer: String::new(),
            input_tokens: 1,
            output_tokens: 1,
            offered: of(99),
            quoted: of(12),
            signed: of(99),
            reserved: of(12),
            calculated: of(10),
            charged: of(10),
            allowance_left: of(89),
            settled: of(10),
            transaction: B256::repeat_byte(4),
            block: 7,
            gas_used: 60_000,
            payer_before: of(1_000),
            payer_after: of(990),
            treasury_before: of(500),
            treasury_after: of(510),
            first_byte_ms: 1,
            final_ms: 1,
            receipt: None,
            checks: Vec::new(),
            adds_up: false,
        };
        let evidence = Evidence {
            by_price: of(10),
            told: Some(of(10)),
            counter: of(10),
            shown: (true, String::new()),
            signed: (true, String::new()),
            books: Vec::new(),
        };
        (facts, evidence)
    }

    #[test]
    fn one_unit_that_differs_anywhere_does_not_add_up() {
        type Change = fn(&mut Facts, &mut Evidence);
        let (mut facts, evidence) = agreed();
        facts.hold_against(evidence);
        assert!(facts.adds_up, "{:?}", facts.checks);
        assert_eq!(facts.checks.len(), 10);

        let changes: [(&[usize], Change); 14] = [
            (&[0], |_, seen| seen.by_price = Amount::from(11_u64)),
            (&[0, 1], |facts, _| facts.calculated = Amount::from(11_u64)),
            (&[1], |facts, _| facts.reserved = Amount::from(9_u64)),
            (&[1], |facts, _| facts.reserved = Amount::from(100_u64)),
            (&[2], |facts, _| facts.allowance_left = Amount::from(88_u64)),
            (&[3], |_, seen| seen.told = Some(Amount::from(9_u64))),
            (&[3], |_, seen| seen.told = None),
            (&[4], |facts, _| facts.payer_after = Amount::from(989_u64)),
            (&[5], |facts, _| facts.settled = Amount::from(9_u64)),
            (&[5], |facts, _| {
                facts.treasury_after = Amount::from(509_u64)
            }),
            (&[6], |_, seen| seen.counter = Amount::from(11_u64)),
            (&[7], |_, seen| seen.shown.0 = false),
            (&[8], |_, seen| seen.signed.0 = false),
            (&[9], |_, seen| seen.books.push("one".to_owned())),
        ];
        for (lines, change) in changes {
            let (mut facts, mut evidence) = agreed();
            change(&mut facts, &mut evidence);
            facts.hold_against(evidence);
            let wrong: Vec<_> = (0..10).filter(|line| !facts.checks[*line].ok).collect();
            assert_eq!(wrong, lines);
            assert!(!facts.adds_up);
        }
    }
}

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
        let by_price = rates.cost(BillableUsage::new(self.input_tokens, self.output_tokens));
        let counter = counter(&seller.chain, seller.pay_to, self.payer).await?;
        let totals = seller.store.totals().await?;
        let fallen = self.payer_before.checked_sub(self.payer_after);
        let (charged, left) = (self.charged, self.signed.checked_sub(self.charged));
        let mut line = |what, ok, seen: String| self.checks.push(CheckLine { what, ok, seen });
        line(
            "the charge is tokens times price",
            by_price == self.calculated,
            format!(
                "{} + {} tokens cost {by_price}",
                self.input_tokens, self.output_tokens
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
            status.charge == Some(charged),
            format!("{:?}", status.charge),
        );
        line(
            "the payer's balance fell by the charge",
            fallen == Some(charged),
            format!("{fallen:?}"),
        );
        line(
            "the treasury's balance rose by the charge",
            self.settled == charged,
            self.settled.to_string(),
        );
        line(
            "the Settler's counter stands at the charge",
            counter == charged,
            counter.to_string(),
        );
        line(
            "the chain shows exactly the receipt's transfer, final",
            verdict.is_final(),
            format!("{verdict:?}"),
        );
        line(
            "the receipt is signed by the Settler's operator, and says the same",
            self.receipt.is_some() && wrong.is_empty(),
            format!("{wrong:?}"),
        );
        let books = totals.discrepancies();
        line(
            "the double-entry book balances",
            books.is_empty(),
            books.join("; "),
        );
        self.adds_up = self.checks.iter().all(|check| check.ok);
        Ok(())
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

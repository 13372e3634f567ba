//! `tollgate demo`: a paid, streamed answer from the first 402 to the final settlement, with everything checked.

mod buyer;
mod facts;
mod show;

use std::{
    io::IsTerminal,
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{net::TcpListener, sync::oneshot};
use tollgate_bsc::{Movement, SettlementReceipt, verify_settlement};
use tollgate_chat::{ChatRequest, dialect::dgrid};
use tollgate_client::{Finding, PaymentTold, Transport, audit_receipt, verify_signer};
use tollgate_contracts::tokens::USD1;
use tollgate_eip712::{AllowanceTerms, LocalWallet, TokenDomain, digest, sign_allowance};
use tollgate_gateway::ServeConfig;
use tollgate_x402::{Authorization, Clock, PaymentPayload, PaymentRequirements, PrimaryType, U256};

use self::{
    buyer::{Buyer, settled},
    facts::{Facts, balance},
    show::{Show, dollars},
};
use crate::{
    clock::SystemClock,
    dev::{DevOptions, DevWorld},
    plan::Plan,
    seller::Seller,
};

/// Show a paid, streamed answer from the first 402 to the final settlement, on a chain inside this program.
///
/// An unpaid request gets its 402, a signed retry streams an answer of the built-in echo engine, what was used is
/// settled on a BSC-like chain, and the receipt is held against the chain to the last atomic unit. It needs no
/// network, and ends with an error if anything does not add up.
#[derive(clap::Args)]
pub(crate) struct Demo {
    /// What to ask
    #[arg(default_value = "What does it cost to ask you something?")]
    prompt: String,
    /// Print one JSON object with the facts, and nothing else
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
        let options = DevOptions {
            chain_id: 31337,
            rpc_listen: loopback,
            block_time: Duration::from_millis(450),
        };
        let world = DevWorld::start(&options).await?;
        let listener = TcpListener::bind(loopback).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let plan = world.plan(listener.local_addr()?, url.clone())?;
        let seller = Seller::open(&plan).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(tollgate_gateway::serve(
            listener,
            seller.gateway.clone(),
            ServeConfig::default(),
            async {
                // The sender's end is the end.
                let _ = stopped.await;
            },
        ));

        let show = Show {
            quiet: self.json,
            color: std::io::stdout().is_terminal(),
        };
        let facts = self.conversation(&world, &plan, &seller, &show).await;
        drop(stop);
        serving.await.context("the gateway's task failed")?;
        seller.close().await;
        let facts = facts?;
        if self.json {
            say!("{}", serde_json::to_string_pretty(&facts)?);
        } else {
            show.summary(&facts);
        }
        Ok(if facts.adds_up {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    async fn conversation(
        &self,
        world: &DevWorld,
        plan: &Plan,
        seller: &Seller,
        show: &Show,
    ) -> anyhow::Result<Facts> {
        let payer = world.wallet(0)?;
        let chain = &seller.chain;
        let decimals = plan.tokens.first().map_or(18, |token| token.info.decimals);
        let payer_before = balance(chain, payer.address()).await?;
        let treasury_before = balance(chain, seller.treasury).await?;
        let mut buyer = Buyer {
            transport: Transport::new(Duration::from_secs(5), Duration::from_secs(30))?,
            url: format!("{}/x402/v1", plan.public_url),
        };
        let body = dgrid::encode_request(&ChatRequest::ask(self.prompt.as_str()));

        show.title("1. A request without payment");
        show.sent(&[
            format!("POST {}", buyer.url),
            String::from_utf8_lossy(&body).into_owned(),
        ]);
        let (offer, mut seen) = buyer.unpaid(body.clone()).await?;
        let entry = offer
            .accepts
            .iter()
            .find(|entry| entry.extra.primary_type == Some(PrimaryType::Permit))
            .context("the offer has no entry for a permit")?;
        let quoted = entry.minimum();
        seen.push(format!(
            "accepts  {} on {}: sign up to {}, this request costs at most {}",
            entry.scheme,
            entry.network,
            dollars(entry.amount, decimals),
            dollars(quoted, decimals)
        ));
        seen.push(format!("payTo    {}", entry.pay_to));
        show.got(&seen);

        show.title("2. The same request, with a signed permit");
        let authorization = sign(world, &payer, entry, seller).await?;
        let payload = PaymentPayload::answering(&offer, entry, &authorization);
        let value = payload.to_header_value();
        show.sent(&[
            format!("POST {}", buyer.url),
            format!(
                "{}: {} bytes of base64: an ERC-2612 permit",
                payload.header().name(),
                value.len()
            ),
            format!("  owner {}, spender {}", payer.address(), entry.pay_to),
            format!(
                "  value {}, good for {} s",
                dollars(entry.amount, decimals),
                entry.max_timeout_seconds
            ),
        ]);
        let started = Instant::now();
        let answer = buyer
            .paid(body, payload.header().name(), &value, show)
            .await?;
        let committed = Instant::now();

        show.title("3. The settlement");
        let told = settled(&mut buyer, &answer.payment_id, show).await?;
        let wrong = held_against(&authorization, &told, seller).await?;
        let PaymentTold {
            status,
            receipt: signed,
            ..
        } = told;
        let final_ms = committed.elapsed().as_millis();
        let transaction = status
            .transaction
            .context("a final payment names its transaction")?;
        let receipt = chain
            .receipt(transaction)
            .await?
            .context("the transaction is on the chain")?;
        let payer_after = balance(chain, payer.address()).await?;
        let treasury_after = balance(chain, seller.treasury).await?;
        let interval = status
            .interval
            .context("an allowance's payment owns an interval")?;
        let verdict = verify_settlement(
            chain,
            &SettlementReceipt {
                payment: status.id,
                chain: chain.id(),
                token: USD1,
                owner: payer.address(),
                amount: answer.charged,
                transaction,
                movement: Movement::Interval {
                    settler: seller.pay_to,
                    treasury: seller.treasury,
                    from: interval.from,
                    to: interval.to,
                },
            },
        )
        .await?;
        let usage = status.usage.context("the status tells the usage")?;
        let mut facts = Facts {
            chain_id: chain.id().0,
            token: USD1,
            payer: payer.address(),
            pay_to: seller.pay_to,
            treasury: seller.treasury,
            payment_id: answer.payment_id,
            model: status.model.clone(),
            answer: answer.text,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            offered: entry.amount,
            quoted,
            signed: authorization.cap(),
            reserved: status.amounts.reserved,
            calculated: answer.calculated,
            charged: answer.charged,
            allowance_left: answer.left,
            settled: treasury_after.saturating_sub(treasury_before),
            transaction,
            block: receipt.block.number,
            gas_used: receipt.gas_used,
            payer_before,
            payer_after,
            treasury_before,
            treasury_after,
            first_byte_ms: answer.first_byte.duration_since(started).as_millis(),
            final_ms,
            receipt: signed.and_then(Result::ok),
            checks: Vec::new(),
            adds_up: false,
        };
        facts
            .check(plan, seller, &status, verdict, &wrong, decimals)
            .await?;
        Ok(facts)
    }
}

/// What is wrong with the signed receipt: by what the payer signed, by the payment's state, and by the Settler's own list of
/// operators.
async fn held_against(
    authorization: &Authorization,
    told: &PaymentTold,
    seller: &Seller,
) -> anyhow::Result<Vec<Finding>> {
    let market = seller
        .markets
        .of(authorization.chain(), authorization.token())
        .context("the seller takes USD1")?;
    let digest = digest(authorization, &market.domain);
    let mut wrong = audit_receipt(authorization, digest, told);
    if let Some(signed) = told.signed() {
        wrong.extend(verify_signer(&seller.chain, seller.pay_to, signed).await?);
    }
    Ok(wrong)
}

async fn sign(
    world: &DevWorld,
    payer: &LocalWallet,
    entry: &PaymentRequirements,
    seller: &Seller,
) -> anyhow::Result<Authorization> {
    let market = seller
        .markets
        .of(world.chain_id, USD1)
        .context("the seller takes USD1")?;
    let domain: &TokenDomain = &market.domain;
    let terms = AllowanceTerms {
        spender: entry.pay_to,
        value: entry.amount,
        nonce: U256::ZERO,
        deadline: SystemClock.now().plus(entry.max_timeout_seconds),
    };
    Ok(Authorization::Allowance(
        sign_allowance(payer, domain, &terms).await?,
    ))
}

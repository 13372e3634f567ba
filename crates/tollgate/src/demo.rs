//! `tollgate demo`: a paid, streamed answer from the first 402 to the final settlement, with everything checked.

use std::{
    io::{IsTerminal, Write},
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use alloy_sol_types::SolCall;
use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde::Serialize;
use tokio::{net::TcpListener, sync::oneshot};
use tollgate_bsc::{
    BlockTag, CallRequest, Chain, Movement, SettlementReceipt, Verdict, verify_settlement,
};
use tollgate_chat::{ChatRequest, dialect::dgrid};
use tollgate_client::{ChatPart, ChatReader, Transport};
use tollgate_contracts::{abi::IErc20, tokens::USD1};
use tollgate_eip712::{AllowanceTerms, LocalWallet, TokenDomain, sign_allowance};
use tollgate_gateway::ServeConfig;
use tollgate_ledger::Store;
use tollgate_price::{BillableUsage, amount_to_dollars};
use tollgate_sse::Limits as SseLimits;
use tollgate_x402::{
    Address, Amount, Authorization, B256, Clock, Limits, PaymentPayload, PaymentRequired,
    PaymentState, PaymentStatus, PrimaryType, U256, header,
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

/// How long the settlement may take to be final. Five blocks are 2.25 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// What happened, and whether it adds up. Amounts are atomic units.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Facts {
    chain_id: u64,
    token: Address,
    payer: Address,
    pay_to: Address,
    treasury: Address,
    payment_id: String,
    model: Option<String>,
    answer: String,
    input_tokens: u64,
    output_tokens: u64,
    offered: Amount,
    quoted: Amount,
    signed: Amount,
    reserved: Amount,
    calculated: Amount,
    charged: Amount,
    allowance_left: Amount,
    settled: Amount,
    transaction: B256,
    block: u64,
    gas_used: u64,
    payer_before: Amount,
    payer_after: Amount,
    treasury_before: Amount,
    treasury_after: Amount,
    first_byte_ms: u128,
    final_ms: u128,
    checks: Vec<CheckLine>,
    adds_up: bool,
}

/// One thing that has to be so.
#[derive(Debug, Serialize)]
struct CheckLine {
    what: &'static str,
    ok: bool,
    seen: String,
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
            println!("{}", serde_json::to_string_pretty(&facts)?);
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
        let status = settled(&mut buyer, &answer.payment_id, show).await?;
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
            checks: Vec::new(),
            adds_up: false,
        };
        facts
            .check(plan, seller, &status, verdict, decimals)
            .await?;
        Ok(facts)
    }
}

impl Facts {
    /// Holds everything against everything.
    async fn check(
        &mut self,
        plan: &Plan,
        seller: &Seller,
        status: &PaymentStatus,
        verdict: Verdict,
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

async fn sign(
    world: &DevWorld,
    payer: &LocalWallet,
    entry: &tollgate_x402::PaymentRequirements,
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

/// The paying side, step by step, as any client does it.
struct Buyer {
    transport: Transport,
    url: String,
}

/// What a paid answer brought.
struct PaidAnswer {
    text: String,
    payment_id: String,
    charged: Amount,
    calculated: Amount,
    left: Amount,
    first_byte: Instant,
}

impl Buyer {
    async fn call(&mut self, request: Request<Bytes>) -> anyhow::Result<Response<reqwest::Body>> {
        use tower_service::Service;
        Ok(self.transport.call(request).await?)
    }

    async fn unpaid(&mut self, body: Bytes) -> anyhow::Result<(PaymentRequired, Vec<String>)> {
        let response = self.call(Request::post(&self.url).body(body)?).await?;
        let (parts, body) = response.into_parts();
        let body = collect(body).await?;
        if parts.status != StatusCode::PAYMENT_REQUIRED {
            bail!(
                "the gateway answered {} instead of 402: {}",
                parts.status,
                String::from_utf8_lossy(&body)
            );
        }
        let required = parts
            .headers
            .get(header::PAYMENT_REQUIRED)
            .map(|value| value.as_bytes());
        let limits = Limits {
            header_bytes: 65_536,
            decoded_bytes: 65_536,
            ..Limits::DEFAULT
        };
        let offer = PaymentRequired::from_response(required, &body, &limits)?;
        let seen = vec![
            format!("HTTP {}", parts.status),
            format!(
                "payment-required: {} bytes of base64 (v2); the body says the same to v1 clients",
                required.map_or(0, <[u8]>::len)
            ),
        ];
        Ok((offer, seen))
    }

    async fn paid(
        &mut self,
        body: Bytes,
        name: &str,
        value: &str,
        show: &Show,
    ) -> anyhow::Result<PaidAnswer> {
        let response = self
            .call(Request::post(&self.url).header(name, value).body(body)?)
            .await?;
        let (parts, mut body) = response.into_parts();
        if !parts.status.is_success() {
            bail!(
                "the payment was refused with {}: {}",
                parts.status,
                String::from_utf8_lossy(&collect(body).await?)
            );
        }
        show.got(&[
            format!("HTTP {}", parts.status),
            format!(
                "content-type: {}",
                text(parts.headers.get(http::header::CONTENT_TYPE))
            ),
        ]);
        let mut reader = ChatReader::of(&parts.headers);
        let mut finish = dgrid::UiReader::new(SseLimits::default());
        let (mut answer, mut first_byte, mut metadata) = (String::new(), None, None);
        while let Some(data) = next_data(&mut body).await? {
            first_byte.get_or_insert_with(Instant::now);
            reader.push(data.clone())?;
            finish.push(data);
            while let Some(part) = reader.next_part() {
                if let ChatPart::Text(text) = part {
                    show.streamed(&text);
                    answer.push_str(&text);
                }
            }
            while let Some(event) = finish
                .next_event()
                .map_err(|error| anyhow::anyhow!("{error}"))?
            {
                if let dgrid::UiEvent::Finish(_, received) = event {
                    metadata = received;
                }
            }
        }
        show.end_of_stream();
        let metadata = metadata.context("the stream ended without the facts of its charge")?;
        let amount = |value: Option<&str>| -> anyhow::Result<Amount> {
            Ok(value.context("the finish event lacks an amount")?.parse()?)
        };
        Ok(PaidAnswer {
            text: answer,
            payment_id: metadata
                .text("paymentId")
                .context("the finish event names the payment")?
                .to_owned(),
            charged: amount(metadata.real_price_wei())?,
            calculated: amount(metadata.calculated_price_wei())?,
            left: amount(metadata.allowance_left())?,
            first_byte: first_byte.context("the stream was empty")?,
        })
    }

    async fn status(&mut self, id: &str) -> anyhow::Result<PaymentStatus> {
        let request = Request::get(format!("{}/payments/{id}", self.url)).body(Bytes::new())?;
        let response = self.call(request).await?;
        let body = collect(response.into_body()).await?;
        Ok(PaymentStatus::parse_body(&body, &Limits::DEFAULT)?)
    }
}

/// Follows a payment until it is final.
async fn settled(buyer: &mut Buyer, id: &str, show: &Show) -> anyhow::Result<PaymentStatus> {
    let deadline = Instant::now() + PATIENCE;
    let mut last = None;
    loop {
        let status = buyer.status(id).await?;
        if last != Some(status.state) {
            let transaction = status
                .transaction
                .map(|transaction| format!(" in {transaction}"))
                .unwrap_or_default();
            let block = status
                .block
                .map(|block| format!(", block {block}"))
                .unwrap_or_default();
            show.line(&format!("{}{transaction}{block}", name_of(status.state)));
            last = Some(status.state);
        }
        match status.state {
            PaymentState::Final => return Ok(status),
            PaymentState::Lost | PaymentState::Released => {
                bail!("the payment ended as {}", name_of(status.state))
            }
            PaymentState::Accepted | PaymentState::Included if Instant::now() > deadline => {
                bail!(
                    "the settlement was not final after {} s",
                    PATIENCE.as_secs()
                )
            }
            PaymentState::Accepted | PaymentState::Included => {
                tokio::time::sleep(Duration::from_millis(50)).await
            }
        }
    }
}

const fn name_of(state: PaymentState) -> &'static str {
    match state {
        PaymentState::Accepted => "accepted",
        PaymentState::Included => "included",
        PaymentState::Final => "final",
        PaymentState::Released => "released",
        PaymentState::Lost => "lost",
    }
}

async fn next_data(body: &mut reqwest::Body) -> anyhow::Result<Option<Bytes>> {
    use http_body_util::BodyExt;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

async fn collect(body: reqwest::Body) -> anyhow::Result<Bytes> {
    use http_body_util::BodyExt;
    Ok(body.collect().await?.to_bytes())
}

fn text(value: Option<&http::HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or("-")
}

async fn balance(chain: &Chain, account: Address) -> anyhow::Result<Amount> {
    read(chain, USD1, &IErc20::balanceOfCall { owner: account }).await
}

async fn counter(chain: &Chain, settler: Address, owner: Address) -> anyhow::Result<Amount> {
    read(
        chain,
        settler,
        &tollgate_contracts::abi::Settler::chargedCall { token: USD1, owner },
    )
    .await
}

/// A call that answers with one number.
async fn read<C: SolCall<Return = U256>>(
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

fn dollars(amount: Amount, decimals: u8) -> String {
    format!("{} USD1", amount_to_dollars(amount, decimals))
}

/// What a person sees.
struct Show {
    quiet: bool,
    color: bool,
}

impl Show {
    fn paint(&self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn line(&self, text: &str) {
        if !self.quiet {
            println!("   {text}");
        }
    }

    fn title(&self, text: &str) {
        if !self.quiet {
            println!("\n{}", self.paint("1", text));
        }
    }

    fn sent(&self, lines: &[String]) {
        lines
            .iter()
            .for_each(|line| self.line(&format!("{} {line}", self.paint("36", "→"))));
    }

    fn got(&self, lines: &[String]) {
        lines
            .iter()
            .for_each(|line| self.line(&format!("{} {line}", self.paint("33", "←"))));
    }

    fn streamed(&self, text: &str) {
        if !self.quiet {
            print!("{}", self.paint("32", text));
            // A terminal that is gone is no reason to stop paying attention.
            let _ = std::io::stdout().flush();
        }
    }

    fn end_of_stream(&self) {
        if !self.quiet {
            println!();
        }
    }

    fn summary(&self, facts: &Facts) {
        let amount = |name: &str, amount: Amount| {
            self.line(&format!(
                "{name:<12}{amount:>26} atomic units   {}",
                dollars(amount, 18)
            ));
        };
        self.line(&format!("transaction {}", facts.transaction));
        self.line(&format!(
            "gas used    {} in block {}",
            facts.gas_used, facts.block
        ));
        self.title("4. Does it add up?");
        amount("quoted", facts.quoted);
        amount("reserved", facts.reserved);
        amount("charged", facts.charged);
        amount("settled", facts.settled);
        println!();
        let balances = |name: &str, before: Amount, after: Amount| {
            self.line(&format!("{name:<10}{before:>28} → {after}"));
        };
        balances("payer", facts.payer_before, facts.payer_after);
        balances("treasury", facts.treasury_before, facts.treasury_after);
        println!();
        for check in &facts.checks {
            let mark = if check.ok {
                self.paint("32", "ok  ")
            } else {
                self.paint("31", "FAIL")
            };
            self.line(&format!("{mark} {}", check.what));
            if !check.ok {
                self.line(&format!("     saw {}", check.seen));
            }
        }
        let verdict = if facts.adds_up {
            "Everything adds up."
        } else {
            "It does not add up."
        };
        println!(
            "\n{} First byte after {} ms; final {} ms after the last.",
            self.paint("1", verdict),
            facts.first_byte_ms,
            facts.final_ms
        );
    }
}

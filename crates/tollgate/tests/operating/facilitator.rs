//! `tollgate facilitator`, and sellers that ask it.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy_sol_types::SolCall;
use serde_json::Value;
use tollgate_contracts::{
    abi::IErc20,
    addresses::{EXACT_PROXY, PERMIT2, UPTO_PROXY},
    tokens::USD1,
};
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_eip712::{
    Eip3009Terms, LocalWallet, OnceTerms, Permit2ExactTerms, TokenDomain, sign_eip3009, sign_once,
    sign_permit2_exact,
};
use tollgate_x402::{
    Address, Amount, AssetTransferMethod, Authorization, B256, ChainId, Exact, FacilitatorRequest,
    Network, PaymentPayload, PaymentRequired, PaymentRequirements, ResourceInfo, Scheme, Timestamp,
    U256, X402Version,
};

use crate::world::{World, key, ready, tollgate};

/// The facilitator's account.
pub(crate) const FACILITATOR: usize = 6;
pub(crate) const SHOP_KEY: (&str, &str) = ("SHOP_KEY", "the-key-of-the-shop-0123");

/// A facilitator of ours. It is killed when it is dropped.
pub(crate) struct Facilitator {
    child: Child,
    url: String,
}

/// The configuration of a facilitator that settles for `pay_to`, an address or "any".
pub(crate) fn configured(world: &World, port: u16, pay_to: &str, ledger: &str) -> String {
    format!(
        r#"
listen = "127.0.0.1:{port}"
operator_key = "$FACILITATOR_KEY"
[chain]
id = 31337
rpc = ["{rpc}"]
block_time_ms = 100
[[token]]
symbol = "USD1"
[[caller]]
name = "shop"
key = "$SHOP_KEY"
pay_to = ["{pay_to}"]
[ledger]
path = "{ledger}"
"#,
        rpc = world.chain.rpc_url().unwrap(),
        ledger = world.directory.path().join(ledger).display(),
    )
}

pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Payments by Permit2 need the token's approval of it.
pub(crate) fn approve(world: &World, payer: usize) {
    let approve = IErc20::approveCall {
        spender: PERMIT2,
        value: U256::MAX,
    };
    world.send(payer, USD1, approve.abi_encode().into());
}

impl Facilitator {
    /// Starts it with the configuration in this file.
    pub(crate) fn start(file: &std::path::Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        let at = text.split("listen = \"").nth(1).unwrap();
        let url = format!("http://{}", at.split('"').next().unwrap());
        let mut child = tollgate()
            .args(["facilitator", "--json", "--config"])
            .arg(file)
            .env("FACILITATOR_KEY", key(FACILITATOR))
            .envs([SHOP_KEY])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        ready(&mut child);
        Self { child, url }
    }

    /// Ends it as an operator does.
    pub(crate) fn stop(mut self) {
        let id = self.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &id]).status();
        assert!(killed.unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }

    /// Ends it as a power cut does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it says of itself.
    pub(crate) fn health(&self) -> (u16, Value) {
        ask(reqwest::Client::new().get(format!("{}/health", self.url)))
    }

    /// Has a payment settled.
    pub(crate) fn settle(&self, request: &FacilitatorRequest) -> (u16, Value) {
        let asked = reqwest::Client::new()
            .post(format!("{}/settle", self.url))
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", SHOP_KEY.1));
        ask(asked.body(request.to_json()))
    }
}

impl Drop for Facilitator {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(request: reqwest::RequestBuilder) -> (u16, Value) {
    wait_for(async {
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    })
}

fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// How a payment is signed.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Once,
    Permit2Exact,
    Transfer,
}

/// A payment of these cents, signed for more where its kind allows that, for a seller that waits so many seconds.
pub(crate) fn payment(
    kind: Kind,
    payer: usize,
    to: Address,
    cents: u64,
    nonce: u8,
    patience: u64,
) -> FacilitatorRequest {
    let unit = 10_000_000_000_000_000_u128;
    let amount = Amount::from(u128::from(cents) * unit);
    let most = Amount::from(99 * unit);
    let deadline = SystemTime::now() + Duration::from_secs(3_000);
    let deadline = Timestamp(deadline.duration_since(UNIX_EPOCH).unwrap().as_secs());
    let wallet = LocalWallet::from_bytes(&DEV_ACCOUNTS[payer].private_key.0).unwrap();
    let domain = TokenDomain::new("World Liberty Financial USD", "1", ChainId::DEV, USD1);
    let facilitator = DEV_ACCOUNTS[FACILITATOR].address;
    let signed = wait_for(async {
        match kind {
            Kind::Once => {
                let terms = OnceTerms {
                    amount: most,
                    spender: UPTO_PROXY,
                    nonce: U256::from(nonce),
                    deadline,
                    to,
                    facilitator,
                    valid_after: Timestamp(0),
                };
                Authorization::Once(sign_once(&wallet, &domain, &terms).await.unwrap())
            }
            Kind::Permit2Exact => {
                let terms = Permit2ExactTerms {
                    amount,
                    spender: EXACT_PROXY,
                    nonce: U256::from(nonce),
                    deadline,
                    to,
                    valid_after: Timestamp(0),
                };
                let signed = sign_permit2_exact(&wallet, &domain, &terms).await.unwrap();
                Authorization::Exact(Exact::Permit2(signed))
            }
            Kind::Transfer => {
                let terms = Eip3009Terms {
                    to,
                    value: amount,
                    valid_after: Timestamp(0),
                    valid_before: deadline,
                    nonce: B256::repeat_byte(nonce),
                };
                let signed = sign_eip3009(&wallet, &domain, &terms).await.unwrap();
                Authorization::Exact(Exact::Eip3009(signed))
            }
        }
    });
    let scheme = match kind {
        Kind::Once => Scheme::Upto,
        Kind::Permit2Exact | Kind::Transfer => Scheme::Exact,
    };
    let network = Network::from(ChainId::DEV);
    let mut offered = PaymentRequirements::new(scheme, network, signed.cap(), USD1, to, patience);
    offered.extra.name = Some("World Liberty Financial USD".to_owned());
    offered.extra.version = Some("1".to_owned());
    if !matches!(kind, Kind::Transfer) {
        offered.extra.asset_transfer_method = Some(AssetTransferMethod::Permit2);
        offered.extra.facilitator_address = Some(facilitator);
    }
    let resource = ResourceInfo::new("https://seller.example/answer");
    let required = PaymentRequired::new(resource, vec![offered.clone()]);
    let payload = PaymentPayload::answering(&required, &offered, &signed);
    offered.amount = amount;
    FacilitatorRequest {
        version: X402Version::V2,
        payload,
        requirements: offered,
    }
}

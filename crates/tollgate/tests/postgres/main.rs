//! Two gateways, as the program runs them, on one PostgreSQL and one chain:
//! `cargo xtask postgres -- cargo test -p tollgate --test postgres -- --ignored`.
#![cfg(unix)]

mod killed;
mod model;
mod none;

use std::{
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tollgate_bsc::{BlockTag, CallRequest, Chain, ChainConfig};
use tollgate_contracts::tokens::USD1;
use tollgate_devchain::{BlockTime, DEV_ACCOUNTS, DEV_SETTLER, DevChain, Development, Genesis};
use tollgate_eip712::{LocalWallet, OnceTerms, TokenDomain, sign_once};
use tollgate_ledger::{PostgresConfig, PostgresStore, RowKind, Status, Store};
use tollgate_payment::{PaymentRow, Row};
use tollgate_x402::{
    Address, Amount, Authorization, B256, ChainId, Limits, PaymentId, PaymentPayload,
    PaymentRequired, Timestamp, U256, canonical, header,
};

const LEDGER_ID: B256 = B256::repeat_byte(0x42);
const OPERATOR: usize = 7;
const TREASURY: usize = 9;
/// Longer than a gateway that gives no sign of life is believed to live.
const LEASE: Duration = Duration::from_secs(18);

fn url() -> String {
    std::env::var("TOLLGATE_POSTGRES_URL").expect("run it by `cargo xtask postgres`")
}

/// A chain, a database and a model server for gateways to come.
struct World {
    _chain: DevChain,
    chain: Chain,
    rpc: String,
    schema: String,
    directory: TempDir,
    model: Arc<AtomicUsize>,
    model_url: String,
}

impl World {
    async fn new() -> Self {
        let who = Development {
            ledger_id: LEDGER_ID,
            ..Development::default()
        };
        // approve(PERMIT2, 2^256 - 1)
        let mut approve = vec![0x09, 0x5e, 0xa7, 0xb3];
        approve.extend_from_slice(canonical::PERMIT2.into_word().as_slice());
        approve.extend_from_slice(&[0xff; 32]);
        let payer = DEV_ACCOUNTS[2].address;
        let genesis = Genesis::development(&who).call(payer, USD1, approve);
        let devchain = DevChain::builder()
            .block_time(BlockTime::Interval(Duration::from_millis(450)))
            .genesis(genesis)
            .start()
            .unwrap();
        let at = devchain.serve(([127, 0, 0, 1], 0)).await.unwrap();
        let rpc = format!("http://{at}");
        let chain = Chain::connect(ChainConfig::new(ChainId::DEV, [rpc.clone()]))
            .await
            .unwrap();
        let (model, model_url) = model::model();
        Self {
            _chain: devchain,
            chain,
            rpc,
            schema: format!("g{:x}", RandomState::new().hash_one(at)),
            directory: tempfile::tempdir().unwrap(),
            model,
            model_url,
        }
    }

    fn gateway(&self, name: &str) -> Gateway {
        let file = self.directory.path().join(format!("{name}.toml"));
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = format!(
            r#"
listen = "127.0.0.1:{port}"
public_url = "https://tokens.example"
[chain]
id = 31337
rpc = ["{}"]
[seller]
operator_key = "$OPERATOR"
settler = "{DEV_SETTLER}"
[[token]]
symbol = "USD1"
[credit]
floor_usd = "5"
in_flight = 200
exposure_usd = "50"
[settlement]
allowances = "at-once"
[ledger]
id = "{LEDGER_ID}"
[ledger.postgres]
url = "$DATABASE"
schema = "{}"
gateways = 8
[[upstream]]
name = "model"
url = "{}/v1"
[[model]]
name = "counted"
upstream = "model"
input_usd_per_million = "5"
output_usd_per_million = "25"
max_output_tokens = 256
"#,
            self.rpc, self.schema, self.model_url
        );
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join(format!("{name}.log")))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["serve", "--json", "--config"])
            .arg(&file)
            .env("OPERATOR", DEV_ACCOUNTS[OPERATOR].private_key.to_string())
            .env("DATABASE", url())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        Gateway {
            child,
            api: format!("http://127.0.0.1:{port}/x402/v1"),
        }
    }

    async fn store(&self) -> PostgresStore {
        let config = PostgresConfig::new(&url())
            .unwrap()
            .schema(&self.schema)
            .unwrap();
        PostgresStore::open(config, B256::ZERO).await.unwrap()
    }

    async fn balance(&self, owner: Address) -> Amount {
        let mut input = vec![0x70, 0xa0, 0x82, 0x31];
        input.extend_from_slice(owner.into_word().as_slice());
        let request = CallRequest {
            to: Some(USD1),
            input: input.into(),
            ..CallRequest::default()
        };
        let answer = self.chain.call(&request, BlockTag::Latest).await.unwrap();
        Amount::new(U256::from_be_slice(&answer))
    }

    /// The Settler holds what came by Permit2 until anybody sends it on; its owner can only send it to the treasury.
    async fn received(&self) -> Amount {
        let treasury = self.balance(DEV_ACCOUNTS[TREASURY].address).await;
        treasury.saturating_add(self.balance(DEV_SETTLER).await)
    }

    async fn deadline(&self) -> Timestamp {
        self.chain
            .heads()
            .await
            .unwrap()
            .latest
            .timestamp
            .plus(86_400)
    }

    fn logs(&self) -> String {
        ["a.log", "b.log"]
            .map(|name| {
                std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
            })
            .concat()
    }

    async fn payments(&self) -> Vec<PaymentRow> {
        let store = self.store().await;
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = store.scan(RowKind::Payment, after, 100).await.unwrap();
            let Some(last) = page.last() else {
                return all;
            };
            after = Some(last.key());
            all.extend(page.into_iter().filter_map(|row| match row {
                Row::Payment(row) => Some(row),
                _ => None,
            }));
        }
    }

    /// Every charge is final, the books balance, and the chain has moved what they say, to the unit.
    async fn settled(&self, before: Amount) -> (u64, Amount) {
        let store = self.store().await;
        let began = Instant::now();
        loop {
            let totals = store.totals().await.unwrap();
            let token = totals.0.values().next().cloned().unwrap_or_default();
            let open = [Status::Serving, Status::Due, Status::Claimed]
                .map(|status| token.of(status).payments);
            if open == [0; 3] {
                assert_eq!(totals.discrepancies(), Vec::<String>::new());
                assert_eq!(token.of(Status::Lost).payments, 0, "{}", self.logs());
                let paid = token.of(Status::Final);
                let received = self.received().await;
                assert_eq!(received, before.saturating_add(paid.charge));
                return (paid.payments, paid.charge);
            }
            let patient = began.elapsed() < Duration::from_secs(90);
            assert!(patient, "serving, due, claimed: {open:?}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

struct Gateway {
    child: Child,
    api: String,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already, or be stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gateway {
    /// Waits until it is ready. A slot of one that died is free after its lease.
    async fn ready(&mut self) {
        let out = self.child.stdout.take().unwrap();
        let ready = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line).map(|_| line)
        });
        let line = tokio::time::timeout(Duration::from_secs(60), ready)
            .await
            .unwrap();
        assert!(
            line.unwrap().unwrap().contains("chainId"),
            "it has not started"
        );
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }
}

fn question() -> Value {
    json!({"messages": [{"role": "user", "content": "Tell me a story"}]})
}

async fn offer(http: &reqwest::Client, api: &str) -> Option<PaymentRequired> {
    let answer = http.post(api).json(&question()).send().await.ok()?;
    let head = answer
        .headers()
        .get(header::PAYMENT_REQUIRED)?
        .as_bytes()
        .to_vec();
    let body = answer.bytes().await.ok()?;
    PaymentRequired::from_response(Some(&head), &body, &Limits::DEFAULT).ok()
}

/// The status of an answer that came whole, and the payment and the charge that it tells of.
async fn paid(
    http: &reqwest::Client,
    api: &str,
    offer: &PaymentRequired,
    signed: &Authorization,
) -> Option<(u16, Option<(PaymentId, Amount)>)> {
    let payload = PaymentPayload::answering(offer, &offer.accepts[0], signed);
    let value = header::encode(payload.to_json().as_bytes());
    let answer = http
        .post(api)
        .header("payment-signature", value)
        .json(&question())
        .send()
        .await
        .ok()?;
    let status = answer.status().as_u16();
    let id = answer.headers().get("x-payment-id");
    let id: Option<PaymentId> = id.map(|id| id.to_str().unwrap().parse().unwrap());
    let text = answer.text().await.ok()?;
    let charge = text
        .split_once("\"realPriceWei\":\"")
        .and_then(|(_, rest)| rest.split('"').next()?.parse().ok());
    Some((status, id.zip(charge)))
}

async fn pay(
    http: &reqwest::Client,
    api: &str,
    offer: &PaymentRequired,
    signed: &Authorization,
) -> Option<u16> {
    Some(paid(http, api, offer, signed).await?.0)
}

fn wallet(number: usize) -> LocalWallet {
    LocalWallet::from_bytes(&DEV_ACCOUNTS[number].private_key.0).unwrap()
}

fn domain() -> TokenDomain {
    TokenDomain::new("World Liberty Financial USD", "1", ChainId::DEV, USD1)
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .timeout(Duration::from_secs(8))
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: cargo xtask postgres"]
async fn one_payment_sent_64_times_to_two_gateways_is_served_and_charged_once() {
    let world = World::new().await;
    let before = world.received().await;
    let (mut a, mut b) = (world.gateway("a"), world.gateway("b"));
    a.ready().await;
    b.ready().await;
    let http = client();
    let offer = offer(&http, &a.api).await.unwrap();
    let entry = &offer.accepts[0];
    let terms = OnceTerms {
        amount: entry.amount,
        spender: canonical::UPTO_PERMIT2_PROXY,
        nonce: U256::from(7),
        deadline: world.deadline().await,
        to: entry.pay_to,
        facilitator: entry.extra.facilitator_address.unwrap(),
        valid_after: Timestamp(0),
    };
    let once = Authorization::Once(sign_once(&wallet(2), &domain(), &terms).await.unwrap());
    let mut tasks = JoinSet::new();
    for number in 0..64 {
        let api = if number % 2 == 0 { &a.api } else { &b.api }.clone();
        let (http, offer, once) = (http.clone(), offer.clone(), once.clone());
        tasks.spawn(async move { pay(&http, &api, &offer, &once).await });
    }
    let answers = tasks.join_all().await;
    assert_eq!(world.model.load(Ordering::SeqCst), 1, "{answers:?}");
    assert!(
        answers.contains(&Some(200)),
        "{answers:?}\n{}",
        world.logs()
    );
    let (paid, _) = world.settled(before).await;
    assert_eq!(paid, 1);
}

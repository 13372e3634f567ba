//! What must stay secret, marked and looked for: the program sells, refuses and fails with everything logged that it and
//! its libraries can log, and neither its output nor its files hold a key, a payment header or what was asked.
#![cfg(unix)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;
use tollgate_contracts::tokens::USD1;
use tollgate_devchain::{BlockTime, DEV_ACCOUNTS, DEV_SETTLER, DevChain, Development, Genesis};
use tollgate_eip712::{
    AllowanceTerms, LocalWallet, OnceTerms, TokenDomain, sign_allowance, sign_once,
};
use tollgate_x402::{
    Authorization, B256, ChainId, Limits, PaymentPayload, PaymentRequired, Signature65, Timestamp,
    U256, canonical, header,
};

const LEDGER_ID: B256 = B256::repeat_byte(0x5c);
const PAYER: usize = 2;
const OPERATOR: usize = 7;
const PATIENCE: Duration = Duration::from_secs(60);
/// What is asked for, in all its parts.
const PROMPT: &str = "whisper-canary-in-the-mine";
/// A header that is no payment.
const NOISE: &str = "noise_canary_that_is_no_payment";
/// What is said by a model server that fails.
const FAILS: &str = "please-fail";
/// What it answers: it is kept for those who lost their answer, and nowhere told else.
const ANSWER: &str = "the bird sings";

/// Something that must be found nowhere, in all forms in which somebody may write it.
struct Secret {
    name: &'static str,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    fn text(name: &'static str, text: &str) -> Self {
        Self {
            name,
            forms: vec![text.as_bytes().to_vec()],
        }
    }

    /// Bytes as they are, in hexadecimal, and as a list of numbers.
    fn bytes(name: &'static str, bytes: &[u8]) -> Self {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let list = format!("{:?}", &bytes[..8]);
        let list = list.trim_matches(['[', ']']);
        let close = list.replace(' ', "");
        Self {
            name,
            forms: vec![
                bytes.to_vec(),
                hex.to_uppercase().into_bytes(),
                hex.into_bytes(),
                list.as_bytes().to_vec(),
                close.into_bytes(),
            ],
        }
    }

    /// Where it stands: what is written around it.
    fn found(&self, text: &[u8]) -> Option<String> {
        self.forms.iter().find_map(|form| {
            let at = text.windows(form.len()).position(|part| part == form)?;
            let line = text[..at].iter().rposition(|byte| *byte == b'\n');
            let line = &text[line.map_or(0, |at| at + 1).max(at.saturating_sub(2_000))..];
            let around = &line[..line.len().min(400)];
            Some(String::from_utf8_lossy(around).into_owned())
        })
    }
}

/// What is secret of a signed payment: the signature, and the header that carries it.
struct Paid {
    signature: Signature65,
    header: String,
}

impl Paid {
    fn secrets(&self) -> [Secret; 3] {
        let bytes = self.signature.to_bytes();
        // From the middle, where the signature stands; its beginning is in every payment.
        let middle = self.header.len() / 2;
        [
            Secret::bytes("r of a signature", &bytes[..32]),
            Secret::bytes("s of a signature", &bytes[32..64]),
            Secret::text("a payment header", &self.header[middle..middle + 40]),
        ]
    }
}

fn key(account: usize) -> Secret {
    let name = if account == PAYER {
        "the payer's key"
    } else {
        "the operator's key"
    };
    Secret::bytes(name, &DEV_ACCOUNTS[account].private_key.0)
}

/// A model server that fails where it is asked to, and repeats then what it was asked, as some do.
fn model() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(stream));
        }
    });
    url
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let asked = String::from_utf8_lossy(&body).into_owned();
    let said = if asked.contains(FAILS) {
        let error = json!({"error": {"message": format!("no answer to {asked}")}}).to_string();
        let length = error.len();
        format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{error}"
        )
    } else {
        let chunk = |delta, reason, usage| {
            let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": usage});
            format!("data: {chunk}\n\n")
        };
        let usage = json!({"prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 60});
        let say = chunk(
            json!({"role": "assistant", "content": ANSWER}),
            json!(null),
            json!(null),
        );
        let end = chunk(json!({}), json!("stop"), usage);
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n\
             {say}{end}data: [DONE]\n\n"
        )
    };
    stream.write_all(said.as_bytes())
}

/// The program, with a log of everything.
struct Gateway {
    child: Child,
    directory: TempDir,
    api: String,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It has ended, if all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gateway {
    fn start(rpc: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tollgate.toml");
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = format!(
            r#"
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
[chain]
id = 31337
rpc = ["{rpc}"]
block_time_ms = 100
[seller]
operator_key = "$OPERATOR_KEY"
settler = "{DEV_SETTLER}"
[[token]]
symbol = "USD1"
[settlement]
allowances = "at-once"
[ledger]
path = "{}"
id = "{LEDGER_ID}"
[[upstream]]
name = "model"
url = "{}/v1"
[[model]]
name = "bird"
upstream = "model"
input_usd_per_million = "5"
output_usd_per_million = "25"
max_output_tokens = 256
"#,
            directory.path().join("ledger.db").display(),
            model(),
        );
        fs::write(&file, config).unwrap();
        let out = fs::File::create(directory.path().join("stdout")).unwrap();
        let log = fs::File::create(directory.path().join("stderr")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["--log", "trace", "serve", "--json", "--config"])
            .arg(&file)
            .env(
                "OPERATOR_KEY",
                DEV_ACCOUNTS[OPERATOR].private_key.to_string(),
            )
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            child,
            directory,
            api: format!("http://127.0.0.1:{port}/x402/v1"),
        }
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.directory.path().join(name)).unwrap()
    }

    /// Ends it as an operator does.
    async fn end(&mut self) {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(told.success());
        until("it ends", async || self.child.try_wait().unwrap().is_some()).await;
    }
}

async fn until(what: &str, mut good: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !good().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let done = tokio::time::timeout(PATIENCE, wait).await;
    assert!(done.is_ok(), "not in {PATIENCE:?}: {what}");
}

fn wallet() -> LocalWallet {
    LocalWallet::from_bytes(&DEV_ACCOUNTS[PAYER].private_key.0).unwrap()
}

/// Somebody who asks and pays.
struct Caller {
    http: reqwest::Client,
    api: String,
    deadline: Timestamp,
    paid: Vec<Paid>,
}

impl Caller {
    fn body(words: &str) -> String {
        json!({"messages": [{"role": "user", "content": format!("{PROMPT} {words}")}]}).to_string()
    }

    async fn ask(&self, words: &str, header: Option<&str>) -> Option<reqwest::Response> {
        let mut request = self.http.post(&self.api).body(Self::body(words));
        request = request.header("content-type", "application/json");
        if let Some(header) = header {
            request = request.header("payment-signature", header);
        }
        request.send().await.ok()
    }

    async fn offer(&self, words: &str) -> Option<PaymentRequired> {
        let answer = self.ask(words, None).await?;
        let head = answer.headers().get(header::PAYMENT_REQUIRED)?.clone();
        let body = answer.bytes().await.ok()?;
        PaymentRequired::from_response(Some(head.as_bytes()), &body, &Limits::DEFAULT).ok()
    }

    async fn allowance(&self, offer: &PaymentRequired) -> Authorization {
        let entry = &offer.accepts[0];
        let terms = AllowanceTerms {
            spender: entry.pay_to,
            value: entry.amount,
            nonce: U256::ZERO,
            deadline: self.deadline,
        };
        let permit = sign_allowance(&wallet(), &domain(), &terms).await.unwrap();
        Authorization::Allowance(permit)
    }

    async fn once(&self, offer: &PaymentRequired, nonce: u64) -> Authorization {
        let entry = &offer.accepts[0];
        let terms = OnceTerms {
            amount: entry.amount,
            spender: canonical::UPTO_PERMIT2_PROXY,
            nonce: U256::from(nonce),
            deadline: self.deadline,
            to: entry.pay_to,
            facilitator: entry.extra.facilitator_address.unwrap(),
            valid_after: Timestamp(0),
        };
        Authorization::Once(sign_once(&wallet(), &domain(), &terms).await.unwrap())
    }

    /// Pays with what is signed, and answers with the status and the text.
    async fn pay(&mut self, words: &str, signed: &Authorization) -> (u16, String) {
        let offer = self.offer(words).await.unwrap();
        let payload = PaymentPayload::answering(&offer, &offer.accepts[0], signed);
        let header = payload.to_header_value();
        self.paid.push(Paid {
            signature: match signed {
                Authorization::Allowance(signed) => signed.signature,
                Authorization::Once(signed) => signed.signature,
                Authorization::Exact(_) => panic!("nothing here has one price"),
            },
            header: header.clone(),
        });
        let answer = self.ask(words, Some(&header)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder().timeout(PATIENCE)
}

fn domain() -> TokenDomain {
    TokenDomain::new("World Liberty Financial USD", "1", ChainId::DEV, USD1)
}

/// A chain on which the payer has approved Permit2.
async fn chain() -> (DevChain, String) {
    let who = Development {
        ledger_id: LEDGER_ID,
        ..Development::default()
    };
    // approve(PERMIT2, 2^256 - 1)
    let mut approve = vec![0x09, 0x5e, 0xa7, 0xb3];
    approve.extend_from_slice(canonical::PERMIT2.into_word().as_slice());
    approve.extend_from_slice(&[0xff; 32]);
    let payer = DEV_ACCOUNTS[PAYER].address;
    let chain = DevChain::builder()
        .block_time(BlockTime::Interval(Duration::from_millis(100)))
        .genesis(Genesis::development(&who).call(payer, USD1, approve))
        .start()
        .unwrap();
    chain.serve(([127, 0, 0, 1], 0)).await.unwrap();
    let rpc = chain.rpc_url().unwrap();
    (chain, rpc)
}

/// Everything that the files beside the ledger's hold, and their names.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("ledger") && entry.file_type().unwrap().is_file() {
            all.push((name, fs::read(entry.path()).unwrap()));
        }
    }
    all
}

fn nowhere<'a>(place: &str, text: &[u8], secrets: impl IntoIterator<Item = &'a Secret>) {
    for secret in secrets {
        if let Some(around) = secret.found(text) {
            panic!("{place} holds {}: …{around}…", secret.name);
        }
    }
}

/// RELIABILITY 90. With everything logged that can be, over both versions of HTTP, for answers, refusals and failures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_and_no_file_holds_a_key_a_payment_header_or_what_was_asked() {
    let (devchain, rpc) = chain().await;
    let mut gateway = Gateway::start(&rpc);
    let mut caller = Caller {
        http: client().build().unwrap(),
        api: gateway.api.clone(),
        deadline: Timestamp(0),
        paid: Vec::new(),
    };
    until("it answers", async || caller.offer("hello").await.is_some()).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    caller.deadline = Timestamp(now.unwrap().as_secs() + 7_200);
    let offer = caller.offer("hello").await.unwrap();

    // Paid and served.
    let allowance = caller.allowance(&offer).await;
    let (status, text) = caller.pay("by allowance", &allowance).await;
    assert!(status == 200 && text.contains(ANSWER), "{status}: {text}");
    caller.http = client().http2_prior_knowledge().build().unwrap();
    let once = caller.once(&offer, 1).await;
    let (status, text) = caller.pay("once", &once).await;
    assert!(status == 200 && text.contains(ANSWER), "{status}: {text}");
    // Refused: another request, a signature for other terms, and no payment at all.
    let (status, text) = caller.pay("once more", &once).await;
    assert_eq!(status, 409, "{text}");
    let Authorization::Allowance(mut forged) = allowance.clone() else {
        panic!("signed otherwise");
    };
    forged.value = tollgate_x402::Amount::from(1u64);
    let (status, text) = caller
        .pay("forged", &Authorization::Allowance(forged))
        .await;
    assert_eq!(status, 402, "{text}");
    let answer = caller.ask("noise", Some(NOISE)).await.unwrap();
    assert!(answer.status().is_client_error(), "{}", answer.status());
    caller.http = client().build().unwrap();
    // Failed, by a model server that repeats what it was asked.
    let fails = caller.once(&offer, 2).await;
    let (status, text) = caller.pay(FAILS, &fails).await;
    assert!(!(200..300).contains(&status), "{status}: {text}");
    assert!(!text.contains(PROMPT), "the answer repeats it: {text}");

    // The seller is paid for both, and what sends it has logged as well.
    let treasury = || devchain.token_balance(USD1, DEV_SETTLER).unwrap();
    let received = Development::default().tokens;
    let all = || {
        treasury()
            + devchain
                .token_balance(USD1, DEV_ACCOUNTS[9].address)
                .unwrap()
    };
    until("both are settled", async || {
        all() > received && treasury() > U256::ZERO
    })
    .await;
    let running = files(gateway.directory.path());
    gateway.end().await;
    let ended = files(gateway.directory.path());
    assert!(
        running.iter().any(|(name, _)| name.ends_with("-wal")),
        "the log of the database is looked at too"
    );

    let log = gateway.read("stderr");
    let text = String::from_utf8_lossy(&log);
    assert!(
        text.contains("TRACE") && text.contains("hyper"),
        "everything is logged: {} bytes",
        log.len()
    );
    let signed: Vec<Secret> = caller.paid.iter().flat_map(Paid::secrets).collect();
    let asked = Secret::text("what was asked", PROMPT);
    let noise = Secret::text("a header that is no payment", NOISE);
    let keys = [key(PAYER), key(OPERATOR)];
    for name in ["stderr", "stdout"] {
        let text = gateway.read(name);
        nowhere(name, &text, keys.iter().chain([&asked, &noise]));
        nowhere(name, &text, &signed);
    }
    // A ledger keeps the signatures of what it is to settle, and the answers for those who lost them: without the ones
    // nobody is paid, and without the others a request that comes again is charged again. It keeps nothing else.
    let headers = signed
        .iter()
        .filter(|secret| secret.name == "a payment header");
    let kept: Vec<&Secret> = headers.chain(&keys).chain([&asked, &noise]).collect();
    for (name, content) in running.iter().chain(&ended) {
        nowhere(name, content, kept.iter().copied());
    }
}

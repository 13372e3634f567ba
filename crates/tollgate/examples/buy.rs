//! Asks a development gateway (`tollgate serve --dev`) twice, and checks what was charged against the chain.
#![expect(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::{io::Write, time::Duration};

use tollgate_client::{ChainRpc, ChatPart, Policy, TollgateClient, verify_on_chain, verify_signer};
use tollgate_eip712::LocalWallet;
use tollgate_x402::{ChainId, PaymentState};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rpc = "http://127.0.0.1:8545";
    let client = TollgateClient::builder()
        .wallet(LocalWallet::from_hex(&std::env::var("TOLLGATE_KEY")?)?)
        // One request may cost 5 cents, and no more than a dollar is signed for.
        .policy(
            Policy::new()
                .networks([ChainId::DEV])
                .max_charge("0.05".parse()?)
                .max_authorization("1.00".parse()?),
        )
        // A permit needs the token's nonce.
        .chain_rpc(ChainId::DEV, rpc)
        .build()?;

    for question in ["Hello", "And again"] {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"{question}"}}]}}"#);
        let mut answer = client.chat("http://127.0.0.1:8402/x402/v1", body).await?;
        while let Some(part) = answer.next().await {
            if let ChatPart::Text(text) = part? {
                print!("{text}");
                std::io::stdout().flush()?;
            }
        }
        println!();
        for finding in answer.findings() {
            println!("the receipt is wrong: {finding}");
        }
        let paid = answer.paid().ok_or("nothing was paid")?.clone();
        let receipt = answer.receipt().ok_or("no receipt")?;
        let id = receipt.payment_id.ok_or("no payment id")?;
        if let Some(charge) = receipt.charge {
            println!(
                "charged {}, permit used again: {}",
                paid.priced(charge),
                paid.reused
            );
        }

        // A block is final a second or two after the settlement.
        let told = loop {
            let told = client.payment(&paid.origin, id).await?;
            if told.status.state == PaymentState::Final {
                break told;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        // The seller's signature under all that, by a key that the chain knows.
        let (rpc, signed) = (ChainRpc::new(ChainId::DEV, rpc), told.signed());
        let chain = rpc.chain().await?;
        let signer = verify_signer(chain, paid.pay_to, signed.ok_or("nothing is signed")?).await?;
        let signed = client.audit_receipt(&paid, &told).into_iter().chain(signer);
        let plain = client.audit(&paid, &receipt, Some(&told.status));
        for finding in plain.into_iter().chain(signed) {
            println!("the receipt is wrong: {finding}");
        }
        let verdict = verify_on_chain(chain, &paid, &told.status).await?;
        let moved = verdict.is_some_and(|verdict| verdict.is_final());
        println!("the chain shows exactly this charge, for good: {moved}");
    }
    Ok(())
}

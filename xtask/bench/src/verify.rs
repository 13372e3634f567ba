//! The CPU of looking at a payment without the chain.

use std::hint::black_box;

use anyhow::ensure;
use tollgate_contracts::addresses::{EXACT_PROXY, UPTO_PROXY};
use tollgate_contracts::tokens::USD1;
use tollgate_eip712::{
    AllowanceTerms, Eip3009Terms, LocalWallet, OnceTerms, Permit2ExactTerms, TokenDomain, digest,
    recover, sign_allowance, sign_eip3009, sign_once, sign_permit2_exact, verify,
};
use tollgate_x402::{
    Address, Amount, AssetTransferMethod, Authorization, B256, ChainId, Exact, Limits, Network,
    PaymentPayload, PaymentRequired, PaymentRequirements, PrimaryType, ResourceInfo, Scheme,
    Timestamp, U256,
};

use crate::{
    report::{Row, Wanted},
    stats::cost,
};

const BENCH: &str = "verify";
const RUNS: usize = 5_000;
const PAY_TO: Address = Address::repeat_byte(0x5e);

pub(crate) async fn run() -> anyhow::Result<Vec<Row>> {
    let wallet = LocalWallet::from_bytes(&[0x42; 32])?;
    let domain = TokenDomain::new("World Liberty Financial USD", "1", ChainId::BSC, USD1);
    let mut rows = Vec::new();
    for (kind, authorization, entry) in kinds(&wallet, &domain).await? {
        let resource = ResourceInfo::new("https://api.example.com/x402/v1");
        let offer = PaymentRequired::new(resource, vec![entry.clone()]);
        let header = PaymentPayload::answering(&offer, &entry, &authorization).to_header_value();
        let limits = Limits::default();
        let whole = cost(RUNS, || {
            let payload = PaymentPayload::parse_header(black_box(header.as_bytes()), &limits)?;
            let authorization = payload.authorization_for(&entry)?;
            verify(&authorization, &domain)?;
            black_box(authorization);
            Ok(())
        })?;
        let signature = match &authorization {
            Authorization::Allowance(signed) => signed.signature,
            Authorization::Once(signed) => signed.signature,
            Authorization::Exact(Exact::Eip3009(signed)) => signed.signature,
            Authorization::Exact(Exact::Permit2(signed)) => signed.signature,
        };
        let hash = digest(&authorization, &domain);
        ensure!(
            recover(hash, &signature)? == wallet.address(),
            "not what was signed"
        );
        let alone = cost(RUNS, || {
            black_box(recover(black_box(hash), &signature)?);
            Ok(())
        })?;
        rows.push(
            Row::new(
                BENCH,
                format!("{kind}: header to payer, p50"),
                whole.p50 / 1e3,
                "µs",
            )
            .beside("ecrecover alone", alone.p50 / 1e3)
            .wanted(Wanted::AtMost(60.0)),
        );
        rows.push(
            Row::new(BENCH, "  p10", whole.p10 / 1e3, "µs")
                .beside("ecrecover alone", alone.p10 / 1e3),
        );
    }
    Ok(rows)
}

/// One authorization of each kind, with the offer's entry that it answers.
async fn kinds(
    wallet: &LocalWallet,
    domain: &TokenDomain,
) -> anyhow::Result<Vec<(&'static str, Authorization, PaymentRequirements)>> {
    let (amount, deadline) = (
        Amount::from(990_000_000_000_000_000_u128),
        Timestamp(4_000_000_000),
    );
    let valid_after = Timestamp(0);
    let entry = |scheme| {
        let network = Network::from(ChainId::BSC);
        let mut entry = PaymentRequirements::new(scheme, network, amount, USD1, PAY_TO, 86_400);
        entry.extra.name = domain.name().map(str::to_owned);
        entry.extra.version = domain.version().map(str::to_owned);
        entry
    };
    let mut upto = entry(Scheme::Upto);
    upto.extra.primary_type = Some(PrimaryType::Permit);
    upto.extra.asset_transfer_method = Some(AssetTransferMethod::Permit2);
    upto.extra.facilitator_address = Some(PAY_TO);
    let mut permit2 = entry(Scheme::Exact);
    permit2.extra.asset_transfer_method = Some(AssetTransferMethod::Permit2);

    let terms = AllowanceTerms {
        spender: PAY_TO,
        value: amount,
        nonce: U256::ZERO,
        deadline,
    };
    let allowance = Authorization::Allowance(sign_allowance(wallet, domain, &terms).await?);
    let (nonce, to) = (U256::from(7), PAY_TO);
    let terms = OnceTerms {
        amount,
        spender: UPTO_PROXY,
        nonce,
        deadline,
        to,
        facilitator: PAY_TO,
        valid_after,
    };
    let once = Authorization::Once(sign_once(wallet, domain, &terms).await?);
    let terms = Eip3009Terms {
        to,
        value: amount,
        valid_after,
        valid_before: deadline,
        nonce: B256::repeat_byte(7),
    };
    let eip3009 = Authorization::Exact(Exact::Eip3009(sign_eip3009(wallet, domain, &terms).await?));
    let terms = Permit2ExactTerms {
        amount,
        spender: EXACT_PROXY,
        nonce,
        deadline,
        to,
        valid_after,
    };
    let exact = sign_permit2_exact(wallet, domain, &terms).await?;
    let exact = Authorization::Exact(Exact::Permit2(exact));
    Ok(vec![
        ("allowance (ERC-2612)", allowance, upto.clone()),
        ("once (Permit2 upto)", once, upto),
        ("exact (EIP-3009)", eip3009, entry(Scheme::Exact)),
        ("exact (Permit2)", exact, permit2),
    ])
}

//! A facilitator that does as it is told, and a request for it.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use tollgate_facilitator::{Call, Facilitator, FacilitatorError, Settled, Stage};
use tollgate_x402::Address;
use tollgate_x402::{
    Amount, AssetTransferMethod, Authorization, B256, ChainId, Clock, ErrorCode,
    FacilitatorRequest, Network, Once, PaymentPayload, PaymentRequired, PaymentRequirements,
    ResourceInfo, Scheme, SettleResponse, Signature65, SupportedResponse, Timestamp, U256,
    VerifyResponse, X402Version, canonical::UPTO_PERMIT2_PROXY,
};

pub(crate) const PAY_TO: Address = Address::repeat_byte(0x5e);
pub(crate) const PAYER: Address = Address::repeat_byte(0xaa);
pub(crate) const HASH: B256 = B256::repeat_byte(0x77);

pub(crate) fn network() -> Network {
    Network::from(ChainId::BSC)
}

/// A request to settle 1,000 of 2,000 signed.
pub(crate) fn request(version: X402Version) -> FacilitatorRequest {
    let facilitator = Address::repeat_byte(0xfa);
    let mut offered = PaymentRequirements::new(
        Scheme::Upto,
        network(),
        Amount::from(2_000u64),
        Address::repeat_byte(0x70),
        PAY_TO,
        60,
    );
    offered.extra.asset_transfer_method = Some(AssetTransferMethod::Permit2);
    offered.extra.facilitator_address = Some(facilitator);
    let one = B256::with_last_byte(1);
    let signed = Authorization::Once(Once {
        chain: ChainId::BSC,
        token: offered.asset,
        owner: PAYER,
        amount: offered.amount,
        spender: UPTO_PERMIT2_PROXY,
        nonce: U256::from(9),
        deadline: Timestamp(1_800_000_000),
        to: PAY_TO,
        facilitator,
        valid_after: Timestamp(0),
        signature: Signature65::new(one, one, false).unwrap(),
    });
    let resource = ResourceInfo::new("https://seller.example/");
    let mut required = PaymentRequired::new(resource, vec![offered.clone()]);
    required.version = version;
    let payload = PaymentPayload::answering(&required, &offered, &signed);
    offered.amount = Amount::from(1_000u64);
    FacilitatorRequest {
        version,
        payload,
        requirements: offered,
    }
}

pub(crate) fn settled() -> SettleResponse {
    SettleResponse::settled(network(), PAYER, Amount::from(1_000u64), Some(HASH))
}

/// A clock that is set.
#[derive(Clone, Default)]
pub(crate) struct Hand(pub(crate) Arc<AtomicU64>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// Settles each payment once, at 100 units of gas; says what it is told to.
#[derive(Clone, Default)]
pub(crate) struct Told {
    pub(crate) settled: Arc<Mutex<Vec<String>>>,
    pub(crate) stage: Arc<Mutex<Option<Stage>>>,
    pub(crate) broken: Arc<Mutex<Option<FacilitatorError>>>,
}

impl Told {
    fn broken(&self) -> Result<(), FacilitatorError> {
        self.broken.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

impl Facilitator for Told {
    async fn verify(&self, call: &Call) -> Result<VerifyResponse, FacilitatorError> {
        self.broken()?;
        Ok(VerifyResponse::valid(
            call.request.payload.scheme_payload().payer(),
        ))
    }

    async fn settle(&self, call: &Call) -> Result<Settled, FacilitatorError> {
        self.broken()?;
        let caller = call.caller.as_ref().unwrap().to_string();
        let mut settled_for = self.settled.lock().unwrap();
        let fresh = !settled_for.contains(&caller);
        if fresh && !call.may_begin {
            return Err(FacilitatorError::NotBegun);
        }
        settled_for.push(caller);
        let stage = self.stage.lock().unwrap().unwrap_or(Stage::Done);
        let response = match stage {
            Stage::Done => settled(),
            Stage::Pending => {
                SettleResponse::failed(network(), ErrorCode::SettlementPending, Some(HASH))
            }
            Stage::Conflict => {
                SettleResponse::failed(network(), ErrorCode::DuplicateSettlement, None)
            }
            Stage::Refused => SettleResponse::failed(network(), ErrorCode::Permit2Balance, None),
        };
        Ok(Settled {
            response,
            stage,
            fresh,
        })
    }

    async fn supported(&self) -> Result<SupportedResponse, FacilitatorError> {
        Ok(SupportedResponse::default())
    }

    async fn health(&self) -> Result<(), FacilitatorError> {
        self.broken()
    }

    fn gas(&self, _: &Call) -> u64 {
        100
    }
}

//! Signatures made by other software are accepted by our contracts on BSC's chain id: our equivalents hash the same
//! things in the same way as what they stand for.

use alloy_primitives::{Address, Bytes, U256, address, hex};
use alloy_sol_types::SolCall;
use tollgate_contracts::abi::{ExactProxy, TestUsd1, UptoProxy};
use tollgate_contracts::addresses::{EXACT_PROXY, PERMIT2, UPTO_PROXY};

use crate::common::*;

const OWNER: Address = address!("2c7536E3605D9C16a7a3D7b1898e529396a65c23");
const PAY_TO: Address = address!("209693Bc6afc0C5328bA36FaF03C514EF312287C");
const FACILITATOR: Address = address!("1111111111111111111111111111111111111111");
const DEADLINE: u64 = 1_800_000_000;

struct Vector(serde_json::Value);

impl Vector {
    fn signature(&self) -> Bytes {
        hex::decode(self.0["signature"].as_str().unwrap())
            .unwrap()
            .into()
    }

    fn vrs(&self) -> (u8, alloy_primitives::B256, alloy_primitives::B256) {
        let bytes = self.signature();
        (
            bytes[64],
            bytes[..32].try_into().unwrap(),
            bytes[32..64].try_into().unwrap(),
        )
    }

    fn number(&self, key: &str) -> U256 {
        self.0["message"][key].as_str().unwrap().parse().unwrap()
    }
}

fn vector(name: &str, chain: u64) -> Vector {
    let all: serde_json::Value =
        serde_json::from_str(include_str!("../vectors/signatures.json")).unwrap();
    Vector(all[format!("{name}@{chain}")].clone())
}

fn world(chain: u64) -> World {
    let mut world = World::on(chain);
    world.now = DEADLINE - 10;
    world.endow(OWNER);
    world
}

fn accepted<C: SolCall>(world: &mut World, from: Address, to: Address, call: &C) {
    world.send(from, to, call).expect_ok();
}

#[test]
fn a_permit_signed_by_other_software_is_accepted_on_its_chain_only() {
    for (chain, other) in [(56, 97), (97, 56)] {
        let (v, r, s) = vector("erc2612Permit", chain).vrs();
        let call = TestUsd1::permitCall {
            owner: OWNER,
            spender: PAY_TO,
            value: vector("erc2612Permit", chain).number("value"),
            deadline: u(DEADLINE),
            v,
            r,
            s,
        };
        world(other)
            .send(PAY_TO, USD1, &call)
            .expect_revert::<TestUsd1::ERC2612InvalidSigner>();
        accepted(&mut world(chain), PAY_TO, USD1, &call);
    }
}

#[test]
fn an_authorization_signed_by_other_software_is_accepted_on_its_chain_only() {
    for (chain, other) in [(56, 97), (97, 56)] {
        let vector = vector("eip3009", chain);
        let (v, r, s) = vector.vrs();
        let call = TestUsd1::transferWithAuthorizationCall {
            from: OWNER,
            to: PAY_TO,
            value: vector.number("value"),
            validAfter: U256::ZERO,
            validBefore: u(DEADLINE),
            nonce: vector.0["message"]["nonce"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap(),
            v,
            r,
            s,
        };
        world(other)
            .send(STRANGER, USD1, &call)
            .expect_revert::<TestUsd1::InvalidAuthorizationSignature>();
        let mut world = world(chain);
        accepted(&mut world, STRANGER, USD1, &call);
        assert_eq!(world.balance(USD1, PAY_TO), u(10_000_000_000_000_000_u64));
    }
}

#[test]
fn permit2_payments_signed_by_other_software_are_accepted_by_both_proxies() {
    for chain in [56, 97] {
        let exact = vector("permit2Exact", chain);
        let upto = vector("permit2Upto", chain);
        let exact = ExactProxy::settleCall {
            permit: ExactProxy::PermitTransferFrom {
                permitted: ExactProxy::TokenPermissions {
                    token: USD1,
                    amount: u(10_000_000_000_000_000_u64),
                },
                nonce: exact.number("nonce"),
                deadline: u(DEADLINE),
            },
            owner: OWNER,
            witness: ExactProxy::Witness {
                to: PAY_TO,
                validAfter: U256::ZERO,
            },
            signature: exact.signature(),
        };
        let upto = UptoProxy::settleCall {
            permit: UptoProxy::PermitTransferFrom {
                permitted: UptoProxy::TokenPermissions {
                    token: USD1,
                    amount: u(990_000_000_000_000_000_u64),
                },
                nonce: upto.number("nonce"),
                deadline: u(DEADLINE),
            },
            amount: u(5),
            owner: OWNER,
            witness: UptoProxy::Witness {
                to: PAY_TO,
                facilitator: FACILITATOR,
                validAfter: U256::ZERO,
            },
            signature: upto.signature(),
        };
        let mut fresh = world(chain);
        fresh.approve(USD1, OWNER, PERMIT2, U256::MAX);
        accepted(&mut fresh.clone(), STRANGER, EXACT_PROXY, &exact);
        accepted(&mut fresh, FACILITATOR, UPTO_PROXY, &upto);
        assert_eq!(fresh.balance(USD1, PAY_TO), u(5));

        // and with the permit for Permit2, by the same software, in place of the approval
        let permit = vector("eip2612ForPermit2", chain);
        let (v, r, s) = permit.vrs();
        let sponsored = UptoProxy::settleWithPermitCall {
            permit2612: UptoProxy::EIP2612Permit {
                value: permit.number("value"),
                deadline: u(DEADLINE),
                r,
                s,
                v,
            },
            permit: upto.permit,
            amount: upto.amount,
            owner: upto.owner,
            witness: upto.witness,
            signature: upto.signature,
        };
        let mut fresh = world(chain);
        accepted(&mut fresh, FACILITATOR, UPTO_PROXY, &sponsored);
        assert_eq!(fresh.balance(USD1, PAY_TO), u(5));
    }
}

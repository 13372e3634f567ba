//! A chain in memory, for the tests of the contracts: one block, no pool, every call its own transaction.

pub(crate) mod artifact;
pub(crate) mod sign;

use alloy_primitives::{Address, B256, Bytes, Log, TxKind, U256, address, hex, keccak256};
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{SolCall, SolError, SolEvent};
use revm::bytecode::Bytecode;
use revm::context::result::{ExecutionResult, Output};
use revm::context::{BlockEnv, TxEnv};
use revm::database::InMemoryDB;
use revm::primitives::hardfork::SpecId;
use revm::state::AccountInfo;
use revm::{Context, ExecuteCommitEvm as _, ExecuteEvm as _, MainBuilder as _, MainContext as _};
use tollgate_contracts::abi::Settler::{AllowanceItem, Eip3009Item, OnceItem, Permit2ExactItem};
use tollgate_contracts::abi::{IErc20, Settler};
use tollgate_contracts::{addresses, bytecode, settler, slots, tokens};

pub(crate) const CHAIN: u64 = 31337;
pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const LATER: u64 = NOW + 3600;
pub(crate) const USD1: Address = tokens::USD1;
pub(crate) const USDT: Address = tokens::USDT;
pub(crate) const TREASURY: Address = address!("00000000000000000000000000000000000000fe");
pub(crate) const ADMIN: Address = address!("00000000000000000000000000000000000000ad");
pub(crate) const OPERATOR: Address = address!("0000000000000000000000000000000000000b0b");
pub(crate) const STRANGER: Address = address!("0000000000000000000000000000000000005117");
pub(crate) const TOKEN_ADMIN: Address = address!("00000000000000000000000000000000000000aa");
pub(crate) const LEDGER: B256 = B256::repeat_byte(0x1e);
/// One tenth of a dollar.
pub(crate) const DIME: u64 = 100_000_000_000_000_000;
/// What every payer begins with, of each token.
pub(crate) const FORTUNE: u128 = 1_000_000_000_000_000_000_000;
/// The most that Osaka lets one transaction have (EIP-7825).
pub(crate) const TX_GAS: u64 = 1 << 24;

pub(crate) fn u(value: impl TryInto<u128>) -> U256 {
    U256::from(value.try_into().ok().expect("no negative amount"))
}

/// The n-th payer's key.
pub(crate) fn payer(n: u64) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::from(U256::from(0x5eed_0000 + n))).unwrap()
}

/// What a transaction did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) ok: bool,
    pub(crate) gas: u64,
    pub(crate) output: Bytes,
    pub(crate) logs: Vec<Log>,
    pub(crate) halt: Option<String>,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn expect_ok(self) -> Self {
        assert!(self.ok, "reverted: {} {:?}", self.output, self.halt);
        self
    }

    #[track_caller]
    pub(crate) fn expect_revert<E: SolError>(&self) -> E {
        assert!(!self.ok, "it went through");
        E::abi_decode(&self.output).unwrap_or_else(|error| {
            panic!(
                "not {}: {} {:?} ({error})",
                E::SIGNATURE,
                self.output,
                self.halt
            )
        })
    }

    #[track_caller]
    pub(crate) fn expect_reason(&self, reason: &str) {
        assert_eq!(
            self.expect_revert::<alloy_sol_types::Revert>().reason,
            reason
        );
    }

    pub(crate) fn events<E: SolEvent>(&self, from: Address) -> Vec<E> {
        self.logs
            .iter()
            .filter(|log| log.address == from)
            .filter_map(|log| E::decode_log_data(&log.data).ok())
            .collect()
    }
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) db: InMemoryDB,
    pub(crate) now: u64,
    pub(crate) number: u64,
    pub(crate) chain: u64,
    pub(crate) settler: Address,
}

impl World {
    /// The development chain's contracts, by raw code and storage as a genesis has them; ten payers with a fortune in
    /// each token; a Settler, deployed by its constructor.
    pub(crate) fn new() -> Self {
        Self::on(CHAIN)
    }

    pub(crate) fn on(chain: u64) -> Self {
        let mut world = Self {
            db: InMemoryDB::default(),
            now: NOW,
            number: 1000,
            chain,
            settler: Address::ZERO,
        };
        world.place(USD1, &bytecode::TEST_USD1);
        world.place(USDT, &bytecode::TEST_USDT);
        world.place(addresses::PERMIT2, &bytecode::SIGNATURE_TRANSFER);
        world.place(addresses::EXACT_PROXY, &bytecode::EXACT_PROXY);
        world.place(addresses::UPTO_PROXY, &bytecode::UPTO_PROXY);
        world.store(
            USD1,
            U256::from(slots::usd1::ADMIN_AND_PAUSED),
            TOKEN_ADMIN.into_word().into(),
        );
        world.store(
            USDT,
            U256::from(slots::usdt::OWNER),
            TOKEN_ADMIN.into_word().into(),
        );
        if let Some(init_code) = artifact::real_permit2() {
            world.deploy_permit2(&init_code);
        }
        for n in 0..10 {
            world.endow(payer(n).address());
        }
        world.store(
            USD1,
            U256::from(slots::usd1::TOTAL_SUPPLY),
            U256::from(10 * FORTUNE),
        );
        world.store(
            USDT,
            U256::from(slots::usdt::TOTAL_SUPPLY),
            U256::from(10 * FORTUNE),
        );
        world.settler = world.deploy(&settler::init_code(LEDGER, TREASURY, ADMIN, &[OPERATOR]));
        world
    }

    /// The real Permit2 in place of our equivalent, deployed as it was everywhere: its constructor keeps what the
    /// domain is at its address.
    fn deploy_permit2(&mut self, init_code: &[u8]) {
        // CREATE2 of what follows the salt in the calldata
        const DEPLOYER: &[u8] = &hex!("5f35602036038060205f375f5ff55f5260205ff3");
        self.place_code(addresses::CREATE2_DEPLOYER, Bytes::from_static(DEPLOYER));
        self.db.cache.accounts.remove(&addresses::PERMIT2);
        assert_eq!(
            keccak256(init_code),
            addresses::PERMIT2_CREATE2.init_code_hash
        );
        let data = [addresses::PERMIT2_CREATE2.salt.as_slice(), init_code].concat();
        let to = TxKind::Call(addresses::CREATE2_DEPLOYER);
        let tx = self.tx(STRANGER, to, data.into(), TX_GAS);
        let outcome = Self::outcome(self.run(tx, true)).expect_ok();
        assert_eq!(
            outcome.output[..],
            addresses::PERMIT2.into_word()[..],
            "not at its address"
        );
    }

    pub(crate) fn place(&mut self, at: Address, contract: &bytecode::Contract) {
        self.place_code(at, contract.runtime_bytes());
    }

    pub(crate) fn place_code(&mut self, at: Address, code: Bytes) {
        let info = AccountInfo::default().with_code(Bytecode::new_raw(code));
        self.db
            .insert_account_info(at, AccountInfo { nonce: 1, ..info });
    }

    /// Lets the account's code be that of an EIP-7702 delegation; none for the zero address.
    pub(crate) fn delegate(&mut self, account: Address, to: Address) {
        let code = if to.is_zero() {
            Bytecode::default()
        } else {
            Bytecode::new_eip7702(to)
        };
        self.db
            .insert_account_info(account, AccountInfo::default().with_code(code));
    }

    pub(crate) fn store(&mut self, at: Address, slot: U256, value: U256) {
        self.db.insert_account_storage(at, slot, value).unwrap();
    }

    pub(crate) fn endow(&mut self, owner: Address) {
        self.store(
            USD1,
            slots::mapped(slots::usd1::BALANCES, owner),
            U256::from(FORTUNE),
        );
        self.store(
            USDT,
            slots::mapped(slots::usdt::BALANCES, owner),
            U256::from(FORTUNE),
        );
    }

    fn tx(&self, from: Address, kind: TxKind, data: Bytes, gas: u64) -> TxEnv {
        TxEnv {
            caller: from,
            kind,
            data,
            gas_limit: gas,
            chain_id: Some(self.chain),
            ..TxEnv::default()
        }
    }

    fn run(&mut self, tx: TxEnv, commit: bool) -> ExecutionResult {
        let block = BlockEnv {
            number: U256::from(self.number),
            timestamp: U256::from(self.now),
            gas_limit: 55_000_000,
            basefee: 0,
            prevrandao: Some(B256::ZERO),
            ..BlockEnv::default()
        };
        let chain = self.chain;
        let mut evm = Context::mainnet()
            .with_db(&mut self.db)
            .with_block(block)
            .modify_cfg_chained(|cfg| {
                cfg.set_spec_and_mainnet_gas_params(SpecId::OSAKA);
                cfg.chain_id = chain;
                cfg.disable_nonce_check = true;
                cfg.disable_eip3607 = true;
            })
            .build_mainnet();
        if commit {
            evm.transact_commit(tx).unwrap()
        } else {
            evm.transact(tx).unwrap().result
        }
    }

    fn outcome(result: ExecutionResult) -> Outcome {
        let gas = result.tx_gas_used();
        match result {
            ExecutionResult::Success { logs, output, .. } => Outcome {
                ok: true,
                gas,
                output: output.into_data(),
                logs,
                halt: None,
            },
            ExecutionResult::Revert { output, .. } => Outcome {
                ok: false,
                gas,
                output,
                logs: vec![],
                halt: None,
            },
            ExecutionResult::Halt { reason, .. } => Outcome {
                ok: false,
                gas,
                output: Bytes::new(),
                logs: vec![],
                halt: Some(format!("{reason:?}")),
            },
        }
    }

    /// A transaction.
    pub(crate) fn send<C: SolCall>(&mut self, from: Address, to: Address, call: &C) -> Outcome {
        self.send_gas(from, to, call, TX_GAS)
    }

    pub(crate) fn send_gas<C: SolCall>(
        &mut self,
        from: Address,
        to: Address,
        call: &C,
        gas: u64,
    ) -> Outcome {
        let tx = self.tx(from, TxKind::Call(to), call.abi_encode().into(), gas);
        Self::outcome(self.run(tx, true))
    }

    /// `eth_call`: nothing stays.
    pub(crate) fn simulate<C: SolCall>(&mut self, from: Address, to: Address, call: &C) -> Outcome {
        let tx = self.tx(from, TxKind::Call(to), call.abi_encode().into(), TX_GAS);
        Self::outcome(self.run(tx, false))
    }

    /// `eth_call` without a `to`.
    pub(crate) fn simulate_creation(&mut self, data: Bytes) -> Outcome {
        let tx = self.tx(Address::ZERO, TxKind::Create, data, TX_GAS);
        Self::outcome(self.run(tx, false))
    }

    #[track_caller]
    pub(crate) fn view<C: SolCall>(&mut self, to: Address, call: &C) -> C::Return {
        let outcome = self.simulate(Address::ZERO, to, call).expect_ok();
        C::abi_decode_returns(&outcome.output).unwrap()
    }

    #[track_caller]
    pub(crate) fn deploy(&mut self, init_code: &Bytes) -> Address {
        match self.try_deploy(init_code) {
            ExecutionResult::Success {
                output: Output::Create(_, Some(address)),
                ..
            } => address,
            other => panic!("not deployed: {other:?}"),
        }
    }

    pub(crate) fn try_deploy(&mut self, init_code: &Bytes) -> ExecutionResult {
        // A nonce never used before makes an address never used before.
        let deployer = Address::from_word(B256::from(U256::from(self.db.cache.accounts.len())));
        let tx = self.tx(deployer, TxKind::Create, init_code.clone(), TX_GAS);
        self.run(tx, true)
    }

    pub(crate) fn code(&self, at: Address) -> Bytes {
        let info = &self.db.cache.accounts[&at].info;
        let code = info
            .code
            .clone()
            .or_else(|| self.db.cache.contracts.get(&info.code_hash).cloned());
        code.map(|code| code.original_bytes()).unwrap_or_default()
    }

    // --- words of the tests ---

    #[track_caller]
    pub(crate) fn balance(&mut self, token: Address, owner: Address) -> U256 {
        self.view(token, &IErc20::balanceOfCall { owner })
    }

    #[track_caller]
    pub(crate) fn approve(
        &mut self,
        token: Address,
        owner: Address,
        spender: Address,
        value: U256,
    ) {
        self.send(owner, token, &IErc20::approveCall { spender, value })
            .expect_ok();
    }

    #[track_caller]
    pub(crate) fn charged(&mut self, token: Address, owner: Address) -> U256 {
        self.view(self.settler, &Settler::chargedCall { token, owner })
    }

    pub(crate) fn settle(&mut self, batch: Batch) -> Outcome {
        self.send(OPERATOR, self.settler, &batch.call())
    }
}

/// The arguments of `settle`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) allowances: Vec<AllowanceItem>,
    pub(crate) onces: Vec<OnceItem>,
    pub(crate) exacts: Vec<Eip3009Item>,
    pub(crate) permit2_exacts: Vec<Permit2ExactItem>,
}

impl Batch {
    pub(crate) fn call(self) -> Settler::settleCall {
        Settler::settleCall {
            allowances: self.allowances,
            onces: self.onces,
            exacts: self.exacts,
            permit2Exacts: self.permit2_exacts,
        }
    }

    pub(crate) fn allowances(items: impl IntoIterator<Item = AllowanceItem>) -> Self {
        Self {
            allowances: items.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(crate) fn onces(items: impl IntoIterator<Item = OnceItem>) -> Self {
        Self {
            onces: items.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(crate) fn exacts(items: impl IntoIterator<Item = Eip3009Item>) -> Self {
        Self {
            exacts: items.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(crate) fn permit2_exacts(items: impl IntoIterator<Item = Permit2ExactItem>) -> Self {
        Self {
            permit2_exacts: items.into_iter().collect(),
            ..Self::default()
        }
    }
}

/// An allowance item without a permit.
pub(crate) fn interval(token: Address, owner: Address, from: U256, to: U256) -> AllowanceItem {
    let permit = Settler::Permit {
        value: U256::ZERO,
        deadline: U256::ZERO,
        v: 0,
        r: B256::ZERO,
        s: B256::ZERO,
    };
    AllowanceItem {
        token,
        owner,
        from,
        to,
        permit,
    }
}

//! The genesis for development: our contracts at the addresses that clients
//! know, and accounts with money.

use alloy_primitives::{Address, B256, U256, address, hex};
use tollgate_contracts::{
    addresses::{CREATE2_DEPLOYER, EXACT_PROXY, PERMIT2, UPTO_PROXY},
    bytecode, settler, slots,
    tokens::{USD1, USDT},
};

use crate::{
    accounts::dev_accounts,
    genesis::{Genesis, GenesisAccount},
};

/// One token or one BNB: 10^18 atomic units.
const ONE: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);

/// Where the `Settler` stands if nothing else is said: an address that nobody
/// has the key of.
pub const DEV_SETTLER: Address = address!("5e771e0000000000000000000000000000008402");

/// The runtime code at [`CREATE2_DEPLOYER`], of our own making, with the same
/// behaviour: the input is `salt ‖ init code`, the output the 20 bytes of the
/// address, and a creation that fails reverts.
///
/// ```text
/// n := calldatasize() - 32; calldatacopy(0, 32, n)
/// a := create2(callvalue(), 0, n, calldataload(0)); if a == 0 { revert(0, 0) }
/// mstore(0, a); return(12, 20)
/// ```
const CREATE2_CODE: [u8; 30] = hex!("602036038060205f375f35905f34f5806016575f5ffd5b5f526014600cf3");

/// Who is who in [`Genesis::development`]. The defaults name well-known
/// accounts and fit chain ids of development only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Development {
    /// The accounts that get [`Development::bnb`] and [`Development::tokens`].
    pub accounts: Vec<Address>,
    /// Wei for each account.
    pub bnb: U256,
    /// Atomic units of each token for each account.
    pub tokens: U256,
    /// Where the `Settler` stands.
    pub settler: Address,
    /// The `Settler`'s ledger.
    pub ledger_id: B256,
    /// Where the `Settler` sends money, for good.
    pub treasury: Address,
    /// Who appoints the `Settler`'s operators.
    pub admin: Address,
    /// Who may settle.
    pub operators: Vec<Address>,
    /// Who mints, pauses and freezes the test tokens.
    pub token_admin: Address,
}

impl Default for Development {
    /// The ten development accounts with 10,000 BNB and 1,000,000 of each
    /// token. Numbers 0 to 6 are free to pay; number 7 operates the `Settler`,
    /// number 8 administers it and the tokens, and number 9 is the treasury.
    fn default() -> Self {
        let accounts = dev_accounts();
        Self {
            accounts: accounts.to_vec(),
            bnb: ONE * U256::from(10_000),
            tokens: ONE * U256::from(1_000_000),
            settler: DEV_SETTLER,
            ledger_id: B256::ZERO,
            treasury: accounts[9],
            admin: accounts[8],
            operators: vec![accounts[7]],
            token_admin: accounts[8],
        }
    }
}

impl Genesis {
    /// The project's contracts at the addresses where clients look for them,
    /// and accounts with money. Nothing is approved.
    ///
    /// | address | contract |
    /// |---|---|
    /// | `0x8d0D…8B0d` | a token shaped like USD1: 18 decimals, ERC-2612, EIP-3009 by (v, r, s), pause, freeze |
    /// | `0x55d3…7955` | a token shaped like Binance-Peg USDT: plain |
    /// | `0x0000…8BA3` | the part of Permit2 that x402 uses |
    /// | `0x4020…0001` | x402's exact proxy, ours of the same interface |
    /// | `0x4020…0002` | x402's upto proxy, ours of the same interface |
    /// | `0x4e59…956C` | a CREATE2 deployer |
    /// | [`Development::settler`] | the `Settler` |
    #[must_use]
    pub fn development(who: &Development) -> Self {
        let mut genesis = Self::empty()
            .code(PERMIT2, bytecode::SIGNATURE_TRANSFER.runtime_bytes())
            .code(EXACT_PROXY, bytecode::EXACT_PROXY.runtime_bytes())
            .code(UPTO_PROXY, bytecode::UPTO_PROXY.runtime_bytes())
            .code(CREATE2_DEPLOYER, CREATE2_CODE.to_vec())
            .account(USD1, usd1(who))
            .account(USDT, usdt(who))
            .deploy(
                who.settler,
                who.admin,
                settler::init_code(who.ledger_id, who.treasury, who.admin, &who.operators),
            )
            .owners([who.treasury, who.admin, who.token_admin])
            .owners(who.operators.iter().copied());
        for account in &who.accounts {
            genesis = genesis.fund(*account, who.bnb);
        }
        genesis
    }
}

fn usd1(who: &Development) -> GenesisAccount {
    use slots::usd1::{ADMIN_AND_PAUSED, BALANCES, TOTAL_SUPPLY};
    let code = bytecode::TEST_USD1.runtime_bytes();
    let mut token = token(who, code, BALANCES, TOTAL_SUPPLY);
    let admin = who.token_admin.into_word().into();
    token.storage.insert(U256::from(ADMIN_AND_PAUSED), admin);
    token
}

fn usdt(who: &Development) -> GenesisAccount {
    use slots::usdt::{BALANCES, OWNER, TOTAL_SUPPLY};
    let code = bytecode::TEST_USDT.runtime_bytes();
    let mut token = token(who, code, BALANCES, TOTAL_SUPPLY);
    let owner = who.token_admin.into_word().into();
    token.storage.insert(U256::from(OWNER), owner);
    token
}

fn token(
    who: &Development,
    code: alloy_primitives::Bytes,
    balances: u64,
    total_supply: u64,
) -> GenesisAccount {
    let mut account = GenesisAccount {
        nonce: 1,
        code,
        ..GenesisAccount::default()
    };
    let mut supply = U256::ZERO;
    for holder in &who.accounts {
        let slot = slots::mapped(balances, *holder);
        // Named twice, it still holds once.
        if account.storage.insert(slot, who.tokens).is_none() {
            supply += who.tokens;
        }
    }
    account.storage.insert(U256::from(total_supply), supply);
    account
}

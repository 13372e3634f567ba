//! What is checked after an attack: the ledger's books, the chain's balances, what was asked and written.

use tollgate_contracts::tokens::USD1;
use tollgate_ledger::{Status, Store, Sum, TokenTotals};
use tollgate_payment::{OwnerKey, OwnerRow, Row, RowKey};
use tollgate_x402::{Address, Amount, U256};

use super::world::World;

impl World {
    /// The sums of the ledger, which agree with one another.
    pub(crate) async fn totals(&self) -> TokenTotals {
        let totals = self.store.totals().await.unwrap();
        let one = totals.0.get(&(self.chain.chain_id, USD1)).cloned();
        let one = one.unwrap_or_default();
        assert_eq!(one.discrepancies(), Vec::<String>::new());
        one
    }

    /// Payments of a status.
    pub(crate) async fn sum(&self, status: Status) -> Sum {
        self.totals().await.of(status)
    }

    /// The books agree, nothing is open, and the seller's accounts on the chain received exactly what the ledger calls
    /// final.
    pub(crate) async fn books_equal_the_chain(&self) {
        let totals = self.totals().await;
        assert_eq!((totals.held, totals.due), (Amount::ZERO, Amount::ZERO));
        assert_eq!(totals.exposure, Amount::ZERO);
        assert_eq!(totals.in_flight, 0);
        assert_eq!(self.received().await, totals.of(Status::Final).charge);
    }

    /// What the seller's accounts received since the beginning, in atomic units.
    pub(crate) async fn received(&self) -> Amount {
        self.holdings().await.checked_sub(self.began).unwrap()
    }

    pub(crate) async fn holdings(&self) -> Amount {
        let treasury = self.balance(self.treasury).await;
        let there = self.balance(self.pay_to).await;
        treasury.checked_add(there).unwrap()
    }

    /// The token's balance of an account, from the chain, past the seller's counted reader.
    pub(crate) async fn balance(&self, account: Address) -> Amount {
        self.token_number("balanceOf(address)", &[account]).await
    }

    pub(crate) async fn allowance_of(&self, owner: Address, spender: Address) -> Amount {
        self.token_number("allowance(address,address)", &[owner, spender])
            .await
    }

    async fn token_number(&self, signature: &str, arguments: &[Address]) -> Amount {
        let mut input = alloy_primitives::keccak256(signature)[..4].to_vec();
        for argument in arguments {
            input.extend_from_slice(argument.into_word().as_slice());
        }
        let input = alloy_primitives::Bytes::from(input);
        let call = serde_json::json!([{ "to": USD1, "input": input }, "latest"]);
        let answer = self.chain.rpc("eth_call", call).await;
        Amount::new(answer.as_str().unwrap().parse::<U256>().unwrap())
    }

    /// A payer's row, if the ledger has one.
    pub(crate) async fn owner(&self, owner: Address) -> Option<OwnerRow> {
        let key = OwnerKey {
            chain: self.chain.chain_id,
            token: USD1,
            owner,
        };
        let rows = self.store.read([RowKey::Owner(key)].into_iter().collect());
        rows.await.unwrap().iter().find_map(|row| match row {
            Row::Owner(row) => Some(row.clone()),
            _ => None,
        })
    }

    /// How often anything was committed to the ledger's file, as another connection of SQLite sees it: equal before and
    /// after, nothing was written between.
    pub(crate) fn writes(&self) -> Writes {
        Writes(rusqlite::Connection::open(&self.ledger).unwrap())
    }
}

/// A look at the ledger's file from outside.
pub(crate) struct Writes(rusqlite::Connection);

impl Writes {
    /// Changes with every commit of any other connection.
    pub(crate) fn version(&self) -> i64 {
        self.0
            .query_row("PRAGMA data_version", [], |row| row.get(0))
            .unwrap()
    }
}

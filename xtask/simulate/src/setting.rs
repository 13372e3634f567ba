//! What a history is like, drawn by its seed.

use core::fmt;

use tollgate_payment::Credit;
use tollgate_x402::Amount;

use crate::{
    mutants::{Bug, Mutant},
    rng::Rng,
};

/// What payers mostly sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Kind {
    /// `upto` by ERC-2612 permits.
    Allowance,
    /// `upto` by Permit2 with a witness.
    Once,
    /// `exact`, by EIP-3009 and by Permit2.
    Exact,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Allowance, Self::Once, Self::Exact];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowance => "allowance",
            Self::Once => "once",
            Self::Exact => "exact",
        })
    }
}

/// Who keeps the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keeping {
    /// One process owns it, and several steps reach the disk together (SQLite).
    Owned,
    /// A server keeps it for all replicas (PostgreSQL).
    Shared,
}

/// What a history is like.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) keeping: Keeping,
    pub(crate) replicas: usize,
    /// Whether a `Settler` contract is called, or a plain account pays itself.
    pub(crate) settler: bool,
    /// Whether every replica has an account of its own.
    pub(crate) accounts: bool,
    pub(crate) nodes: usize,
    pub(crate) agreement: usize,
    /// Of several nodes, of which two must agree, one that lies.
    pub(crate) liar: Option<usize>,
    /// Blocks until one is final.
    pub(crate) lag: usize,
    /// Requests.
    pub(crate) requests: u64,
    /// Milliseconds between requests, about.
    pub(crate) pace: u64,
    /// Of a thousand requests to nodes so many are lost.
    pub(crate) lost: u64,
    /// Of a thousand commits of a shared ledger so many are not heard of.
    pub(crate) unheard: u64,
    /// Of a thousand blocks so many turn the chain.
    pub(crate) reorgs: u64,
    /// Of a thousand transactions so many get into the next block.
    pub(crate) luck: u64,
    /// Of a thousand looks at the weather so many bring a fault.
    pub(crate) storms: u64,
    /// Of a thousand requests by permits so many are signed anew.
    pub(crate) resigned: u64,
    /// Of twelve kinds of faults so many are a token that is paused or an operator who is dismissed instead.
    pub(crate) stops: u64,
    /// Of a thousand looks at the weather so many kill a replica.
    pub(crate) crashes: u64,
    /// Of a thousand promises that strangers see in the pool they submit so many.
    pub(crate) strangers: u64,
    /// Of a thousand payers so many submit their first permit themselves.
    pub(crate) eager: u64,
    /// What a permit is worth, or adds to the one that it replaces.
    pub(crate) worth: (u64, u64),
    /// Payers with bad intentions, of a thousand.
    pub(crate) hostile: u64,
    /// How many payers, at least and at most.
    pub(crate) payers: (u64, u64),
    /// What the worker sees of the account's money closes the till.
    pub(crate) health: bool,
    /// Honest payers have little money.
    pub(crate) poor: bool,
    /// Seconds that an authorization must be good for when it is shown.
    pub(crate) margin: u64,
    /// Seconds until what is due of an allowance is settled.
    pub(crate) max_age: u64,
    /// What may be delivered beyond the last checkpoint.
    pub(crate) step: u64,
    pub(crate) credit: Credit,
}

impl Setting {
    pub(crate) fn draw(seed: u64, kind: Kind, bug: Bug) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(3).wrapping_add(kind as u64));
        let keeping = if rng.permille(400) {
            Keeping::Owned
        } else {
            Keeping::Shared
        };
        let settler = rng.permille(750);
        let nodes = *rng.pick(&[1, 1, 2, 3]).unwrap_or(&1);
        let gentle = rng.permille(150);
        // Together payers may owe less than each of them might alone.
        let tight = rng.permille(300);
        let mut setting = Self {
            seed,
            kind,
            mutant: match bug {
                Bug::On(mutant) => Some(mutant),
                Bug::None | Bug::Tempted(_) => None,
            },
            keeping,
            replicas: match keeping {
                Keeping::Owned => 1,
                Keeping::Shared => *rng.pick(&[2, 2, 3]).unwrap_or(&2),
            },
            settler,
            accounts: settler && rng.permille(300),
            nodes,
            agreement: if nodes == 3 { 2 } else { 1 },
            liar: (nodes == 3 && rng.permille(400)).then(|| rng.place(nodes)),
            lag: usize::try_from(rng.range(2, 5)).unwrap_or(2),
            requests: rng.range(50, 80),
            pace: rng.range(40, 260),
            lost: if gentle { 0 } else { rng.range(0, 60) },
            reorgs: if gentle { 0 } else { rng.range(0, 60) },
            unheard: if gentle { 0 } else { rng.range(0, 12) },
            luck: rng.range(500, 1000),
            resigned: 70,
            stops: 0,
            storms: if gentle { 0 } else { rng.range(0, 350) },
            crashes: if gentle { 0 } else { rng.range(0, 300) },
            strangers: 60,
            eager: 200,
            worth: (150, 900),
            hostile: rng.range(0, 600),
            payers: if tight { (6, 12) } else { (3, 6) },
            health: rng.permille(500),
            poor: rng.permille(400),
            margin: if rng.permille(500) {
                60
            } else {
                rng.range(3, 8)
            },
            max_age: rng.range(0, 4),
            step: rng.range(4, 20),
            credit: Credit {
                floor: Amount::from(400u64),
                factor: 1,
                ceiling: Amount::from(1_500u64),
                in_flight: 4,
                in_flight_proven: 8,
                proven: Amount::from(300u64),
                exposure: Amount::from(if tight {
                    rng.range(450, 1_000)
                } else {
                    rng.range(1_200, 3_600)
                }),
                view_age: 3,
            },
        };
        match bug {
            Bug::Tempted(mutant) | Bug::On(mutant) => mutant.bias(&mut setting, &mut rng),
            Bug::None if seed.is_multiple_of(50) => setting.long(&mut rng),
            Bug::None => {}
        }
        setting
    }

    /// A long history of bad luck: settlements fail, blocks are replaced, permits are signed anew, and strangers submit what
    /// they see.
    pub(crate) fn long(&mut self, rng: &mut Rng) {
        self.requests = 300;
        self.pace = rng.range(150, 750);
        self.storms = rng.range(150, 600);
        self.stops = rng.below(13);
        self.reorgs = rng.range(200, 800);
        self.luck = rng.range(250, 900);
        self.strangers = rng.range(60, 1_000);
        self.resigned = rng.range(70, 300);
    }
}

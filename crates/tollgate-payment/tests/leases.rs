//! An account's lease: terms rise, nobody signs with an old one, and a halt stays until a person has looked.

use tollgate_payment::{
    BatchId, BatchRow, BatchState, Command, Instruction, Refusal, Row, RowKey, Rows, SignerKey,
    command::{Conclude, Fate, Lead, Leadership, Resume, Seal, Stop},
};
use tollgate_x402::{Address, B256, Bytes, ChainId, Timestamp};

const SIGNER: SignerKey = SignerKey {
    chain: ChainId::DEV,
    operator: Address::repeat_byte(0x0a),
};
const FIRST: u128 = 1;
const SECOND: u128 = 2;
const SECONDS: u64 = 6;

struct Books {
    rows: Rows,
    now: Timestamp,
}

impl Books {
    fn new() -> Self {
        let mut rows = Rows::default();
        for id in [1, 2] {
            rows.put(Row::Batch(BatchRow {
                id: BatchId(id),
                signer: SIGNER,
                settler: None,
                items: Vec::new(),
                state: BatchState::Claimed,
                sent: Vec::new(),
                created: Timestamp(0),
                updated: Timestamp(0),
            }));
        }
        Self {
            rows,
            now: Timestamp(1_000),
        }
    }

    fn apply<C: Command>(&mut self, command: &C) -> Result<C::Outcome, Refusal> {
        let names = command.rows();
        let rows = self
            .rows
            .iter()
            .filter(|row| names.iter().any(|name| *name == row.key()))
            .cloned()
            .collect();
        let decision = command.decide(&rows, self.now)?;
        decision
            .writes
            .into_iter()
            .for_each(|row| self.rows.put(row));
        Ok(decision.outcome)
    }

    fn lead(&mut self, holder: u128, seconds: u64) -> Leadership {
        self.apply(&Lead {
            signer: SIGNER,
            holder,
            seconds,
            sole: false,
            chain_nonce: Some(7),
        })
        .unwrap()
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(seconds);
    }

    fn seal(
        &mut self,
        batch: u128,
        term: u64,
        nonce: u64,
        price: u128,
    ) -> Result<BatchRow, Refusal> {
        self.apply(&Seal {
            batch: BatchId(batch),
            signer: SIGNER,
            term,
            instruction: Instruction {
                nonce,
                hash: B256::from(alloy(batch, price)),
                raw: Bytes::new(),
                gas_price: price,
                stored: self.now,
                sent: None,
                void: false,
            },
        })
    }
}

fn alloy(batch: u128, price: u128) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&batch.to_be_bytes());
    bytes[16..].copy_from_slice(&price.to_be_bytes());
    bytes
}

#[test]
fn a_lease_is_one_workers_until_it_ends_and_its_term_is_never_given_again() {
    let mut books = Books::new();
    let first = books.lead(FIRST, SECONDS);
    assert_eq!((first.term_of(FIRST), first.next_nonce), (Some(1), 7));
    books.pass(SECONDS - 1);
    assert_eq!(books.lead(SECOND, SECONDS).term_of(SECOND), None);
    // Renewed: the same term, and another wait for who waits.
    assert_eq!(books.lead(FIRST, SECONDS).term_of(FIRST), Some(1));
    books.pass(SECONDS - 1);
    let other = books.lead(SECOND, SECONDS);
    assert_eq!(other.lease.unwrap().holder, FIRST, "who has it is told");
    books.pass(1);
    assert_eq!(books.lead(SECOND, SECONDS).term_of(SECOND), Some(2));
    assert_eq!(books.lead(FIRST, SECONDS).term_of(FIRST), None);
    // Given up before its end.
    assert!(books.lead(SECOND, 0).vacant);
    assert_eq!(books.lead(FIRST, SECONDS).term_of(FIRST), Some(3));
}

#[test]
fn looking_at_a_lease_takes_nothing_from_anybody() {
    let mut books = Books::new();
    let look = Lead {
        signer: SIGNER,
        holder: SECOND,
        seconds: 0,
        sole: false,
        chain_nonce: None,
    };
    assert_eq!(books.apply(&look), Err(Refusal::Missing("signer")));
    books.lead(FIRST, SECONDS);
    let before = books.rows.clone();
    assert!(!books.apply(&look).unwrap().vacant);
    books.pass(SECONDS);
    assert!(books.apply(&look).unwrap().vacant);
    assert_eq!(books.rows, before);
}

#[test]
fn a_worker_alone_on_its_ledger_takes_over_from_the_one_that_died() {
    let mut books = Books::new();
    books.lead(FIRST, SECONDS);
    let taken = books.apply(&Lead {
        signer: SIGNER,
        holder: SECOND,
        seconds: SECONDS,
        sole: true,
        chain_nonce: None,
    });
    assert_eq!(taken.unwrap().term_of(SECOND), Some(2));
}

#[test]
fn what_a_paused_worker_signs_in_an_old_term_is_refused() {
    let mut books = Books::new();
    books.lead(FIRST, SECONDS);
    books.seal(1, 1, 7, 100).unwrap();
    books.pass(SECONDS);
    books.lead(SECOND, SECONDS);
    // A new nonce, and a replacement of a nonce that was its own.
    assert_eq!(books.seal(2, 1, 8, 100), Err(Refusal::Deposed));
    assert_eq!(books.seal(1, 1, 7, 200), Err(Refusal::Deposed));
    books.seal(2, 2, 8, 100).unwrap();
    books.seal(1, 2, 7, 200).unwrap();
    // Its lease has ended and nobody took it: the term still is the newest.
    books.pass(10 * SECONDS);
    books.seal(1, 2, 7, 300).unwrap();
}

#[test]
fn a_fate_that_was_asked_for_before_a_replacement_was_signed_concludes_nothing_and_stops_nobody() {
    let mut books = Books::new();
    books.lead(FIRST, SECONDS);
    let conclude = |batch: BatchRow| Conclude {
        fate: Fate {
            transaction: None,
            block: 5,
            items: Vec::new(),
        },
        batch,
        attempts: 4,
    };
    let claimed = books.rows.batch(&BatchId(1)).unwrap().clone();
    let sealed = books.seal(1, 1, 7, 100).unwrap();
    assert_eq!(books.apply(&conclude(claimed)), Err(Refusal::Overtaken));
    let replaced = books.seal(1, 1, 7, 200).unwrap();
    assert_eq!(books.apply(&conclude(sealed)), Err(Refusal::Overtaken));
    let halted = |books: &Books| books.rows.signer(&SIGNER).unwrap().halt.clone();
    assert_eq!(halted(&books), None);
    let concluded = books.apply(&conclude(replaced)).unwrap();
    assert!(concluded.halt.as_ref().unwrap().reason.contains("nonce 7"));
    assert_eq!(halted(&books), concluded.halt, "and nothing new is signed");
}

#[test]
fn a_halt_stays_through_every_term_and_stops_new_nonces_alone() {
    let mut books = Books::new();
    books.lead(FIRST, SECONDS);
    books.seal(1, 1, 7, 100).unwrap();
    let halt = Stop {
        signer: SIGNER,
        reason: "a stranger".to_owned(),
    };
    let stopped = books.apply(&halt).unwrap();
    books.pass(SECONDS);
    let again = Stop {
        reason: "another".to_owned(),
        ..halt
    };
    assert_eq!(
        books.apply(&again).unwrap(),
        stopped,
        "the first reason stays"
    );
    let led = books.lead(SECOND, SECONDS);
    assert_eq!(led.halt, Some(stopped));
    assert_eq!(books.seal(2, 2, 8, 100), Err(Refusal::Halted));
    books.seal(1, 2, 7, 200).unwrap();
    // A person has looked: the chain is two ahead.
    let resume = Resume {
        signer: SIGNER,
        chain_nonce: 10,
    };
    assert_eq!(books.apply(&resume), Ok(10));
    assert_eq!(books.lead(SECOND, SECONDS).halt, None);
    books.seal(2, 2, 10, 100).unwrap();
    let behind = Resume {
        chain_nonce: 3,
        ..resume
    };
    assert_eq!(books.apply(&behind), Ok(11), "nonces never go back");
    let names = [RowKey::Signer(SIGNER)];
    assert!(
        names
            .iter()
            .all(|name| behind.rows().iter().any(|row| row == name))
    );
}

#[test]
fn a_lease_of_a_clock_that_was_ahead_keeps_nobody_from_leading() {
    let mut books = Books::new();
    let right = books.now;
    books.pass(3_600);
    let first = books.lead(FIRST, SECONDS).term_of(FIRST).unwrap();
    // The clock is set right, and the first is dead.
    books.now = right;
    assert!(books.lead(SECOND, 0).vacant);
    let second = books.lead(SECOND, SECONDS).term_of(SECOND).unwrap();
    assert!(second > first);
    // Should it live all the same, it signs nothing.
    assert!(books.seal(1, first, 7, 1).is_err());
    books.seal(1, second, 7, 1).unwrap();
    // A lease as long as any keeps others out.
    books.lead(SECOND, 60);
    assert_eq!(books.lead(FIRST, SECONDS).term_of(FIRST), None);
}

//! Points at which more happens than the end of a process.

use std::{process::Command, time::Duration};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tollgate_engine::{ReconcileConfig, reconcile};
use tollgate_payment::{BatchState, PaymentState};
use tollgate_x402::Address;

use crate::{
    books::{Tally, Told},
    history::{History, due},
    journal::{Event, Journal},
    place::{Place, with_store},
    process::{End, Look, Mining, Seller},
    seller::account,
    site::Site,
};

/// Development account 7, which settles.
pub(crate) const OPERATOR: &str = "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955";
/// Looks of a worker that must send nothing.
const LOOKS: u32 = 20;
/// Blocks within which what was committed before a crash must be on the chain.
const BLOCKS: u64 = 3;
/// Where the lease of a paused worker has ended: it is for 2 seconds.
const PAUSE: Duration = Duration::from_millis(3_200);

/// Killed between commit and settlement: from the moment at which the next life is ready, one block is made for each
/// look of its worker, and counted.
pub(crate) fn counted(history: &mut History<'_>, dies: (Site, u32)) -> anyhow::Result<u64> {
    history.life.settles = false;
    history.die(dies)?;
    history.life.settles = true;
    let due = due(&history.books()?)?;
    let anvil = history.anvil();
    anvil.automine(false)?;
    // Nobody asks for anything.
    let asked = std::mem::take(&mut history.life.requests);
    history.looks = true;
    let mining = history.mining();
    let mut seller = history.start(None)?;
    history.looks = false;
    history.life.requests = asked;
    let mut began = None;
    while let Some(line) = seller.line(mining)? {
        // No look was before it.
        if line == "ready" {
            began = Some(anvil.head()?);
        }
    }
    ensure!(
        seller.end(mining)? == End::Done,
        "it was killed by somebody"
    );
    anvil.automine(true)?;
    let began = began.context("it never was ready")?;
    let mut most = 0;
    for payment in history.books()?.payments() {
        if !due.contains(&payment.memo) {
            continue;
        }
        let PaymentState::Final { block, .. } = payment.state else {
            bail!("payment {} was due and is not final", payment.memo);
        };
        most = most.max(block.saturating_sub(began));
    }
    ensure!(
        most <= BLOCKS,
        "what was due at a start was on the chain {most} blocks later"
    );
    Ok(most)
}

/// A life in which no block comes, so that transactions are replaced. Then blocks come again: the transaction that was to
/// be replaced is in the next one, or gone.
pub(crate) fn replaced(history: &mut History<'_>, dies: (Site, u32)) -> anyhow::Result<()> {
    let anvil = history.anvil();
    anvil.automine(false)?;
    let usual = std::mem::replace(&mut history.life.replace_after, 1);
    let end = history.start(Some(dies))?.end(Mining::Never)?;
    history.life.replace_after = usual;
    ensure!(
        end == End::Crashed(dies.0),
        "the seller never came to {dies:?}"
    );
    if history.life.seed.is_multiple_of(2) {
        anvil.mine(1)?;
    } else {
        for batch in history.books()?.batches() {
            for sent in &batch.sent {
                anvil.drop_transaction(sent.hash)?;
            }
        }
    }
    anvil.automine(true)
}

/// Takes the newest blocks that have a settlement out of the chain.
pub(crate) fn reorganize(history: &History<'_>) -> anyhow::Result<()> {
    let anvil = history.anvil();
    let books = history.books()?;
    let seen = books
        .batches()
        .iter()
        .filter_map(|batch| match batch.state {
            BatchState::Included { transaction, .. } => Some(transaction),
            _ => None,
        });
    let mut oldest = None;
    for transaction in seen {
        if let Some(block) = anvil.block_of(transaction)? {
            oldest = Some(oldest.unwrap_or(block).min(block));
        }
    }
    let block = oldest.context("no batch was seen in a block")?;
    anvil.reorg(anvil.head()? - block + 1)
}

/// Paused for longer than its lease, while another settler takes over; then it wakes up. A file is one process's: there
/// another is refused, and the paused one goes on.
pub(crate) fn deposed(history: &mut History<'_>, dies: (Site, u32)) -> anyhow::Result<Tally> {
    if let Place::Postgres { own_clock, .. } = &mut history.life.place {
        // Both see one clock, the server's.
        *own_clock = true;
    }
    let mining = history.mining();
    history.life.sleeps = true;
    history.life.requests = (0, 28);
    let mut paused = history.start(Some(dies))?;
    while !asleep(history)? {
        ensure!(
            paused.look(mining)? != Look::Ended,
            "the seller never came to {dies:?}"
        );
    }
    history.life.sleeps = false;
    history.life.requests = (28, u32::MAX);
    if history.life.place.is_shared() {
        let mut other = history.start(None)?;
        let began = std::time::Instant::now();
        // On a slow machine it begins late: it is to have looked when the lease had ended, unless it is done already.
        let mut looks = 0;
        while began.elapsed() < PAUSE || looks < 3 {
            match other.look(mining)? {
                Look::Line(line) if line == "tick" && began.elapsed() >= PAUSE => looks += 1,
                Look::Ended => break,
                _ => {}
            }
        }
        std::thread::sleep(PAUSE.saturating_sub(began.elapsed()));
        wake(&paused)?;
        let done = paused.end(mining)?;
        ensure!(done == End::Done, "the paused seller did not end well");
        let done = other.end(mining)?;
        ensure!(done == End::Done, "the other seller did not end well");
    } else {
        let refused = history.start(None)?.end(Mining::Never);
        ensure!(refused.is_err(), "two processes have one file");
        std::thread::sleep(PAUSE);
        wake(&paused)?;
        let done = paused.end(mining)?;
        ensure!(done == End::Done, "the paused seller did not end well");
    }
    history.finish()?;
    history.check(Told::Exactly)
}

fn asleep(history: &History<'_>) -> anyhow::Result<bool> {
    let journal = Journal::read(&history.life.journal)?;
    Ok(journal
        .iter()
        .any(|event| matches!(event, Event::Asleep { .. })))
}

fn wake(seller: &Seller) -> anyhow::Result<()> {
    Ok(kill_process(pid(seller)?, Signal::CONT)?)
}

fn pid(seller: &Seller) -> anyhow::Result<Pid> {
    Pid::from_raw(i32::try_from(seller.id())?).context("a process without a number")
}

/// A copy of the ledger from an earlier moment is put back: nothing is sent before it is reconciled.
pub(crate) fn restored(history: &mut History<'_>, dies: (Site, u32)) -> anyhow::Result<Tally> {
    let runtime = &history.world.runtime;
    let operator: Address = OPERATOR.parse()?;
    history.life.requests = (0, 44);
    history.die(dies)?;
    runtime.block_on(history.life.place.back_up())?;
    let signed = history.anvil().nonce(operator)?;
    history.finish()?;
    ensure!(
        history.anvil().nonce(operator)? > signed,
        "nothing was sent after the backup was made"
    );
    runtime.block_on(history.life.place.restore())?;
    refuses(history)?;
    reconciled(history)?;
    history.life.requests = (0, u32::MAX);
    history.finish()?;
    history.check(Told::BeforeTheBackup)
}

/// Somebody else uses the key: their transaction takes the nonce of one that was signed and not sent.
pub(crate) fn stranger(history: &mut History<'_>, dies: (Site, u32)) -> anyhow::Result<Tally> {
    let operator: Address = OPERATOR.parse()?;
    history.die(dies)?;
    let anvil = history.anvil();
    let hash = anvil.send(operator, operator, "", &[])?;
    // For so long a node could merely have been behind.
    anvil.mine(24)?;
    ensure!(
        anvil.block_of(hash)?.is_some(),
        "the stranger's transaction is in no block"
    );
    // It is stopped, and stopped after another start.
    refuses(history)?;
    refuses(history)?;
    reconciled(history)?;
    history.finish()?;
    history.check(Told::Exactly)
}

/// Lives a life whose worker says that it may not send, and sends nothing.
fn refuses(history: &mut History<'_>) -> anyhow::Result<()> {
    let anvil = history.anvil();
    let operator: Address = OPERATOR.parse()?;
    let signed = anvil.nonce(operator)?;
    let known = Journal::read(&history.life.journal)?.len();
    let asked = std::mem::take(&mut history.life.requests);
    let mining = history.mining();
    let mut seller = history.start(None)?;
    history.life.requests = asked;
    let (mut stopped, mut looks) = (false, 0);
    while looks < LOOKS {
        let line = seller.line(mining)?;
        ensure!(line.is_some(), "the seller ended, and should be stopped");
        // In a ledger where nothing is due there is nothing to refuse.
        if line.as_deref() == Some("done") {
            break;
        }
        if line.as_deref() != Some("tick") {
            continue;
        }
        let journal = Journal::read(&history.life.journal)?;
        stopped |= journal.iter().skip(known).any(
            |event| matches!(event, Event::Waits { error } if error.contains("the account is stopped")),
        );
        looks += u32::from(stopped);
    }
    seller.kill()?;
    ensure!(
        anvil.nonce(operator)? == signed,
        "a stopped account has sent a transaction"
    );
    Ok(())
}

/// What `ledger reconcile` does.
fn reconciled(history: &mut History<'_>) -> anyhow::Result<()> {
    history.anvil().mine(4)?;
    history.life.ahead += 20;
    let history = &*history;
    let found = history.world.runtime.block_on(async {
        let chain = history.chain().await?;
        let config = ReconcileConfig {
            signer: account(OPERATOR.parse()?),
            from_block: history.before.block,
            holder: 0x7011_6a7e,
            sole: !history.life.place.is_shared(),
        };
        with_store!(
            &history.life.place,
            history.life.ledger_id,
            history.clock(),
            |store| {
                let found = reconcile(&store, &chain, &history.markets(), &config).await?;
                anyhow::Ok(found)
            }
        )
    })?;
    std::fs::write(
        history.directory.join("reconciled"),
        format!("{found:#?}\n"),
    )?;
    Ok(())
}

/// Makes the ledger, and tells what it takes on the disk before anything is in it, in bytes.
fn empty(history: &History<'_>) -> anyhow::Result<u64> {
    let Place::Sqlite(file) = &history.life.place else {
        bail!("a server's disk is the server's");
    };
    drop(history.books()?);
    let size = |end| {
        let beside = file.with_extension(end);
        std::fs::metadata(beside).map_or(0, |file| file.len())
    };
    Ok(["db", "db-wal"].map(size).iter().sum())
}

/// The file system takes no byte more; then there is space again, and the same process goes on.
pub(crate) fn full(history: &mut History<'_>) -> anyhow::Result<Tally> {
    let mining = history.mining();
    // Room for some payments, and not for all.
    let blocks = empty(history)?.div_ceil(512) + 160 + 4 * (history.life.seed % 8);
    let mut limited = Command::new("sh");
    limited
        .arg("-c")
        // In blocks of 512 bytes. The signal that the limit sends would end the process.
        .arg(format!(
            "trap '' XFSZ; ulimit -S -f {blocks}; exec \"$0\""
        ))
        .arg(std::env::current_exe()?);
    let mut seller = history.start_by(limited, None)?;
    let refused = |history: &History<'_>| -> anyhow::Result<usize> {
        let journal = Journal::read(&history.life.journal)?;
        Ok(journal
            .iter()
            .filter(|event| matches!(event, Event::Refused { status: 503, .. }))
            .count())
    };
    while refused(history)? < 8 {
        ensure!(
            seller.line(mining)?.is_some(),
            "the seller ended, and its disk was to be full"
        );
    }
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    prlimit(Some(pid(&seller)?), Resource::Fsize, unlimited)?;
    let done = seller.end(mining)?;
    ensure!(done == End::Done, "the seller did not go on");
    // What was cut off is asked for again.
    history.finish()?;
    history.check(Told::Exactly)
}

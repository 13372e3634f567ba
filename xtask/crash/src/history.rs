//! One history: a seller that dies at a point, is started again, perhaps dies again, and comes to its end.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail, ensure};
use tollgate_ledger::{SqliteStore, Store};
use tollgate_payment::BatchState;
use tollgate_x402::Timestamp;

use crate::{
    anvil::{Anvil, TREASURY},
    books::{self, Before, Books, Tally},
    dice::Dice,
    journal::Journal,
    process::{End, Seller},
    seller::{Life, Place, SystemClock},
    site::{POINTS, Point, Site},
    work,
};

/// The time between two blocks, usually.
const QUICK: Duration = Duration::from_millis(30);
/// The same where a worker is to see a settlement before it is final.
const SLOW: Duration = Duration::from_millis(120);

/// Lives after which a history must have come to its end.
const MOST_LIVES: u32 = 8;

/// What all histories of a run share.
pub(crate) struct World {
    pub(crate) anvil: Anvil,
    pub(crate) runtime: tokio::runtime::Runtime,
    /// Where logs, journals and files of ledgers are.
    pub(crate) directory: PathBuf,
}

/// One history while it goes on.
pub(crate) struct History<'a> {
    pub(crate) world: &'a World,
    pub(crate) directory: PathBuf,
    pub(crate) life: Life,
    pub(crate) before: Before,
    pub(crate) dice: Dice,
    /// The time between two blocks.
    pub(crate) block: Duration,
}

impl<'a> History<'a> {
    /// The chain at its beginning, the payers funded, and an empty ledger.
    pub(crate) fn begin(world: &'a World, point: u8, seed: u64) -> anyhow::Result<Self> {
        let directory = world.directory.join(format!("{point}-{seed}"));
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        std::fs::create_dir_all(&directory)?;
        let anvil = &world.anvil;
        anvil.begin()?;
        let payers = work::addresses(seed)?;
        anvil.fund(&payers, work::PURSE)?;
        anvil.mine(3)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let life = Life {
            life: 0,
            seed,
            rpc: anvil.url.clone(),
            settler: anvil.settler,
            treasury: TREASURY.parse()?,
            ledger_id: anvil.ledger_id,
            place: Place::Sqlite(directory.join("ledger.db")),
            journal: directory.join("journal"),
            deadline: Timestamp(now.as_secs() + 86_000),
            dies: None,
            requests: u32::MAX,
            replace_after: 3,
        };
        Ok(Self {
            world,
            directory,
            life,
            before: books::before(anvil, &payers)?,
            dice: Dice::new(seed.wrapping_mul(1_000_003) ^ u64::from(point)),
            block: QUICK,
        })
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Starts the next life.
    pub(crate) fn start(&mut self, dies: Option<(Site, u32)>) -> anyhow::Result<Seller> {
        self.life.dies = dies;
        let seller = Seller::start(&self.life, &self.log())?;
        self.life.life += 1;
        Ok(seller)
    }

    /// Lives one life to its end, with blocks passing.
    pub(crate) fn live(&mut self, dies: Option<(Site, u32)>) -> anyhow::Result<End> {
        let mining = Some((&self.world.anvil, self.block));
        self.start(dies)?.end(mining)
    }

    /// Opens the ledger of a seller that does not run.
    pub(crate) fn ledger(&self) -> anyhow::Result<impl Store + use<>> {
        match &self.life.place {
            Place::Sqlite(file) => Ok(SqliteStore::open(
                file,
                self.life.ledger_id,
                Arc::new(SystemClock),
            )?),
        }
    }

    /// Reads the ledger of a seller that does not run.
    pub(crate) fn books(&self) -> anyhow::Result<Books> {
        let store = self.ledger()?;
        self.world.runtime.block_on(Books::read(&store))
    }

    /// Lives until everything is settled; a life that is to die need not.
    pub(crate) fn finish(&mut self) -> anyhow::Result<()> {
        for _ in 0..MOST_LIVES {
            if self.live(None)? == End::Done {
                return Ok(());
            }
        }
        bail!("nothing came to an end")
    }

    /// Holds everything against everything.
    pub(crate) fn check(&self) -> anyhow::Result<Tally> {
        let journal = Journal::read(&self.life.journal)?;
        let books = self.books()?;
        books::check(
            &books,
            &self.world.anvil,
            &self.before,
            self.life.seed,
            &journal,
        )
    }
}

/// One history of a point.
pub(crate) fn run(world: &World, point: &Point, seed: u64) -> anyhow::Result<Tally> {
    let mut history = History::begin(world, point.number, seed)?;
    let tally = lives(&mut history, point);
    tally.with_context(|| {
        format!(
            "point {}, seed {seed}; what it did is in {}; to repeat it: cargo xtask crash --point {} --seed {seed}",
            point.title(),
            history.directory.display(),
            point.number,
        )
    })
}

fn lives(history: &mut History<'_>, point: &Point) -> anyhow::Result<Tally> {
    let anvil = &history.world.anvil;
    let seed = history.life.seed;
    let sites = point.sites.len() as u64;
    let site = point
        .sites
        .get(usize::try_from(seed % sites)?)
        .copied()
        .context("a point without a site")?;
    let dies = (site, history.dice.up_to(point.most));
    anvil.automine(point.number != 9)?;
    if [10, 11].contains(&point.number) {
        history.block = SLOW;
    }
    let end = match point.number {
        9 => held(history, dies)?,
        _ => history.live(Some(dies))?,
    };
    ensure!(
        end == End::Crashed(site),
        "the seller never came to {dies:?}"
    );
    history.block = QUICK;
    match point.number {
        9 => release(history)?,
        11 => reorganize(history)?,
        _ => {}
    }
    // Some die again where they are started, or later.
    for _ in 0..history.dice.below(3) {
        let others: Vec<&Point> = POINTS
            .iter()
            .filter(|point| ![9, 11].contains(&point.number))
            .collect();
        let other = *history.dice.pick(&others);
        let dies = (
            *history.dice.pick(other.sites),
            history.dice.up_to(other.most.min(6)),
        );
        if history.live(Some(dies))? == End::Done {
            break;
        }
    }
    history.finish()?;
    history.check()
}

/// A life in which no block comes, so that transactions are replaced.
fn held(history: &mut History<'_>, dies: (Site, u32)) -> anyhow::Result<End> {
    let usual = std::mem::replace(&mut history.life.replace_after, 1);
    let end = history.start(Some(dies))?.end(None);
    history.life.replace_after = usual;
    end
}

/// Blocks come again. The transaction that was to be replaced is in the next one, or gone.
fn release(history: &History<'_>) -> anyhow::Result<()> {
    let anvil = &history.world.anvil;
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

/// Takes the newest block that has a settlement out of the chain.
fn reorganize(history: &History<'_>) -> anyhow::Result<()> {
    let anvil = &history.world.anvil;
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

/// The end of what sellers wrote, for a failure.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

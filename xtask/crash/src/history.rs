//! One history: a seller that dies at a point, is started again, perhaps dies again, and comes to its end.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail, ensure};
use tollgate_bsc::{Chain, ChainConfig};
use tollgate_engine::{AuditReport, Markets, audit, audit_chain};
use tollgate_payment::PaymentState;
use tollgate_x402::{Address, ChainId, Timestamp};

use crate::{
    anvil::{Anvil, TREASURY},
    books::{self, Before, Books, Tally, Told},
    dice::Dice,
    journal::Journal,
    ordeal::{self, OPERATOR},
    place::{Place, with_store},
    process::{End, Mining, Seller},
    seller::{Ahead, Life, connect, market},
    site::{POINTS, Point, Site},
    work,
};

/// The time between two blocks, usually.
const QUICK: Duration = Duration::from_millis(30);
/// Seconds after which everything that a dead process held is free.
const LEASES: u64 = 20;
/// Lives after which a history must have come to its end.
const MOST_LIVES: u32 = 8;

/// What all histories of a run share.
pub(crate) struct World {
    pub(crate) anvil: Anvil,
    /// A server, if ledgers are databases.
    pub(crate) postgres: Option<String>,
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
    /// Blocks come as the worker looks, so that it sees a settlement before it is final.
    pub(crate) looks: bool,
}

impl<'a> History<'a> {
    /// The chain at its beginning, the seed's payers funded, and an empty ledger.
    pub(crate) fn begin(world: &'a World, point: u8, seed: u64) -> anyhow::Result<Self> {
        Self::begin_with(world, point, seed, &work::addresses(seed)?)
    }

    /// The same, with other payers.
    pub(crate) fn begin_with(
        world: &'a World,
        point: u8,
        seed: u64,
        payers: &[Address],
    ) -> anyhow::Result<Self> {
        let directory = world.directory.join(format!("{point}-{seed}"));
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        std::fs::create_dir_all(&directory)?;
        let anvil = &world.anvil;
        anvil.begin()?;
        anvil.fund(payers, work::PURSE)?;
        anvil.mine(3)?;
        anvil.automine(true)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let settler = (!plain(seed)).then_some(anvil.settler);
        let pay_to = settler.map_or_else(|| OPERATOR.parse(), Ok)?;
        let place = world.runtime.block_on(Place::make(
            world.postgres.as_deref(),
            &directory,
            format!("crash_{point}_{seed}"),
        ))?;
        let life = Life {
            life: 0,
            seed,
            rpc: anvil.url.clone(),
            settler,
            pay_to,
            treasury: TREASURY.parse()?,
            ledger_id: anvil.ledger_id,
            place,
            journal: directory.join("journal"),
            deadline: Timestamp(now.as_secs() + 86_000),
            dies: None,
            sleeps: false,
            requests: (0, u32::MAX),
            settles: true,
            ahead: 0,
            replace_after: 3,
            steps: false,
        };
        Ok(Self {
            world,
            directory,
            life,
            before: books::before(anvil, pay_to, payers)?,
            dice: Dice::new(seed.wrapping_mul(1_000_003) ^ u64::from(point)),
            looks: false,
        })
    }

    pub(crate) fn anvil(&self) -> &'a Anvil {
        &self.world.anvil
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Starts the next life.
    pub(crate) fn start(&mut self, dies: Option<(Site, u32)>) -> anyhow::Result<Seller> {
        self.start_by(Command::new(std::env::current_exe()?), dies)
    }

    /// The same, by a command line that runs this program.
    pub(crate) fn start_by(
        &mut self,
        command: Command,
        dies: Option<(Site, u32)>,
    ) -> anyhow::Result<Seller> {
        self.life.dies = dies;
        self.life.steps = self.looks;
        let seller = Seller::start(command, &self.life, &self.log())?;
        self.life.life += 1;
        self.life.ahead += LEASES;
        Ok(seller)
    }

    /// How blocks come.
    pub(crate) fn mining(&self) -> Mining<'a> {
        if self.looks {
            Mining::Looks(self.anvil())
        } else {
            Mining::Every(self.anvil(), QUICK)
        }
    }

    /// Lives one life to its end, with blocks passing.
    pub(crate) fn live(&mut self, dies: Option<(Site, u32)>) -> anyhow::Result<End> {
        let mining = self.mining();
        self.start(dies)?.end(mining)
    }

    /// Lives a life that dies there.
    pub(crate) fn die(&mut self, dies: (Site, u32)) -> anyhow::Result<()> {
        let end = self.live(Some(dies))?;
        ensure!(
            end == End::Crashed(dies.0),
            "the seller never came to {dies:?}"
        );
        Ok(())
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

    /// Reads the ledger of a seller that does not run.
    pub(crate) fn books(&self) -> anyhow::Result<Books> {
        self.world.runtime.block_on(async {
            with_store!(
                &self.life.place,
                self.life.ledger_id,
                self.clock(),
                |store| Books::read(&store).await
            )
        })
    }

    pub(crate) fn clock(&self) -> Arc<Ahead> {
        Arc::new(Ahead(self.life.ahead))
    }

    pub(crate) fn markets(&self) -> Markets {
        Markets::new(vec![market(&self.life)])
    }

    pub(crate) async fn chain(&self) -> anyhow::Result<Chain> {
        connect(ChainConfig::new(ChainId::DEV, [self.life.rpc.clone()])).await
    }

    /// Holds everything against everything.
    pub(crate) fn check(&self, told: Told) -> anyhow::Result<Tally> {
        self.audit()?;
        let journal = Journal::read(&self.life.journal)?;
        let books = self.books()?;
        let checked = books::check(
            &books,
            self.anvil(),
            &self.before,
            self.life.seed,
            &journal,
            told,
        )?;
        self.world.runtime.block_on(self.life.place.remove())?;
        Ok(checked)
    }

    /// The product's own audit, of the ledger and against the chain.
    pub(crate) fn audit(&self) -> anyhow::Result<()> {
        self.world.runtime.block_on(async {
            let chain = self.chain().await?;
            with_store!(
                &self.life.place,
                self.life.ledger_id,
                self.clock(),
                |store| {
                    holds(&audit(&store).await?)?;
                    let from = Some(self.before.block);
                    holds(&audit_chain(&store, &chain, &self.markets(), from).await?)
                }
            )
        })
    }
}

fn holds(report: &AuditReport) -> anyhow::Result<()> {
    ensure!(
        report.holds(),
        "the audit found: {}",
        report.violations().join("; ")
    );
    Ok(())
}

/// Whether a history's seller is paid to the account that settles itself, without a Settler: every third.
const fn plain(seed: u64) -> bool {
    seed % 3 == 2
}

/// One history of a point.
pub(crate) fn run(world: &World, point: &Point, seed: u64) -> anyhow::Result<Tally> {
    let mut history = History::begin(world, point.number, seed)?;
    let tally = lives(&mut history, point);
    let store = if world.postgres.is_some() {
        "postgres"
    } else {
        "sqlite"
    };
    tally.with_context(|| {
        format!(
            "point {}, seed {seed}; what it did is in {}; to repeat it: cargo xtask crash --store {store} --point {} --seed {seed}",
            point.title(),
            history.directory.display(),
            point.number,
        )
    })
}

fn lives(history: &mut History<'_>, point: &Point) -> anyhow::Result<Tally> {
    let seed = history.life.seed;
    let site = usize::try_from(seed)
        .ok()
        // Every kind of payee comes to every site.
        .and_then(|seed| {
            let sites = point.sites.len();
            let place = seed + seed.checked_div(sites)?;
            point.sites.get(place % sites)
        });
    let dies = site.map(|site| (*site, history.dice.up_to(point.most)));
    let mut blocks = 0;
    match (point.number, dies) {
        (5, Some(dies)) => blocks = ordeal::counted(history, dies)?,
        (9, Some(dies)) => ordeal::replaced(history, dies)?,
        (11, Some(dies)) => {
            history.looks = true;
            history.die(dies)?;
            history.looks = false;
            ordeal::reorganize(history)?;
        }
        (13, Some(dies)) => return ordeal::deposed(history, dies),
        (14, Some(dies)) => return ordeal::restored(history, dies),
        (15, Some(dies)) => return ordeal::stranger(history, dies),
        (16, _) => return ordeal::full(history),
        (number, Some(dies)) => {
            history.looks = number == 10;
            history.die(dies)?;
            history.looks = false;
        }
        (_, None) => bail!("a point without a site"),
    }
    // Some die again where they are started, or later.
    for _ in 0..history.dice.below(3) {
        let others: Vec<&Point> = POINTS
            .iter()
            .filter(|point| point.number <= 12 && ![9, 11].contains(&point.number))
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
    let mut tally = history.check(Told::Exactly)?;
    tally.blocks = blocks;
    Ok(tally)
}

/// The end of what sellers wrote, for a failure.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Payments that are to be settled.
pub(crate) fn due(books: &Books) -> anyhow::Result<Vec<String>> {
    let due: Vec<String> = books
        .payments()
        .iter()
        .filter(|payment| matches!(payment.state, PaymentState::Due { .. }))
        .map(|payment| payment.memo.clone())
        .collect();
    ensure!(!due.is_empty(), "nothing is due");
    Ok(due)
}

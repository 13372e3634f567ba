//! The program itself, as operators run it: killed at random moments, by nothing that it could know of.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    books::{self, Tally},
    buyer::{self, Buyer, Heard},
    history::{History, World},
    place::Place,
    seller::OPERATOR_KEY,
};

/// How often the program is killed.
const KILLS: u32 = 5;
/// How long a start may take: who died may hold what is shared until a lease ends.
const START: Duration = Duration::from_secs(60);
/// How long everything may take to come to its end after the last kill.
const END: Duration = Duration::from_secs(150);
/// How long is waited for answers before the next kill.
const BUSY: Duration = Duration::from_secs(15);
/// The time between two blocks: their times are whole seconds, and are to be the clock's.
const BLOCK: Duration = Duration::from_secs(1);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);

/// Kills the program at random moments while it sells, starts it again, and holds its books against the chain and
/// against what its callers were told.
pub(crate) fn run(world: &World, seed: u64) -> anyhow::Result<(Tally, String)> {
    let payers: Vec<_> = buyer::payers()?
        .iter()
        .map(|(wallet, _)| wallet.address())
        .collect();
    let mut history = History::begin_with(world, 0, seed, &payers)?;
    let done = killed(&mut history);
    done.with_context(|| {
        format!(
            "tollgate serve, killed at random, seed {seed}; what it did is in {}",
            history.directory.display()
        )
    })
}

fn killed(history: &mut History<'_>) -> anyhow::Result<(Tally, String)> {
    history.anvil().automine(false)?;
    if let Place::Postgres { own_clock, .. } = &mut history.life.place {
        *own_clock = true;
    }
    let program = Program::of(history)?;
    let mut blocks = Blocks::of(history);
    let heard = Arc::new(Mutex::new(Heard::default()));
    let (stop, stopped) = watch::channel(false);
    let mut gateway = program.start()?;
    gateway.ready(&mut blocks)?;
    let buyers: Vec<_> = buyer::payers()?
        .into_iter()
        .flat_map(|payer| std::iter::repeat_n(payer, buyer::AT_ONCE))
        .map(|(wallet, kind)| {
            let buyer = Buyer {
                wallet,
                kind,
                url: format!("{}/x402/v1", program.url),
                rpc: history.life.rpc.clone(),
                heard: Arc::clone(&heard),
            };
            history.world.runtime.spawn(buyer.buy(stopped.clone()))
        })
        .collect();
    for kill in 0..KILLS {
        if kill == 3 {
            // It dies while it starts.
            blocks.pass(Duration::from_millis(history.dice.below(500)))?;
        } else {
            gateway.ready(&mut blocks)?;
            // On a slow machine too it has sold something before.
            let sold = told(&heard) + usize::try_from(history.dice.up_to(12))?;
            let began = Instant::now();
            while told(&heard) < sold && began.elapsed() < BUSY {
                blocks.pass(LOOK)?;
            }
            blocks.pass(Duration::from_millis(history.dice.below(1_500)))?;
        }
        gateway.kill()?;
        gateway = program.start()?;
    }
    gateway.ready(&mut blocks)?;
    blocks.pass(Duration::from_secs(2))?;
    stop.send_replace(true);
    let began = Instant::now();
    while !(buyers.iter().all(|buyer| buyer.is_finished()) && program.has_settled(history)?) {
        ensure!(
            began.elapsed() < END,
            "not everything was settled {} s after the last kill",
            END.as_secs()
        );
        blocks.pass(Duration::from_millis(200))?;
    }
    for buyer in buyers {
        history.world.runtime.block_on(buyer)??;
    }
    gateway.end(&mut blocks)?;
    let audit = program.run(&["ledger", "audit", "--chain", "--json"])?;
    ensure!(audit["holds"] == true, "ledger audit --chain: {audit:#}");
    history.audit()?;
    let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    fs::write(history.directory.join("heard"), format!("{heard:#?}\n"))?;
    ensure!(
        !heard.told.is_empty() && heard.cut > 0,
        "nothing was answered, or nothing was cut off: {heard:?}"
    );
    ensure!(heard.wrong.is_empty(), "callers found: {:?}", heard.wrong);
    let mut tally = books::settled(
        &history.books()?,
        history.anvil(),
        &history.before,
        &heard.told,
    )?;
    tally.crashes = KILLS;
    history
        .world
        .runtime
        .block_on(history.life.place.remove())?;
    Ok((tally, heard.to_string()))
}

fn told(heard: &Mutex<Heard>) -> usize {
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    heard.told.len()
}

/// Lets the chain go on.
struct Blocks<'a> {
    anvil: &'a crate::anvil::Anvil,
    mined: Instant,
}

impl<'a> Blocks<'a> {
    fn of(history: &History<'a>) -> Self {
        Self {
            anvil: history.anvil(),
            mined: Instant::now(),
        }
    }

    fn look(&mut self) -> anyhow::Result<()> {
        if self.mined.elapsed() >= BLOCK {
            self.anvil.mine(1)?;
            self.mined = Instant::now();
        }
        Ok(())
    }

    fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            self.look()?;
            let left = time.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}

/// How the program is run.
struct Program {
    file: PathBuf,
    config: PathBuf,
    database: String,
    log: PathBuf,
    url: String,
}

impl Program {
    fn of(history: &History<'_>) -> anyhow::Result<Self> {
        let file = std::env::current_exe()?.with_file_name("tollgate");
        ensure!(
            file.exists(),
            "{} is missing: cargo xtask crash builds it",
            file.display()
        );
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let config = history.directory.join("tollgate.toml");
        fs::write(&config, configuration(history, port))?;
        let database = match &history.life.place {
            Place::Sqlite(_) => String::new(),
            Place::Postgres { server, name, .. } => format!("{server} dbname={name}"),
        };
        Ok(Self {
            file,
            config,
            database,
            log: history.directory.join("log"),
            url: format!("http://127.0.0.1:{port}"),
        })
    }

    fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = Command::new(&self.file);
        command
            .args(arguments)
            .arg("--config")
            .arg(&self.config)
            .env("OPERATOR_KEY", OPERATOR_KEY)
            .env("DATABASE", &self.database)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        Ok(command)
    }

    fn start(&self) -> anyhow::Result<Gateway> {
        let mut child = self
            .command(&["serve", "--json"])?
            .spawn()
            .context("the program cannot be started")?;
        let stdout = child.stdout.take().context("no pipe")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Gateway {
            child,
            lines,
            is_ready: false,
        })
    }

    /// What a command for operators says.
    fn run(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self.command(arguments)?.output()?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "tollgate {} says: {}; its log is {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stdout),
                self.log.display()
            )
        })
    }

    /// Whether no payer owes anything, or has anything reserved.
    fn has_settled(&self, history: &History<'_>) -> anyhow::Result<bool> {
        for (payer, _) in &history.before.payers {
            let shown = self.run(&["payer", "show", &payer.to_string(), "--json"])?;
            let tokens = shown["tokens"].as_array().context("no tokens")?;
            if tokens
                .iter()
                .any(|token| token["due"] != "0" || token["held"] != "0")
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The running program. It is killed when this is dropped.
struct Gateway {
    child: Child,
    lines: Receiver<String>,
    is_ready: bool,
}

impl Gateway {
    fn ready(&mut self, blocks: &mut Blocks<'_>) -> anyhow::Result<()> {
        let began = Instant::now();
        while !self.is_ready {
            blocks.look()?;
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => self.is_ready = line.contains("chainId"),
                Err(RecvTimeoutError::Timeout) => {
                    ensure!(began.elapsed() < START, "the program did not start");
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the program ended at its start"),
            }
        }
        Ok(())
    }

    fn kill(mut self) -> anyhow::Result<()> {
        let running = self.child.try_wait()?.is_none();
        self.child.kill()?;
        self.child.wait()?;
        ensure!(running, "the program ended by itself");
        Ok(())
    }

    /// Ends it as an operator does.
    fn end(mut self, blocks: &mut Blocks<'_>) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("no number")?;
        kill_process(pid, Signal::TERM)?;
        let began = Instant::now();
        while began.elapsed() < START {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the program did not end well: {status}");
                return Ok(());
            }
            blocks.pass(LOOK)?;
        }
        bail!("the program did not end when it was asked to")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(history: &History<'_>, port: u16) -> String {
    let life = &history.life;
    let payee = match life.settler {
        Some(settler) => format!("settler = \"{settler}\""),
        None => format!("treasury = \"{}\"", life.treasury),
    };
    let ledger = match &life.place {
        Place::Sqlite(file) => format!("path = \"{}\"", shown(file)),
        // One for each that died, whose slot is not free before its lease has ended, and one for each that lives.
        Place::Postgres { .. } => format!(
            "[ledger.postgres]\nurl = \"$DATABASE\"\ngateways = {}",
            KILLS + 2
        ),
    };
    format!(
        r#"listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"

[chain]
id = 31337
rpc = ["{rpc}"]

[seller]
operator_key = "$OPERATOR_KEY"
{payee}

[[token]]
symbol = "USD1"

[credit]
floor_usd = "5"
in_flight = 100
exposure_usd = "10000"

[settlement]
allowances = "at-once"

[[model]]
name = "tollgate/echo"
upstream = "echo"
input_usd_per_million = "200"
output_usd_per_million = "1000"
max_output_tokens = 1024

[ledger]
id = "{id}"
{ledger}
"#,
        rpc = life.rpc,
        id = life.ledger_id,
    )
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

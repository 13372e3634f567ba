//! A private PostgreSQL for a command: its own directory, its own socket, a port of this machine that lets nobody in
//! without a password (nobody has one unless a test gives it), and nothing of it left behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::shell::Cmd;

/// Arguments of the task.
#[derive(clap::Args)]
pub(crate) struct OnPostgres {
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true)]
    command: Vec<String>,
}

impl OnPostgres {
    /// Runs the command with the address of a fresh PostgreSQL in its environment.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let [program, arguments @ ..] = self.command.as_slice() else {
            bail!("no command");
        };
        let server = Postgres::start()?;
        let done = Cmd::program(program)
            .args(arguments)
            .env("TOLLGATE_POSTGRES_URL", server.url())
            .run();
        done.and(server.stop())
    }
}

/// A running server.
pub(crate) struct Postgres {
    child: Child,
    directory: PathBuf,
    port: String,
    url: String,
}

/// How long it may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

impl Postgres {
    /// Starts one.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let programs = programs()?;
        let account = account()?;
        let name = format!("tollgate-postgres-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory)
            .with_context(|| format!("{} cannot be made", directory.display()))?;
        // A path of a socket has about a hundred bytes.
        ensure!(
            directory.as_os_str().len() < 80,
            "{} is too long for a socket: set TMPDIR to a shorter one",
            directory.display()
        );
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        if let Some((user, group)) = account {
            chown(&directory, Some(user), Some(group))?;
        }
        let data = directory.join("data");
        let made = command(&programs.join("initdb"), account)
            .arg("-D")
            .arg(&data)
            .args(["-U", "tollgate", "-E", "UTF8", "--locale=C"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .arg("--no-sync")
            .output()
            .context("initdb cannot be started")?;
        ensure!(
            made.status.success(),
            "initdb failed:\n{}",
            String::from_utf8_lossy(&made.stderr)
        );
        // Free at this moment, and hardly ever taken in the next.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let port = port.port().to_string();
        let log = fs::File::create(directory.join("log"))?;
        let child = command(&programs.join("postgres"), account)
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&directory)
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "max_connections=300",
            ])
            .args(["-p", &port])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("postgres cannot be started")?;
        let url = format!(
            "host={} port={port} user=tollgate dbname=postgres",
            directory.display()
        );
        let mut server = Self {
            child,
            directory,
            port,
            url,
        };
        match server.wait(&programs) {
            Ok(()) => Ok(server),
            Err(error) => {
                server.stop()?;
                Err(error)
            }
        }
    }

    /// Where it is, as libpq takes it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn wait(&mut self, programs: &Path) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let asked = Command::new(programs.join("pg_isready"))
                .arg("-q")
                .arg("-h")
                .arg(&self.directory)
                .args(["-p", &self.port])
                .status();
            if asked.is_ok_and(|status| status.success()) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                bail!("postgres ended ({status}):\n{log}");
            }
            ensure!(began.elapsed() < PATIENCE, "postgres does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it, and removes what it wrote.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        // The fast way to end it: clients are cut off.
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-INT", &id]).status();
        let began = Instant::now();
        while told.as_ref().is_ok_and(|status| status.success())
            && self.child.try_wait()?.is_none()
            && began.elapsed() < PATIENCE
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.child.try_wait()?.is_none() {
            self.child.kill()?;
            self.child.wait()?;
        }
        fs::remove_dir_all(&self.directory)
            .with_context(|| format!("{} cannot be removed", self.directory.display()))
    }
}

fn command(program: &Path, account: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).current_dir("/");
    if let Some((user, group)) = account {
        command.gid(group).uid(user);
    }
    command
}

/// Makes sure that one can be started, so that a lack is told before half an hour of tests.
pub(crate) fn check() -> anyhow::Result<()> {
    programs().map(drop)
}

/// Where initdb, postgres and pg_isready are; installs Debian's package where it may.
fn programs() -> anyhow::Result<PathBuf> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let root = is_root()?;
    if root && Path::new("/usr/bin/apt-get").exists() {
        Cmd::new("apt-get install -y --no-install-recommends postgresql")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .run()
            .context("PostgreSQL is missing, and its package cannot be installed")?;
        if let Some(found) = find() {
            return Ok(found);
        }
    }
    bail!(
        "missing: the programs initdb and postgres of PostgreSQL 13 or newer (Debian: apt-get install postgresql); they \
         are looked for in PATH, in /usr/lib/postgresql/*/bin, and where pg_config says"
    )
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    places.extend(versions.into_iter().rev().map(|(_, place)| place));
    if let Ok(told) = Cmd::new("pg_config --bindir").output() {
        places.push(PathBuf::from(told));
    }
    let all = ["initdb", "postgres", "pg_isready"];
    let place = places
        .into_iter()
        .find(|place| all.iter().all(|name| place.join(name).is_file()))?;
    // The server looks for its files beside itself, and not beside a link to it.
    let real = fs::canonicalize(place.join("postgres")).ok()?;
    let beside = real.parent()?.to_path_buf();
    let whole = all.iter().all(|name| beside.join(name).is_file());
    Some(if whole { beside } else { place })
}

fn is_root() -> anyhow::Result<bool> {
    let id = Cmd::new("id -u").output().context("who runs this")?;
    Ok(id == "0")
}

/// Whom the server runs as: it refuses to run as root.
fn account() -> anyhow::Result<Option<(u32, u32)>> {
    if !is_root()? {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").context("the accounts of this machine")?;
    let of = |name: &str| {
        users.lines().find_map(|line| {
            let mut parts = line.split(':');
            let found = parts.next()? == name;
            let (user, group) = (parts.nth(1)?.parse().ok()?, parts.next()?.parse().ok()?);
            found.then_some((user, group))
        })
    };
    let account = of("postgres").or_else(|| of("nobody"));
    account.map(Some).context(
        "postgres refuses to run as root, and neither `postgres` nor `nobody` is an account here",
    )
}

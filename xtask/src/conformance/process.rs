//! Programs in the background: started, waited for within a time, and ended.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::shell::Cmd;

/// Runs a command on the terminal, for so long and no longer.
pub(super) fn run(cmd: &Cmd, patience: Duration) -> anyhow::Result<()> {
    let child = cmd
        .command()
        .spawn()
        .with_context(|| format!("cannot start `{cmd}`"))?;
    let mut program = Program {
        name: cmd.to_string(),
        child,
        log: PathBuf::new(),
    };
    let status = program.wait(patience)?;
    ensure!(status.success(), "`{cmd}` failed ({status})");
    Ok(())
}

/// A port that nobody uses now.
pub(super) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A program that serves. It is killed when this is dropped.
pub(super) struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it with what it says going to `log`, and returns with the line of standard output by which it says that
    /// it is ready.
    pub(super) fn start(
        cmd: &Cmd,
        log: &Path,
        is_ready: fn(&str) -> bool,
        patience: Duration,
    ) -> anyhow::Result<(Self, String)> {
        let mut file = File::create(log)?;
        writeln!(file, "{cmd}")?;
        let mut child = cmd
            .command()
            .stdout(Stdio::piped())
            .stderr(file.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start `{cmd}`"))?;
        let stdout = child.stdout.take().context("no pipe")?;
        let program = Self {
            name: cmd.to_string(),
            child,
            log: log.to_owned(),
        };
        let (sender, ready) = mpsc::channel();
        thread::spawn(move || -> std::io::Result<()> {
            for line in BufReader::new(stdout).lines() {
                let line = line?;
                writeln!(file, "{line}")?;
                if is_ready(&line) {
                    // nobody waits any more for the second such line, or if it was too late
                    drop(sender.send(line));
                }
            }
            Ok(())
        });
        match ready.recv_timeout(patience) {
            Ok(line) => Ok((program, line)),
            Err(_) => {
                program.show_log();
                bail!("`{}` did not say that it is ready", program.name)
            }
        }
    }

    /// Shows the end of what it wrote.
    pub(super) fn show_log(&self) {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(60)..];
        tail.iter().for_each(|line| eprintln!("    | {line}"));
    }

    /// Asks it to end (SIGTERM) and demands that it does so well, in time.
    pub(super) fn stop(mut self, patience: Duration) -> anyhow::Result<()> {
        Cmd::new("kill -TERM")
            .arg(self.child.id().to_string())
            .run()?;
        let status = self.wait(patience)?;
        if !status.success() {
            self.show_log();
            bail!("`{}` did not end well after SIGTERM ({status})", self.name);
        }
        Ok(())
    }

    /// Waits until it has ended by itself, for so long and no longer.
    pub(super) fn wait(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(
                Instant::now() < end,
                "`{}` took longer than {} s",
                self.name,
                patience.as_secs()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // it may have ended already
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_takes_too_long_is_ended() {
        let start = Instant::now();
        let error = run(&Cmd::new("sleep 60"), Duration::from_millis(10)).unwrap_err();
        assert!(error.to_string().contains("took longer"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_server_is_ready_when_it_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let cmd = Cmd::new("sh -c").arg("echo; echo ready; exec sleep 60");
        let (program, line) = Program::start(
            &cmd,
            &directory.path().join("log"),
            |line| line == "ready",
            Duration::from_secs(10),
        )
        .unwrap();
        assert_eq!(line, "ready");
        // `sleep` does not handle SIGTERM, so it does not end well
        assert!(program.stop(Duration::from_secs(10)).is_err());
    }
}

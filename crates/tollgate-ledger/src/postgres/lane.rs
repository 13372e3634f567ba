//! A connection that writes: what waits is executed together, in one transaction.
//!
//! 1. The union of the rows that the steps name is locked, in the order of names, with the number of this group, the
//!    sign that this gateway's run lives, and then the present moment: one round trip.
//! 2. The steps decide, one after the other, each on what the ones before it left.
//! 3. What they decided is written, each row once, and committed: one round trip. Each caller learns its outcome when
//!    the writes are taken, and that it is durable when the commit is.
//!
//! A row that another gateway adds meanwhile, or a lock that it holds crosswise, undoes the group: then the steps are
//! executed one by one. A step that waits for long for a row goes to the patient lane, so that it holds up no other.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::{join, join_all, join5};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_postgres::types::ToSql;
use tollgate_payment::{Command, Entry, Row, RowSet, Rows};
use tollgate_x402::Timestamp;

use super::{
    config::PostgresConfig,
    failure::Trouble,
    group::Group,
    open,
    rows::{self, key, table},
    session::{Session, Sql, Use},
    table::{Parameter, TABLES, columns},
};
use crate::{
    decide::decide,
    error::{Outage, StoreError},
    store::Durable,
};

/// Steps of one group at most.
const GROUP: usize = 256;
/// How often a step is tried that others are in the way of.
const TRIES: u32 = 6;
/// How long is asked what became of a commit, while the server is away.
const OUTCOME: Duration = Duration::from_secs(120);

/// No run is numbered so.
pub(super) const NO_RUN: u64 = 0;

/// A step that waits.
pub(super) trait Job: Send {
    /// The rows that it names.
    fn names(&self) -> Result<RowSet, StoreError>;
    /// What it decides. It may be asked again, on other rows.
    fn decide(
        &mut self,
        names: &RowSet,
        rows: &Rows,
        now: Timestamp,
    ) -> Result<(Vec<Row>, Vec<Entry>), StoreError>;
    /// Tells its caller, who may have gone.
    fn answer(self: Box<Self>, result: Result<Durable, StoreError>);
}

/// What a caller is told.
pub(super) type Answer<T> = Result<(T, Durable), StoreError>;

/// A command with its caller.
pub(super) struct Asked<C: Command> {
    command: C,
    outcome: Option<C::Outcome>,
    reply: oneshot::Sender<Answer<C::Outcome>>,
}

impl<C: Command> Asked<C> {
    pub(super) const fn new(command: C, reply: oneshot::Sender<Answer<C::Outcome>>) -> Self {
        Self {
            command,
            outcome: None,
            reply,
        }
    }
}

/// A panic in a command must not end the lane that everybody else waits for.
fn guarded<T>(step: impl FnOnce() -> T) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(step)).map_err(|_| StoreError::Corrupt("a step panicked".into()))
}

impl<C: Command> Job for Asked<C> {
    fn names(&self) -> Result<RowSet, StoreError> {
        guarded(|| self.command.rows())
    }

    fn decide(
        &mut self,
        names: &RowSet,
        rows: &Rows,
        now: Timestamp,
    ) -> Result<(Vec<Row>, Vec<Entry>), StoreError> {
        let decided = guarded(|| decide(&self.command, names, rows, now))??;
        self.outcome = Some(decided.outcome);
        Ok((decided.writes, decided.entries))
    }

    fn answer(self: Box<Self>, result: Result<Durable, StoreError>) {
        let answer = match (result, self.outcome) {
            (Ok(durable), Some(outcome)) => Ok((outcome, durable)),
            (Ok(_), None) => Err(StoreError::Corrupt("a step has no outcome".into())),
            (Err(error), _) => Err(error),
        };
        drop(self.reply.send(answer));
    }
}

type Jobs = Vec<Box<dyn Job>>;

/// A connection that writes.
pub(super) struct Lane {
    config: PostgresConfig,
    /// The run of this gateway.
    run: Arc<AtomicU64>,
    session: Option<Writing>,
    jobs: mpsc::Receiver<Box<dyn Job>>,
    /// Where steps go that must wait for a row; `None`: this is that lane.
    patient: Option<mpsc::Sender<Box<dyn Job>>>,
}

/// A session with its row in `lanes`.
struct Writing {
    session: Session,
    lane: String,
    groups: i64,
}

impl Lane {
    pub(super) fn new(
        config: PostgresConfig,
        run: Arc<AtomicU64>,
        jobs: mpsc::Receiver<Box<dyn Job>>,
        patient: Option<mpsc::Sender<Box<dyn Job>>>,
    ) -> Self {
        Self {
            config,
            run,
            session: None,
            jobs,
            patient,
        }
    }

    /// Writes until nobody can ask any more.
    pub(super) async fn run(mut self) {
        while let Some(first) = self.jobs.recv().await {
            let mut jobs = vec![first];
            let most = if self.patient.is_some() { GROUP } else { 1 };
            while jobs.len() < most
                && let Ok(job) = self.jobs.try_recv()
            {
                jobs.push(job);
            }
            self.serve(jobs).await;
        }
    }

    async fn serve(&mut self, mut jobs: Jobs) {
        match self.attempt(&mut jobs).await {
            Ok(()) => {}
            Err(Trouble::Failed(error)) if jobs.len() <= 1 => refuse(jobs, &error),
            // Once more on a new connection, together: without a server all of them would wait for it in turn.
            Err(Trouble::Gone(_)) => match self.attempt(&mut jobs).await {
                Ok(()) => {}
                Err(Trouble::Gone(what)) => refuse(jobs, &Outage::Io(what).into()),
                Err(_) => self.singly(jobs).await,
            },
            Err(_) => self.singly(jobs).await,
        }
    }

    /// One by one: what stands in the way of one step keeps no other from being executed.
    async fn singly(&mut self, jobs: Jobs) {
        for job in jobs {
            let mut job = vec![job];
            let mut last: Option<StoreError> = None;
            for tries in 0..TRIES {
                match self.attempt(&mut job).await {
                    Ok(()) => break,
                    Err(Trouble::Contended(what)) => {
                        last = Some(StoreError::Corrupt(what));
                        let pause = Duration::from_millis(u64::from(tries).saturating_mul(5));
                        tokio::time::sleep(pause).await;
                    }
                    Err(Trouble::Held) => {
                        if let (Some(patient), Some(held)) = (&self.patient, job.pop()) {
                            if let Err(error) = patient.try_send(held) {
                                let held = match error {
                                    mpsc::error::TrySendError::Full(held)
                                    | mpsc::error::TrySendError::Closed(held) => held,
                                };
                                held.answer(Err(Outage::Busy.into()));
                            }
                            break;
                        }
                        last = Some(Trouble::Held.told());
                    }
                    Err(Trouble::Gone(what)) => last = Some(Outage::Io(what).into()),
                    Err(Trouble::Failed(error)) => {
                        last = Some(error);
                        break;
                    }
                }
            }
            if let Some(error) = last {
                refuse(job, &error);
            }
        }
    }

    /// Executes all of them in one transaction. With an error nothing was written and nobody was told.
    async fn attempt(&mut self, jobs: &mut Jobs) -> Result<(), Trouble> {
        let mut asked = Vec::new();
        for job in jobs.drain(..) {
            match job.names() {
                Ok(names) => asked.push((names, job)),
                Err(error) => job.answer(Err(error)),
            }
        }
        let union: RowSet = asked
            .iter()
            .flat_map(|(names, _)| names.iter().copied())
            .collect();
        let begun = self.begin(&union).await;
        let mut group = match begun {
            Ok(group) => group,
            Err(trouble) => {
                jobs.extend(asked.into_iter().map(|(_, job)| job));
                return Err(trouble);
            }
        };
        let mut verdicts = Vec::new();
        for (names, mut job) in asked {
            let rows = group.named(&names);
            let verdict = job
                .decide(&names, &rows, group.now())
                .map(|(writes, entries)| group.take(writes, entries));
            verdicts.push(verdict);
            jobs.push(job);
        }
        let result = self.end(&group, jobs, verdicts).await;
        if let Err(Trouble::Gone(_)) = &result {
            self.session = None;
        }
        result
    }

    /// Opens a transaction that holds these rows.
    async fn begin(&mut self, names: &RowSet) -> Result<Group, Trouble> {
        let run = self.run.load(Ordering::SeqCst);
        let given = self.config.now();
        let writing = self.writing().await?;
        let mut keys: Vec<Vec<Vec<_>>> = TABLES.iter().map(|_| Vec::new()).collect();
        for name in names.iter() {
            if let Some(keys) = keys.get_mut(table(name)) {
                keys.push(key(name)?);
            }
        }
        let mut locks = Vec::new();
        for (at, keys) in keys.into_iter().enumerate() {
            if !keys.is_empty() {
                let statement = writing.session.prepare(Sql::Lock(at)).await?;
                locks.push((at, statement, columns(keys)));
            }
        }
        let mark = writing.session.prepare(Sql::Text(MARK)).await?;
        let fence = writing.session.prepare(Sql::Text(FENCE)).await?;
        let moment = writing.session.prepare(Sql::Text(MOMENT)).await?;
        let client = &writing.session.client;
        let next = writing.groups.saturating_add(1);
        let run = i64::try_from(run).unwrap_or(i64::MAX);

        // All are sent at once, in this order, and executed in it.
        let (began, marked, fenced, locked, moment) = join5(
            client.batch_execute("BEGIN"),
            client.execute(&mark, &[&writing.lane, &next]),
            client.query_opt(&fence, &[&run]),
            join_all(locks.iter().map(|(at, statement, values)| async move {
                let found = client.query(statement, &borrowed(values)).await?;
                found
                    .iter()
                    .map(|row| Ok(rows::row(*at, row.try_get::<_, &str>(0)?)?))
                    .collect::<Result<Vec<Row>, Trouble>>()
            })),
            client.query_one(&moment, &[&given]),
        )
        .await;
        let opened = (|| {
            began?;
            if marked? != 1 {
                return Err(Trouble::Gone(
                    "the row of this connection is not there".into(),
                ));
            }
            let ended = match fenced? {
                Some(row) => row.try_get::<_, bool>(0)?,
                None => run != 0,
            };
            if ended {
                return Err(Trouble::Failed(Outage::RunEnded.into()));
            }
            let mut found = Vec::new();
            for rows in locked {
                found.extend(rows?);
            }
            let moment = moment?;
            let now = u64::try_from(moment.try_get::<_, i64>(0)?).unwrap_or_default();
            Ok(Group::new(names, found, Timestamp(now), moment.try_get(1)?))
        })();
        if opened.is_err() {
            self.roll_back().await?;
        }
        opened
    }

    async fn roll_back(&mut self) -> Result<(), Trouble> {
        if let Some(writing) = &self.session
            && let Err(error) = writing.session.client.batch_execute("ROLLBACK").await
        {
            self.session = None;
            return Err(Trouble::Gone(super::failure::said(&error)));
        }
        Ok(())
    }

    /// Writes the group, tells the callers, and commits it.
    async fn end(
        &mut self,
        group: &Group,
        jobs: &mut Jobs,
        verdicts: Vec<Result<(), StoreError>>,
    ) -> Result<(), Trouble> {
        let tell = |jobs: &mut Jobs,
                    verdicts: Vec<Result<(), StoreError>>,
                    durable: &dyn Fn() -> Durable| {
            for (job, verdict) in jobs.drain(..).zip(verdicts) {
                job.answer(verdict.map(|()| durable()));
            }
        };
        if group.is_empty() {
            self.roll_back().await?;
            tell(jobs, verdicts, &Durable::now);
            return Ok(());
        }
        let early = self.patient.is_some();
        let Some(writing) = &mut self.session else {
            return Err(Trouble::Gone("there is no connection".into()));
        };
        let mut writes = Vec::new();
        let listed = match group.writes() {
            Ok(listed) => listed,
            Err(error) => {
                self.roll_back().await?;
                return Err(error.into());
            }
        };
        for write in listed {
            writes.push((writing.session.prepare(write.sql).await?, write));
        }
        let client = &writing.session.client;
        let (decided, durable) = watch::channel(None);
        let later = || later(durable.clone());

        // The commit is sent right behind the writes. Where one of them failed, it undoes the others.
        let mut verdicts = Some(verdicts);
        let written = async {
            let written = join_all(writes.iter().map(|(statement, write)| async move {
                let rows = client.execute(statement, &borrowed(&write.values)).await?;
                if rows == write.rows {
                    Ok(())
                } else {
                    let what = format!("{} rows are there where {} were locked", rows, write.rows);
                    Err(Trouble::Failed(StoreError::Corrupt(what)))
                }
            }));
            for result in written.await {
                result?;
            }
            if early && let Some(verdicts) = verdicts.take() {
                tell(jobs, verdicts, &later);
            }
            Ok::<(), Trouble>(())
        };
        let (written, committed) = join(written, client.batch_execute("COMMIT")).await;
        let fate = match (written, committed) {
            (Ok(()), Ok(())) => Ok(true),
            // The transaction was undone by the server itself.
            (Err(trouble @ (Trouble::Contended(_) | Trouble::Held)), Ok(())) => {
                return Err(trouble);
            }
            (Err(Trouble::Failed(error)), Ok(())) => return Err(Trouble::Failed(error)),
            _ => self.outcome().await,
        };
        if let Some(writing) = &mut self.session
            && fate == Ok(true)
        {
            writing.groups = writing.groups.saturating_add(1);
        }
        let undone = || Outage::Io("the connection was lost, and the step is undone".into());
        match (fate, verdicts) {
            (Ok(true), None) => drop(decided.send(Some(Ok(())))),
            (Ok(true), Some(verdicts)) => tell(jobs, verdicts, &Durable::now),
            (Ok(false), None) => drop(decided.send(Some(Err(undone().into())))),
            // Nobody was told: it may be tried again.
            (Ok(false), Some(_)) => return Err(Trouble::Gone(undone().to_string())),
            (Err(outage), None) => drop(decided.send(Some(Err(outage.into())))),
            (Err(outage), Some(_)) => {
                let error = StoreError::from(outage);
                for job in jobs.drain(..) {
                    job.answer(Err(error.clone()));
                }
            }
        }
        Ok(())
    }

    /// What became of the last group, whose commit was sent and not answered. The old connection's transaction holds its
    /// row in `lanes` from before its first write until its end: who gets that row knows.
    async fn outcome(&mut self) -> Result<bool, Outage> {
        let Some(lost) = self.session.take() else {
            return Err(Outage::Unknown);
        };
        let number = lost.groups.saturating_add(1);
        let lane = lost.lane.clone();
        drop(lost);
        let began = Instant::now();
        loop {
            if let Ok(writing) = self.writing().await {
                let client = &writing.session.client;
                let asked = async {
                    client
                        .batch_execute("BEGIN; SET LOCAL lock_timeout = 0")
                        .await?;
                    let row = client
                        .query_opt(
                            "SELECT groups FROM lanes WHERE lane = $1 FOR UPDATE",
                            &[&lane],
                        )
                        .await?;
                    client.batch_execute("COMMIT").await?;
                    row.map_or(Ok(-1), |row| row.try_get::<_, i64>(0))
                };
                match asked.await {
                    Ok(last) => return Ok(last == number),
                    Err(_) => self.session = None,
                }
            }
            if began.elapsed() >= OUTCOME {
                return Err(Outage::Unknown);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The connection, or a new one.
    async fn writing(&mut self) -> Result<&mut Writing, Trouble> {
        if self
            .session
            .as_ref()
            .is_some_and(|writing| writing.session.is_closed())
        {
            self.session = None;
        }
        let patience = if self.patient.is_some() {
            1_000
        } else {
            12_000
        };
        match &mut self.session {
            Some(writing) => Ok(writing),
            none => {
                let session = Session::connect(&self.config, Use::Write(patience)).await?;
                // Another server may have taken over, with other settings.
                open::examine(&session.client)
                    .await
                    .map_err(|error| Trouble::Failed(Outage::Io(error.to_string()).into()))?;
                let row = session.client.query_one(ENTER, &[]).await?;
                let lane: String = row.try_get(0)?;
                let writing = Writing {
                    session,
                    lane,
                    groups: 0,
                };
                Ok(none.insert(writing))
            }
        }
    }
}

/// A row of its own for each connection that writes; those of long ago go.
const ENTER: &str = "
    WITH old AS (DELETE FROM lanes WHERE at < now() - interval '7 days')
    INSERT INTO lanes (lane, groups, at) VALUES (gen_random_uuid()::text, 0, now()) RETURNING lane";
/// The number of the group, which is there if and only if the group is.
const MARK: &str = "UPDATE lanes SET groups = $2, at = now() WHERE lane = $1";
/// Whether the run has ended. It cannot end while the transaction is open.
const FENCE: &str = "SELECT ended IS NOT NULL FROM runs WHERE epoch = $1 FOR KEY SHARE";
/// The present moment and the number of commits, both after the rows were locked.
const MOMENT: &str = "
    SELECT coalesce($1::bigint, floor(extract(epoch FROM clock_timestamp()))::bigint), nextval('commits')";

fn borrowed(values: &[Parameter]) -> Vec<&(dyn ToSql + Sync)> {
    values
        .iter()
        .map(|value| {
            let value: &(dyn ToSql + Sync) = &**value;
            value
        })
        .collect()
}

fn refuse(jobs: Jobs, error: &StoreError) {
    for job in jobs {
        job.answer(Err(error.clone()));
    }
}

/// Resolves when the group is durable.
fn later(mut group: watch::Receiver<Option<Result<(), StoreError>>>) -> Durable {
    Durable::later(async move {
        match group.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Err(Outage::Closed.into())),
            Err(_) => Err(Outage::Unknown.into()),
        }
    })
}

//! Carrying out: the one way out of this crate.

use std::pin::Pin;

use jiff::Timestamp;

use crate::act::Act;
use crate::mode::Modes;
use crate::playbook::Playbook;
use crate::run::Run;

/// A future of a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which step of which run an act is carried out for.
#[derive(Debug, Clone, Copy)]
pub struct StepOf<'a> {
    /// The run.
    pub run: &'a Run,
    /// The step, by its number in the run.
    pub number: usize,
    /// The act within the step, by its number.
    pub act: usize,
}

impl StepOf<'_> {
    /// Names this act of this run, the same each time it is tried.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.run.id, self.number, self.act)
    }
}

/// What carries out acts, and keeps runs.
pub trait Means: Send + Sync {
    /// The time.
    fn now(&self) -> Timestamp;

    /// Carries out an act; what came of it, in words. Done a second time it has the effect of once.
    ///
    /// # Errors
    /// Why it could not be done, in words.
    fn carry_out<'a>(
        &'a self,
        act: &'a Act,
        of: StepOf<'a>,
    ) -> BoxFuture<'a, Result<String, String>>;

    /// Keeps a run as it is now.
    ///
    /// # Errors
    /// Why it could not be kept; then nothing goes on.
    fn keep<'a>(&'a self, run: &'a Run) -> BoxFuture<'a, Result<(), String>>;

    /// Records that a step is over, or waits for a person.
    fn note<'a>(&'a self, run: &'a Run, number: usize) -> BoxFuture<'a, ()>;
}

/// Goes on with a run as far as it goes, carrying out what is to be done. What is over or begins to wait
/// is noted; the run is kept before each step and after it.
///
/// # Errors
/// Why the run cannot be kept. It goes on later where it was.
pub async fn go_on(
    run: &mut Run,
    playbook: &Playbook,
    modes: &Modes,
    means: &dyn Means,
) -> Result<(), String> {
    loop {
        let before = stands(run);
        run.go_on(playbook, modes, means.now());
        means.keep(run).await?;
        for number in changed(&before, run) {
            means.note(run, number).await;
        }
        let Some(number) = run.due(means.now()) else {
            return Ok(());
        };
        run.set_begun(number);
        means.keep(run).await?;
        let visit = &run.visits[number];
        let (act, of) = (
            visit.done,
            StepOf {
                run,
                number,
                act: visit.done,
            },
        );
        let outcome = match visit.acts.get(act) {
            Some(act) => means.carry_out(act, of).await,
            None => Err("there is nothing to do".to_owned()),
        };
        let over = run.carried_out(number, outcome);
        means.keep(run).await?;
        if over {
            means.note(run, number).await;
        }
    }
}

/// Where the steps of a run stand.
fn stands(run: &Run) -> Vec<crate::run::Progress> {
    run.visits.iter().map(|visit| visit.state).collect()
}

/// The steps that are new or stand otherwise than before, and are over or wait.
fn changed(before: &[crate::run::Progress], run: &Run) -> Vec<usize> {
    use crate::run::Progress;
    run.visits
        .iter()
        .enumerate()
        .filter(|(number, visit)| before.get(*number) != Some(&visit.state))
        .filter(|(_, visit)| !matches!(visit.state, Progress::Ready | Progress::Begun))
        .map(|(number, _)| number)
        .collect()
}

/// Whether a playbook is the one that a run is of: a run does not go on with another text.
#[must_use]
pub fn is_same(run: &Run, playbook: &Playbook) -> bool {
    run.hash == playbook.hash
}

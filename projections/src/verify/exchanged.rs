//! Finds out which two events were exchanged, when commits do not hash to what they claim though each of their events does.
//!
//! Positions are not part of an event's hash, so two rows that changed places look sound one by one. Putting a pair back
//! and hashing again tells whether it was this one; with paths of a tree that is cheap. In a small commit every pair is tried, in a
//! large one those at which the order of its events is not as it is written ([`suspects`](super::suspects)).

use domain::integrity::merkle::{Hash, Tree};

use super::{Problem, commits::Unexplained, suspects::Suspects};

/// Events of a commit up to which every pair is tried: their number is quadratic.
const MOST_EVENTS: usize = 512;
/// Most pairs of one commit that are tried; a commit as the committer makes it has fewer.
const MOST_PAIRS: usize = 400_000;
/// Commits among which exchanges are searched for.
const MOST_COMMITS: usize = 8;

/// Problems of each commit: at the exchanged positions where that explains it, else its whole range.
pub(super) fn explain(commits: &[Unexplained]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut explained = vec![false; commits.len()];
    for (index, commit) in commits.iter().enumerate().take(MOST_COMMITS) {
        if let Some((i, j)) = within(commit) {
            exchange(&mut problems, (commit, i), (commit, j));
            mark(&mut explained, index);
            continue;
        }
        for (other, with) in commits.iter().enumerate().take(MOST_COMMITS).skip(index + 1) {
            if let Some((i, j)) = between(commit, with) {
                exchange(&mut problems, (commit, i), (with, j));
                mark(&mut explained, index);
                mark(&mut explained, other);
            }
        }
    }
    for (Unexplained { commit, .. }, _) in commits.iter().zip(&explained).filter(|(_, explained)| !**explained) {
        let what = "the commit does not hash to what it claims: an event was replaced together with its hash, or the commit was changed";
        problems.push(Problem::within(commit.first_pos, commit.last_pos, what));
    }
    problems
}

fn mark(explained: &mut [bool], index: usize) {
    if let Some(slot) = explained.get_mut(index) {
        *slot = true;
    }
}

fn exchange(problems: &mut Vec<Problem>, (a, i): (&Unexplained, usize), (b, j): (&Unexplained, usize)) {
    let place = |commit: &Unexplained, index: usize| commit.commit.first_pos.saturating_add(i64::try_from(index).unwrap_or(0));
    let (one, other) = (place(a, i), place(b, j));
    problems.push(Problem::at(one, format!("the events of {one} and {other} were exchanged")));
    problems.push(Problem::at(other, format!("the events of {one} and {other} were exchanged")));
}

/// The pair within a commit that makes it right when put back, in the order of their places.
fn within(commit: &Unexplained) -> Option<(usize, usize)> {
    let (tree, suspects, count) = (Tree::new(&commit.hashes), Suspects::of(&commit.origins), commit.hashes.len());
    let rest = if count <= MOST_EVENTS { count } else { 0 };
    let rest = (0..rest).flat_map(|one| (one + 1..rest).map(move |other| (one, other)));
    let mut pairs = suspects.pairs().take(MOST_PAIRS).chain(rest);
    let (one, other) = pairs.find(|(one, other)| commit.fits(&tree.root_exchanged(*one, *other)))?;
    Some((one.min(other), one.max(other)))
}

/// The event of each commit that makes both right when exchanged. One that came from another commit is of a command that has no other event
/// here.
fn between(commit: &Unexplained, with: &Unexplained) -> Option<(usize, usize)> {
    let (mut ours, mut theirs) = (Tree::new(&commit.hashes), Tree::new(&with.hashes));
    let their_places = strangers(with);
    for (i, a) in strangers(commit) {
        for (j, b) in &their_places {
            ours.set(i, b);
            if commit.fits(&ours.root()) {
                theirs.set(*j, &a);
                if with.fits(&theirs.root()) {
                    return Some((i, *j));
                }
                theirs.set(*j, b);
            }
        }
        ours.set(i, &a);
    }
    None
}

/// Events that may be of another commit, with their hashes.
fn strangers(commit: &Unexplained) -> Vec<(usize, Hash)> {
    let hashes = commit.hashes.iter().copied().enumerate();
    if commit.hashes.len() <= MOST_EVENTS {
        return hashes.collect();
    }
    Suspects::of(&commit.origins).alone().take(MOST_EVENTS).filter_map(|at| Some((at, *commit.hashes.get(at)?))).collect()
}

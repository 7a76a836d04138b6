//! Finds out which two events were exchanged, when commits do not hash to what they claim though each of their events does.
//!
//! Positions are not part of an event's hash, so two rows that changed places look sound one by one. Putting each pair back
//! and hashing again tells which it was; with paths of a tree that is cheap enough for commits of the usual size.

use domain::integrity::merkle::Tree;

use super::{Problem, commits::Unexplained};

/// Events of a commit up to which exchanges are searched for: the search is quadratic.
const MOST_EVENTS: usize = 512;
/// Commits among which exchanges are searched for.
const MOST_COMMITS: usize = 8;

/// One problem for each commit: at the exchanged positions where that explains it, else its whole range.
pub(super) fn explain(commits: Vec<Unexplained>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut explained = vec![false; commits.len()];
    for (index, commit) in commits.iter().enumerate().filter(|(index, commit)| *index < MOST_COMMITS && commit.hashes.len() <= MOST_EVENTS)
    {
        if let Some((i, j)) = within(commit) {
            exchange(&mut problems, (commit, i), (commit, j));
            mark(&mut explained, index);
            continue;
        }
        for (other, with) in
            commits.iter().enumerate().take(MOST_COMMITS).skip(index + 1).filter(|(_, with)| with.hashes.len() <= MOST_EVENTS)
        {
            if let Some((i, j)) = between(commit, with) {
                exchange(&mut problems, (commit, i), (with, j));
                mark(&mut explained, index);
                mark(&mut explained, other);
            }
        }
    }
    for (commit, _) in commits.iter().zip(&explained).filter(|(_, explained)| !**explained) {
        let (first, last) = (commit.commit.first_pos, commit.commit.last_pos);
        let what = "the commit does not hash to what it claims: an event was replaced together with its hash, or the commit was changed";
        problems.push(Problem::within(first, last, what));
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

/// The pair within a commit that makes it right when put back.
fn within(commit: &Unexplained) -> Option<(usize, usize)> {
    let mut tree = Tree::new(&commit.hashes);
    for (i, a) in commit.hashes.iter().enumerate() {
        for (j, b) in commit.hashes.iter().enumerate().skip(i + 1) {
            tree.set(i, b);
            tree.set(j, a);
            if commit.fits(&tree.root()) {
                return Some((i, j));
            }
            tree.set(j, b);
        }
        tree.set(i, a);
    }
    None
}

/// The event of each commit that makes both right when exchanged.
fn between(commit: &Unexplained, with: &Unexplained) -> Option<(usize, usize)> {
    let (mut ours, mut theirs) = (Tree::new(&commit.hashes), Tree::new(&with.hashes));
    for (i, a) in commit.hashes.iter().enumerate() {
        for (j, b) in with.hashes.iter().enumerate() {
            ours.set(i, b);
            if commit.fits(&ours.root()) {
                theirs.set(j, a);
                if with.fits(&theirs.root()) {
                    return Some((i, j));
                }
                theirs.set(j, b);
            }
        }
        ours.set(i, a);
    }
    None
}

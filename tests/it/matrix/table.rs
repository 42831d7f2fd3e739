//! `matrix.csv`, read: its cells and its lines of CONNECT.

use super::scene::Scene;

const MATRIX: &str = include_str!("matrix.csv");

/// One subject's square of a line.
#[derive(Clone, Debug)]
pub struct Cell {
    pub id: String,
    pub verb: String,
    pub topic: String,
    /// Which of the scene's subjects.
    pub subject: usize,
    pub expected: String,
}

/// All lines, split at their commas.
pub fn lines() -> impl Iterator<Item = Vec<&'static str>> {
    MATRIX.lines().filter(|l| !l.is_empty() && !l.starts_with("# ") && *l != "#").map(|l| l.split(", ").map(str::trim).collect())
}

/// The cells. Each table begins with a line that names its subjects; every subject of the scene stands in one of them.
pub fn cells(scene: &Scene) -> Vec<Cell> {
    let (mut out, mut columns) = (Vec::new(), Vec::new());
    let mut seen = vec![false; scene.subjects.len()];
    for (row, line) in lines().filter(|l| l.first() != Some(&"connect")).enumerate() {
        if line[0] == "verb" {
            let find = |name: &&str| scene.subjects.iter().position(|s| s.name == *name).unwrap_or_else(|| panic!("who is {name}?"));
            columns = line[2..].iter().map(find).collect();
            columns.iter().for_each(|subject| seen[*subject] = true);
            continue;
        }
        assert_eq!(line.len(), 2 + columns.len(), "{line:?}");
        for (subject, expected) in columns.iter().zip(&line[2..]).filter(|(_, e)| **e != "-") {
            let (verb, topic) = (line[0].into(), scene.topic(line[1], *subject));
            out.push(Cell { id: format!("r{row}s{subject}"), verb, topic, subject: *subject, expected: (*expected).into() });
        }
    }
    assert!(seen.iter().all(|s| *s), "a subject stands in no table");
    out
}

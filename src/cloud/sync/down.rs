//! What comes down: marks and items above the hub's cursor, in the order of their places, as much as fits.

use super::Exchange;
use crate::cloud::items;
use crate::cloud::reply::Refused;
use crate::cloud::signed::{number, signed_number};
use crate::domain::mirror::wire::{BYTES_MAX, Item, Kind, MARKS_MAX, Mark, ROWS_MAX};
use deadpool_postgres::Transaction;
use std::iter::Peekable;

/// Bytes of a mark or an item besides its texts, about.
const FRAME: usize = 128;

/// A part of what comes down.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Down {
    pub(super) marks: Vec<Mark>,
    pub(super) items: Vec<Item>,
    /// Up to here.
    pub(super) cursor: u64,
    pub(super) more: bool,
}

/// Something in its place, and its bytes.
struct Placed<T> {
    cursor: u64,
    bytes: usize,
    /// `None` for what cannot be read: it is passed over.
    what: Option<T>,
}

/// What lies above `cursor`.
pub(super) async fn below(exchange: &Exchange<'_>, tx: &Transaction<'_>, cursor: u64) -> Result<Down, Refused> {
    let (id, from) = (exchange.id(), signed_number(cursor));
    let limit = |most: usize| i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
    let statement = tx
        .prepare_cached(
            "SELECT kind, key, gen, at, by_, cursor FROM marks WHERE hub_id = $1 AND cursor > $2 AND sent_in IS DISTINCT FROM $3 \
             ORDER BY cursor LIMIT $4",
        )
        .await?;
    let mut marks = Vec::new();
    for row in tx.query(&statement, &[&id, &from, &Some(signed_number(exchange.hub.epoch)), &limit(MARKS_MAX)]).await? {
        let (key, by): (String, String) = (row.try_get(1)?, row.try_get(4)?);
        let (bytes, generation, at) = (FRAME + key.len() + by.len(), number(row.try_get(2)?), number(row.try_get(3)?));
        let what = Kind::parse(row.try_get(0)?).ok().map(|kind| Mark { kind, key, generation, at, by });
        marks.push(Placed { cursor: number(row.try_get(5)?), bytes, what });
    }
    let statement = tx
        .prepare_cached(
            "SELECT cursor, id, kind, body FROM items WHERE hub_id = $1 AND cursor > $2 AND state = 'waiting' \
             AND (ends_at IS NULL OR ends_at > $3) ORDER BY cursor LIMIT $4",
        )
        .await?;
    let mut waiting = Vec::new();
    for row in tx.query(&statement, &[&id, &from, &signed_number(exchange.now), &limit(ROWS_MAX)]).await? {
        let (place, name, kind, body): (i64, &str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        waiting.push(Placed { cursor: number(place), bytes: FRAME + name.len() + body.len(), what: items::read(place, name, kind, body) });
    }
    let statement = tx.prepare_cached("SELECT cursor FROM hubs WHERE hub_id = $1").await?;
    let newest = number(tx.query_one(&statement, &[&id]).await?.try_get(0)?);
    Ok(part(marks, waiting, newest, BYTES_MAX))
}

/// As much as fits, in the order of places; what comes first always does. `newest` is the last place that was allotted.
fn part(marks: Vec<Placed<Mark>>, items: Vec<Placed<Item>>, newest: u64, bytes: usize) -> Down {
    let (mut marks, mut items) = (marks.into_iter().peekable(), items.into_iter().peekable());
    let (mut down, mut left, mut first) = (Down::default(), bytes, true);
    loop {
        let next = |m: Option<&Placed<Mark>>, i: Option<&Placed<Item>>| match (m, i) {
            (None, None) => None,
            (Some(m), Some(i)) if i.cursor < m.cursor => Some((i.bytes, false)),
            (Some(m), _) => Some((m.bytes, true)),
            (None, Some(i)) => Some((i.bytes, false)),
        };
        let Some((size, is_mark)) = next(marks.peek(), items.peek()) else {
            down.cursor = newest;
            return down;
        };
        let room = if is_mark { down.marks.len() < MARKS_MAX } else { down.items.len() < ROWS_MAX };
        if !room || (size > left && !first) {
            down.more = true;
            return down;
        }
        (left, first) = (left.saturating_sub(size), false);
        let cursor = if is_mark { move_on(&mut marks, &mut down.marks) } else { move_on(&mut items, &mut down.items) };
        down.cursor = cursor.unwrap_or(down.cursor);
    }
}

fn move_on<T>(from: &mut Peekable<impl Iterator<Item = Placed<T>>>, to: &mut Vec<T>) -> Option<u64> {
    let placed = from.next()?;
    to.extend(placed.what);
    Some(placed.cursor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mirror::wire::{ItemBody, Notice};

    fn mark(cursor: u64) -> Placed<Mark> {
        let mark = Mark { kind: Kind::User, key: cursor.to_string(), generation: 1, at: 0, by: String::new() };
        Placed { cursor, bytes: 10, what: Some(mark) }
    }

    fn item(cursor: u64) -> Placed<Item> {
        let body = ItemBody::Notice(Notice { code: "x".into(), device: None, text: String::new(), at: 0 });
        Placed { cursor, bytes: 10, what: Some(Item { cursor, id: cursor.to_string(), body }) }
    }

    #[test]
    fn everything_that_fits_comes_down_and_the_cursor_is_the_newest() {
        let down = part(vec![mark(2), mark(5)], vec![item(3)], 9, 100);
        assert_eq!((down.marks.len(), down.items.len(), down.cursor, down.more), (2, 1, 9, false));
        assert_eq!(part(vec![], vec![], 9, 100), Down { cursor: 9, ..Down::default() });
    }

    #[test]
    fn what_does_not_fit_waits_and_nothing_is_passed_over() {
        let down = part(vec![mark(2), mark(5)], vec![item(3), item(4)], 9, 25);
        assert_eq!((down.marks.len(), down.items.len(), down.cursor, down.more), (1, 1, 3, true));
    }

    #[test]
    fn one_that_is_too_long_for_every_reply_comes_alone() {
        let down = part(vec![], vec![item(3), item(4)], 9, 5);
        assert_eq!((down.items.len(), down.cursor, down.more), (1, 3, true));
    }
}

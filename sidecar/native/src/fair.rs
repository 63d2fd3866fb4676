//! Whose turn it is: entries of several peers, taken in turn so that each gets the same share of the work.
//!
//! Deficit round robin (Shreedhar and Varghese, 1996): a peer whose turn it is may spend `QUANTUM`, and what it does
//! not spend it keeps for its next turn as long as it waits.

use std::collections::{HashMap, VecDeque};

/// What a peer may spend in one turn, in the entries' own unit: bytes of messages.
pub const QUANTUM: usize = 4 << 10;

/// No room for another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

struct Waiting<T> {
    entries: VecDeque<(usize, T)>,
    deficit: usize,
}

/// Bounded in all and by peer.
pub struct Fair<T> {
    peers: HashMap<u64, Waiting<T>>,
    /// The peers that wait, the next first.
    turns: VecDeque<u64>,
    count: usize,
    limit: usize,
    limit_by_peer: usize,
}

impl<T> Fair<T> {
    pub fn new(limit: usize, limit_by_peer: usize) -> Self {
        Fair {
            peers: HashMap::new(),
            turns: VecDeque::new(),
            count: 0,
            limit,
            limit_by_peer,
        }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// Put an entry at the end of its peer's.
    ///
    /// # Errors
    /// There is no room.
    pub fn push(&mut self, peer: u64, cost: usize, entry: T) -> Result<(), Full> {
        let waits = self.peers.get(&peer).map_or(0, |waiting| waiting.entries.len());
        if self.count >= self.limit || waits >= self.limit_by_peer {
            return Err(Full);
        }
        if waits == 0 {
            self.turns.push_back(peer);
        }
        let waiting = self.peers.entry(peer).or_insert(Waiting {
            entries: VecDeque::new(),
            deficit: 0,
        });
        waiting.entries.push_back((cost, entry));
        self.count += 1;
        Ok(())
    }

    /// Take an entry back.
    pub fn remove(&mut self, peer: u64, is_it: impl Fn(&T) -> bool) {
        let Some(waiting) = self.peers.get_mut(&peer) else {
            return;
        };
        let before = waiting.entries.len();
        waiting.entries.retain(|entry| !is_it(&entry.1));
        self.count = self.count.saturating_sub(before - waiting.entries.len());
        if waiting.entries.is_empty() {
            self.peers.remove(&peer);
            self.turns.retain(|turn| *turn != peer);
        }
    }

    /// The next entry.
    pub fn pop(&mut self) -> Option<T> {
        loop {
            let peer = *self.turns.front()?;
            let waiting = self.peers.get_mut(&peer)?;
            let cost = waiting.entries.front().map_or(0, |entry| entry.0);
            if waiting.deficit < cost {
                // Alone there is nobody to wait for.
                waiting.deficit = if self.turns.len() == 1 {
                    cost
                } else {
                    waiting.deficit + QUANTUM
                };
                self.turns.rotate_left(1);
                continue;
            }
            waiting.deficit -= cost;
            let entry = waiting.entries.pop_front().map(|entry| entry.1);
            if waiting.entries.is_empty() {
                self.peers.remove(&peer);
                self.turns.pop_front();
            }
            self.count = self.count.saturating_sub(1);
            return entry;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_is_served_in_turn() {
        let mut fair = Fair::new(1000, 500);
        for at in 0..400 {
            fair.push(1, 100_000, (1, at)).expect("room");
        }
        fair.push(2, 100, (2, 0)).expect("room");
        fair.push(3, 100, (3, 0)).expect("room");
        let first: Vec<_> = (0..3).filter_map(|_| fair.pop()).collect();
        assert!(first.contains(&(2, 0)) && first.contains(&(3, 0)), "{first:?}");
    }

    #[test]
    fn shares_are_even_by_cost_and_order_is_kept() {
        let mut fair = Fair::new(10_000, 10_000);
        for at in 0..1000 {
            fair.push(1, 8000, (1, at)).expect("room");
            fair.push(2, 1000, (2, at)).expect("room");
        }
        let taken: Vec<_> = (0..900).filter_map(|_| fair.pop()).collect();
        let of_first = taken.iter().filter(|entry| entry.0 == 1).count();
        assert!((90..=110).contains(&of_first), "{of_first}");
        for peer in [1, 2] {
            let order: Vec<_> = taken
                .iter()
                .filter(|entry| entry.0 == peer)
                .map(|entry| entry.1)
                .collect();
            assert!(order.is_sorted());
        }
    }

    #[test]
    fn an_entry_that_is_taken_back_leaves_its_room() {
        let mut fair = Fair::new(2, 2);
        assert_eq!(
            [fair.push(1, 1, 'a'), fair.push(1, 1, 'b'), fair.push(2, 1, 'c')],
            [Ok(()), Ok(()), Err(Full)]
        );
        fair.remove(1, |entry| *entry == 'a');
        fair.remove(9, |_| true);
        assert_eq!(fair.push(2, 1, 'c'), Ok(()));
        fair.remove(1, |_| true);
        assert_eq!([fair.pop(), fair.pop()], [Some('c'), None]);
    }

    #[test]
    fn both_limits_hold_and_room_comes_back() {
        let mut fair = Fair::new(3, 2);
        assert_eq!(
            [fair.push(1, 1, ()), fair.push(1, 1, ()), fair.push(1, 1, ())],
            [Ok(()), Ok(()), Err(Full)]
        );
        assert_eq!([fair.push(2, 1, ()), fair.push(2, 1, ())], [Ok(()), Err(Full)]);
        assert_eq!(fair.len(), 3);
        while fair.pop().is_some() {}
        assert_eq!((fair.len(), fair.peers.len(), fair.turns.len()), (0, 0, 0));
        assert_eq!(fair.push(2, usize::MAX, ()), Ok(()));
        assert_eq!(fair.pop(), Some(()));
    }
}

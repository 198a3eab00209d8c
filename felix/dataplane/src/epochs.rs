//! Policy epochs: when an established connection must be judged again.
//!
//! A connection that was judged and permitted carries the epoch of that moment in its ct mark. A change
//! of policy that may forbid something begins a new epoch and says which addresses it touched. A
//! connection of an older live epoch is judged again if one of its ends was touched since, and else
//! only gets the new epoch; a connection of an epoch that is not live is judged again in any case. So
//! forgetting an epoch is always correct, and costs one judgement per connection.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use crate::diff::{Actual, ActualRule, ActualSet};
use crate::names;
use crate::ruleset::{Action, EPOCH_MASK, EPOCH_SHIFT, Family, Key, KeyValue};

/// The greatest epoch; 0 in a mark means never judged.
pub const LAST: u16 = 4095;
/// The first epoch of the upper half.
const UPPER: u16 = 2048;
/// Live epochs, the current one included.
const WINDOW: usize = 16;
/// More touched addresses than these since an epoch end its life.
const STALE: usize = 256;

/// An epoch as it stands in the mark.
pub fn mark(epoch: u16) -> u32 {
    u32::from(epoch) << EPOCH_SHIFT
}

/// The state of the epochs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epochs {
    current: u16,
    /// Live epochs before the current one, oldest first.
    past: VecDeque<Past>,
}

/// A live epoch, before the current one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Past {
    epoch: u16,
    /// What changes touched since: what a newer epoch has here, every older one has, too.
    stale: BTreeSet<IpAddr>,
}

/// What a change may have forbidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// Nothing: whoever was permitted still is.
    Nothing,
    /// Only connections with one of these addresses at an end.
    Addresses(BTreeSet<IpAddr>),
    /// Anything.
    Everything,
}

/// Marks that must be cleared in conntrack: every entry whose epoch is in `first..=last` gets epoch 0.
///
/// To be done **before** the batch that comes with it, so that no connection carries an epoch from
/// the last time round when its number is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// The first epoch.
    pub first: u16,
    /// The last epoch, included.
    pub last: u16,
}

impl Sweep {
    /// Every epoch: for a node whose marks are of unknown origin.
    pub const ALL: Self = Self {
        first: 1,
        last: LAST,
    };

    /// The mark of a conntrack entry after the sweep, `None` if it stays.
    pub fn cleared(&self, ct_mark: u32) -> Option<u32> {
        let epoch = (ct_mark & EPOCH_MASK) >> EPOCH_SHIFT;
        let swept = (u32::from(self.first)..=u32::from(self.last)).contains(&epoch);
        swept.then_some(ct_mark & !EPOCH_MASK)
    }
}

/// What a new epoch changes in the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Elements that go.
    pub(crate) remove: Vec<(&'static str, Key)>,
    /// Elements that come.
    pub(crate) add: Vec<(&'static str, Key)>,
    /// To be done first.
    pub(crate) sweep: Option<Sweep>,
}

impl Default for Epochs {
    fn default() -> Self {
        Self {
            current: 1,
            past: VecDeque::new(),
        }
    }
}

impl Epochs {
    /// The epochs of a table that is in the kernel already, and what must be swept before it is used.
    ///
    /// Nothing is known of changes since: the caller bumps with [`Touched::Everything`] unless the
    /// rest of the table is as it wants it. If the table's epochs make no sense all marks must go, and
    /// counting begins anew, not at the epoch that the table stamps until it is replaced.
    pub fn adopt(actual: &Actual) -> (Self, Option<Sweep>) {
        if let Some(epochs) = Self::read(actual) {
            return (epochs, None);
        }
        let current = if stamped(actual) == Some(mark(1)) {
            2
        } else {
            1
        };
        (
            Self {
                current,
                past: VecDeque::new(),
            },
            Some(Sweep::ALL),
        )
    }

    fn read(actual: &Actual) -> Option<Self> {
        let mut current = epochs_of(actual, names::EPOCH)?;
        let window = epochs_of(actual, names::WINDOW)?;
        let current = current.pop_first().filter(|_| current.is_empty())?;
        if stamped(actual) != Some(mark(current)) || !window.contains(&current) {
            return None;
        }
        let mut past: Vec<Past> = window
            .into_iter()
            .filter(|epoch| *epoch != current)
            .map(|epoch| Past {
                epoch,
                stale: BTreeSet::new(),
            })
            .collect();
        for family in Family::BOTH {
            for key in keys(actual, names::stale(family))? {
                let [KeyValue::Mark(mark), KeyValue::Address(address)] = key.as_slice() else {
                    return None;
                };
                let epoch = epoch(*mark)?;
                past.iter_mut()
                    .find(|past| past.epoch == epoch)?
                    .stale
                    .insert(*address);
            }
        }
        past.sort_by_key(|past| std::cmp::Reverse(age(past.epoch, current)));
        let oldest = past.first().map_or(0, |past| age(past.epoch, current));
        let nested = past
            .iter()
            .zip(past.iter().skip(1))
            .all(|(old, new)| old.stale.is_superset(&new.stale));
        let small = past.len() < WINDOW && past.iter().all(|past| past.stale.len() <= STALE);
        // Epochs enter one after the other and leave oldest first: there are no holes.
        let dense = usize::from(oldest) == past.len();
        (nested && small && dense).then(|| Self {
            current,
            past: past.into(),
        })
    }

    /// The current epoch.
    pub fn current(&self) -> u16 {
        self.current
    }

    /// Takes note of a change. The caller makes the sweep before the batch with the change.
    pub fn bump(&mut self, touched: &Touched) -> Option<Sweep> {
        self.turn(touched).sweep
    }

    pub(crate) fn turn(&mut self, touched: &Touched) -> Turn {
        let addresses = match touched {
            Touched::Nothing => return Turn::default(),
            Touched::Addresses(addresses) if addresses.is_empty() => return Turn::default(),
            Touched::Addresses(addresses) if addresses.len() <= STALE => Some(addresses),
            Touched::Addresses(_) | Touched::Everything => None,
        };
        let mut turn = Turn::default();
        let old = self.current;
        self.current = if old == LAST { 1 } else { old + 1 };
        turn.sweep = match self.current {
            1 => Some(Sweep {
                first: 1,
                last: UPPER - 1,
            }),
            UPPER => Some(Sweep {
                first: UPPER,
                last: LAST,
            }),
            _ => None,
        };
        turn.remove.push((names::EPOCH, epoch_key(old)));
        turn.add.push((names::EPOCH, epoch_key(self.current)));
        turn.add.push((names::WINDOW, epoch_key(self.current)));

        self.past.push_back(Past {
            epoch: old,
            stale: BTreeSet::new(),
        });
        while let Some(oldest) = self.past.front() {
            let fits = addresses.is_some_and(|addresses| {
                oldest.stale.len() + addresses.difference(&oldest.stale).count() <= STALE
            });
            if fits && self.past.len() < WINDOW {
                break;
            }
            turn.remove.push((names::WINDOW, epoch_key(oldest.epoch)));
            turn.remove.extend(
                oldest
                    .stale
                    .iter()
                    .map(|address| stale_element(oldest.epoch, *address)),
            );
            self.past.pop_front();
        }
        for past in &mut self.past {
            for address in addresses.into_iter().flatten() {
                if past.stale.insert(*address) {
                    turn.add.push(stale_element(past.epoch, *address));
                }
            }
        }
        turn
    }

    /// All elements of the epochs' sets.
    pub(crate) fn elements(&self) -> Vec<(&'static str, Key)> {
        let mut elements = vec![
            (names::EPOCH, epoch_key(self.current)),
            (names::WINDOW, epoch_key(self.current)),
        ];
        for Past { epoch, stale } in &self.past {
            elements.push((names::WINDOW, epoch_key(*epoch)));
            elements.extend(stale.iter().map(|address| stale_element(*epoch, *address)));
        }
        elements
    }
}

fn epoch_key(epoch: u16) -> Key {
    vec![KeyValue::Mark(mark(epoch))]
}

fn stale_element(epoch: u16, address: IpAddr) -> (&'static str, Key) {
    let key = vec![KeyValue::Mark(mark(epoch)), KeyValue::Address(address)];
    (names::stale(Family::of(&address)), key)
}

/// The epoch in a mark that holds nothing else.
fn epoch(mark: u32) -> Option<u16> {
    let epoch = u16::try_from(mark >> EPOCH_SHIFT).ok()?;
    (epoch != 0 && self::mark(epoch) == mark).then_some(epoch)
}

/// How many epochs ago `epoch` was.
fn age(epoch: u16, current: u16) -> u16 {
    if epoch <= current {
        current - epoch
    } else {
        current + (LAST - epoch)
    }
}

fn keys<'a>(actual: &'a Actual, set: &str) -> Option<Vec<&'a Key>> {
    match actual.sets.get(set)? {
        ActualSet::Known(set) => Some(set.elements.keys().collect()),
        ActualSet::Foreign => None,
    }
}

fn epochs_of(actual: &Actual, set: &str) -> Option<BTreeSet<u16>> {
    let value = |key: &Key| match key.as_slice() {
        [KeyValue::Mark(mark)] => epoch(*mark),
        _ => None,
    };
    keys(actual, set)?.into_iter().map(value).collect()
}

/// The mark that the kernel's table stamps, if it stamps one.
fn stamped(actual: &Actual) -> Option<u32> {
    actual
        .chains
        .get(names::STAMP)?
        .rules
        .iter()
        .find_map(|rule| match rule {
            ActualRule::Known(rule) => match rule.action {
                Action::Stamp(mark) => Some(mark),
                Action::Verdict(_) | Action::Map(..) | Action::Masquerade => None,
            },
            ActualRule::Foreign => None,
        })
}

#[cfg(test)]
mod tests;

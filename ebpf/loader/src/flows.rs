//! The flows of a family. They lie in two maps, by what was seen of them; here they are one table, as programs see it.

use std::marker::PhantomData;

use ebpf_abi::flow::{Flow, Table, Tuple};
use ebpf_abi::maps::{Map, Maps};

use crate::{Datapath, Error, MapFd, Pinned};

/// `FLOWS` and `OPENING` of a family.
#[derive(Debug)]
pub struct Flows<A> {
    kept: MapFd,
    opening: MapFd,
    family: PhantomData<A>,
}

/// A key and its value.
pub type Entry<A> = (Tuple<A>, Flow<A>);

impl<A: Maps> Flows<A> {
    fn open(map: impl Fn(Map) -> Result<MapFd, Error>) -> Result<Self, Error> {
        Ok(Self {
            kept: map(A::FLOWS)?,
            opening: map(A::OPENING)?,
            family: PhantomData,
        })
    }

    pub fn get(&self, tuple: &Tuple<A>) -> Result<Option<Flow<A>>, Error> {
        match self.kept.get(tuple)? {
            None => self.opening.get(tuple),
            found => Ok(found),
        }
    }

    /// Writes an entry to the map where it belongs.
    pub fn put(&self, tuple: &Tuple<A>, flow: &Flow<A>) -> Result<(), Error> {
        match flow.table() {
            Table::Opening => {
                self.opening.put(tuple, flow)?;
                self.kept.remove(tuple)
            }
            Table::Kept => {
                self.kept.put(tuple, flow)?;
                self.opening.remove(tuple)
            }
        }
    }

    /// It may be gone already.
    pub fn remove(&self, tuple: &Tuple<A>) -> Result<(), Error> {
        self.opening.remove(tuple)?;
        self.kept.remove(tuple)
    }

    /// Those that open first. One that moves meanwhile may be met twice.
    pub fn all(&self) -> Result<Vec<Entry<A>>, Error> {
        let mut all = self.opening.all()?;
        all.extend(self.kept.all()?);
        Ok(all)
    }
}

impl Pinned {
    /// The flows of a family.
    pub fn flows<A: Maps>(&self) -> Result<Flows<A>, Error> {
        Flows::open(|map| self.map(map))
    }
}

impl Datapath {
    /// The flows of a family.
    pub fn flows<A: Maps>(&self) -> Result<Flows<A>, Error> {
        Flows::open(|map| self.map(map))
    }
}

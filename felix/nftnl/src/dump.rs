//! Reading what the kernel has.

use crate::batch::Generation;
use crate::error::{DecodeError, Error};
use crate::object::{Chain, Element, Family, PlacedRule, Set, Table, TableId};
use crate::socket::Socket;
use crate::uapi;
use crate::wire::{Attrs, Head, Writer, take_family};

/// How often a ruleset that keeps changing is read before giving up.
const ATTEMPTS: u32 = 10;

impl Socket {
    /// The present generation of the namespace's ruleset.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::RefusedWhole`] or [`Error::Decode`]; so in all of these.
    pub fn generation(&mut self) -> Result<Generation, Error> {
        let mut generation = None;
        self.ask(
            "the generation",
            uapi::NFT_MSG_GETGEN,
            uapi::NLM_F_ACK,
            Family(0),
            |_| (),
            |_, attrs| {
                generation = Some(Generation(
                    attrs
                        .need(uapi::NFTA_GEN_ID, "generation")?
                        .u32("generation")?,
                ));
                Ok(())
            },
        )?;
        generation.ok_or(Error::Decode {
            what: "the generation",
            source: DecodeError::Missing { what: "generation" },
        })
    }

    /// Reads something by several requests so that all of it is of one generation.
    ///
    /// # Errors
    /// Those of `read`, and [`Error::Unsteady`] if the ruleset changed each time.
    pub fn steadily<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<(Generation, T), Error> {
        for _ in 0..ATTEMPTS {
            let before = self.generation()?;
            match read(self) {
                Ok(value) if self.generation()? == before => return Ok((before, value)),
                Ok(_) | Err(Error::Unsteady { .. }) => {}
                Err(error) if self.generation()? == before => return Err(error),
                Err(_) => {}
            }
        }
        Err(Error::Unsteady { attempts: ATTEMPTS })
    }

    /// All tables of the namespace.
    ///
    /// # Errors
    /// As [`Self::generation`]; [`Error::Unsteady`] if the ruleset changed meanwhile; so in all of these.
    pub fn tables(&mut self) -> Result<Vec<Table>, Error> {
        let mut tables = Vec::new();
        self.dump(
            "tables",
            uapi::NFT_MSG_GETTABLE,
            Family(0),
            |_| (),
            |family, attrs| {
                tables.push(Table::decode(family, attrs)?);
                Ok(())
            },
        )?;
        Ok(tables)
    }

    /// One table, if it is there.
    ///
    /// # Errors
    /// As [`Self::tables`].
    pub fn table(&mut self, id: &TableId) -> Result<Option<Table>, Error> {
        Ok(self.tables()?.into_iter().find(|table| table.id == *id))
    }

    /// The chains of a table; none if it is not there.
    ///
    /// # Errors
    /// As [`Self::tables`].
    pub fn chains(&mut self, table: &TableId) -> Result<Vec<Chain>, Error> {
        let mut chains = Vec::new();
        self.dump(
            "chains",
            uapi::NFT_MSG_GETCHAIN,
            table.family,
            |_| (),
            |_, attrs| {
                // the kernel gives those of all tables
                if attrs
                    .need(uapi::NFTA_CHAIN_TABLE, "table of a chain")?
                    .text("table of a chain")?
                    == table.name
                {
                    chains.push(Chain::decode(attrs)?);
                }
                Ok(())
            },
        )?;
        Ok(chains)
    }

    /// The rules of all chains of a table, those of a chain in order; none if it is not there.
    ///
    /// # Errors
    /// As [`Self::tables`].
    pub fn rules(&mut self, table: &TableId) -> Result<Vec<PlacedRule>, Error> {
        let mut rules = Vec::new();
        self.dump(
            "rules",
            uapi::NFT_MSG_GETRULE,
            table.family,
            |w| w.text(uapi::NFTA_RULE_TABLE, &table.name),
            |_, attrs| {
                rules.push(PlacedRule::decode(attrs)?);
                Ok(())
            },
        )?;
        Ok(rules)
    }

    /// The sets and maps of a table.
    ///
    /// # Errors
    /// As [`Self::tables`], and [`Error::RefusedWhole`] with `ENOENT` if there is no such table.
    pub fn sets(&mut self, table: &TableId) -> Result<Vec<Set>, Error> {
        let mut sets = Vec::new();
        self.dump(
            "sets",
            uapi::NFT_MSG_GETSET,
            table.family,
            |w| w.text(uapi::NFTA_SET_TABLE, &table.name),
            |_, attrs| {
                sets.push(Set::decode(attrs)?);
                Ok(())
            },
        )?;
        Ok(sets)
    }

    /// The elements of a set or map, sorted by key, the end of a range before what begins there.
    ///
    /// # Errors
    /// As [`Self::sets`]. A hash table that the kernel is just resizing gives some elements twice and leaves out as many: that
    /// is [`Error::Unsteady`] too.
    pub fn elements(&mut self, table: &TableId, set: &str) -> Result<Vec<Element>, Error> {
        let mut elements = Vec::new();
        self.dump(
            "elements",
            uapi::NFT_MSG_GETSETELEM,
            table.family,
            |w| {
                w.text(uapi::NFTA_SET_ELEM_LIST_TABLE, &table.name);
                w.text(uapi::NFTA_SET_ELEM_LIST_SET, set);
            },
            |_, attrs| {
                if let Some(list) = attrs.find(uapi::NFTA_SET_ELEM_LIST_ELEMENTS)? {
                    for element in list.nested() {
                        elements.push(Element::decode(element?.nested())?);
                    }
                }
                Ok(())
            },
        )?;
        let order = |element: &Element| (element.key, element.role);
        elements.sort_unstable_by_key(order);
        if elements
            .windows(2)
            .any(|pair| order(&pair[0]) == order(&pair[1]))
        {
            return Err(Error::Unsteady { attempts: 1 });
        }
        Ok(elements)
    }

    fn dump(
        &mut self,
        what: &'static str,
        kind: u16,
        family: Family,
        request: impl FnOnce(&mut Writer),
        each: impl FnMut(Family, Attrs<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), Error> {
        self.ask(what, kind, uapi::NLM_F_DUMP, family, request, each)
    }

    fn ask(
        &mut self,
        what: &'static str,
        kind: u16,
        flags: u16,
        family: Family,
        request: impl FnOnce(&mut Writer),
        mut each: impl FnMut(Family, Attrs<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), Error> {
        const SEQ: u32 = 1;
        let mut writer = Writer::default();
        let mark = writer.begin(
            uapi::NFNL_SUBSYS_NFTABLES << 8 | kind,
            uapi::NLM_F_REQUEST | flags,
            SEQ,
            family.0,
            0,
        );
        request(&mut writer);
        writer.end(mark);
        self.exchange(
            what,
            &writer,
            SEQ,
            |_: Head, payload| {
                let (family, attrs) = take_family(payload)?;
                each(Family(family), attrs)
            },
            |_| false,
        )
    }
}

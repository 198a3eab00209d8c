//! Tables that belong to a socket.

use crate::{Batch, Socket, TableFlags};
use nix::errno::Errno;

use super::scratch::{in_netns, nft, table, world};

const OURS: TableFlags = TableFlags::OWNER.with(TableFlags::PERSIST);

fn take(socket: &mut Socket, flags: TableFlags) -> Result<(), crate::Error> {
    let mut batch = Batch::new(table(), None);
    batch.add_table(flags);
    socket.commit(batch)
}

#[test]
fn an_owned_table_is_left_alone_by_others_and_outlives_its_owner() {
    in_netns(|| {
        let mut owner = Socket::open().unwrap();
        take(&mut owner, OURS).unwrap();
        owner.commit(world().batch_without_table()).unwrap();
        let read = owner.table(&table()).unwrap().unwrap();
        assert_eq!((read.flags, read.owner), (OURS, Some(owner.portid())));

        let listing = nft(&["list", "table", "inet", "scratch"]).unwrap();
        nft(&["flush", "ruleset"]).unwrap();
        let unchanged =
            |text: &str| assert_eq!(nft(&["list", "table", "inet", "scratch"]).unwrap(), text);
        unchanged(&listing);
        assert!(nft(&["delete", "table", "inet", "scratch"]).is_err());
        assert!(nft(&["flush", "chain", "inet", "scratch", "forward"]).is_err());
        let mut other = Socket::open().unwrap();
        let error = take(&mut other, OURS).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EPERM));
        assert!(
            error.to_string().contains("another process owns the table"),
            "{error}"
        );

        drop(owner);
        let orphan = other.table(&table()).unwrap().unwrap();
        assert_eq!((orphan.flags, orphan.owner), (TableFlags::PERSIST, None));
        take(&mut other, OURS).unwrap();
        assert_eq!(
            other.table(&table()).unwrap().unwrap().owner,
            Some(other.portid())
        );
        nft(&["flush", "ruleset"]).unwrap();
        let adopted = nft(&["list", "table", "inet", "scratch"]).unwrap();
        assert_eq!(
            adopted.lines().skip(2).collect::<Vec<_>>(),
            listing.lines().skip(2).collect::<Vec<_>>()
        );
    });
}

#[test]
fn a_table_that_was_made_without_owner_cannot_get_one() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        take(&mut socket, TableFlags::default()).unwrap();
        let error = take(&mut socket, OURS).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP));
    });
}

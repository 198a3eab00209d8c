//! nf_tables over netlink: encoder, batch, dump decoder, events.

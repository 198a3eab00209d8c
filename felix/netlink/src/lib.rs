//! Links, routes, neighbours and conntrack over netlink.

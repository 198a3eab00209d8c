//! IP address management: pools, blocks and allocation as a plan over values.

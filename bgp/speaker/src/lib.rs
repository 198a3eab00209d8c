//! A BGP speaker without I/O: codec, FSM, RIBs, decision process.

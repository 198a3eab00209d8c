//! The CNI plugin: a thin program that hands each request to felix.

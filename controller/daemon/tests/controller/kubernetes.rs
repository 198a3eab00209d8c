//! The controller against a real API server: `MARGAY_TEST_KUBECONFIG` names the kubeconfig of one that may be written
//! to, as `tests/kube/kube up --api-only` raises it. Without it these tests are skipped, which each says by name.

mod cluster;
mod objects;
mod parity;
mod proxy;
mod upheavals;
mod writing;

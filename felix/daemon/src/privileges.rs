//! Giving up every right that is not needed.

use anyhow::Context as _;
use caps::{CapSet, Capability, CapsHashSet};

/// For nf_tables, links and routes; for port 179.
const NEEDED: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_NET_BIND_SERVICE];

/// Keeps two capabilities and drops all others from every set. To be called before there are other threads: rights
/// belong to threads.
///
/// # Errors
/// One of the two is missing, or the kernel refuses.
pub(crate) fn drop_all_but_needed() -> anyhow::Result<()> {
    let permitted = caps::read(None, CapSet::Permitted).context("cannot read our capabilities")?;
    for capability in NEEDED {
        anyhow::ensure!(
            permitted.contains(&capability),
            "felix needs {capability}: run it as root, or give it that capability"
        );
    }
    let needed: CapsHashSet = NEEDED.into_iter().collect();
    let bounding = caps::read(None, CapSet::Bounding).context("cannot read our bounding set")?;
    let mut surplus: Vec<Capability> = bounding.difference(&needed).copied().collect();
    surplus.sort_by_key(Capability::index);
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for capability in surplus {
            caps::drop(None, CapSet::Bounding, capability)
                .with_context(|| format!("cannot drop {capability} from the bounding set"))?;
        }
    } else if !surplus.is_empty() {
        tracing::warn!("the bounding set cannot be reduced without CAP_SETPCAP");
    }
    caps::clear(None, CapSet::Ambient).context("cannot clear the ambient set")?;
    caps::clear(None, CapSet::Inheritable).context("cannot clear the inheritable set")?;
    // Effective first: it may not exceed what is permitted.
    caps::set(None, CapSet::Effective, &needed).context("cannot reduce the effective set")?;
    caps::set(None, CapSet::Permitted, &needed).context("cannot reduce the permitted set")?;
    nix::sys::prctl::set_no_new_privs().context("cannot give up gaining privileges")?;
    Ok(())
}

//! Passwords of peers: told by the controller, or in files of the node.

use std::collections::BTreeMap;

use margay_bgpd::Password;
use margay_sync::message::bgp;

/// The passwords in use. One that is not to be had any more stays: what runs is not disturbed by it.
#[derive(Debug, Default)]
pub(super) struct Passwords(BTreeMap<String, Password>);

impl Passwords {
    /// The password of `peer`; `None` if it has none, and in words why it cannot be had. `read` reads a file.
    pub(super) fn of(
        &mut self,
        peer: &str,
        wanted: Option<&bgp::Password>,
        read: impl Fn(&str) -> std::io::Result<String>,
    ) -> Result<Option<Password>, String> {
        let text = match wanted {
            None => {
                self.0.remove(peer);
                return Ok(None);
            }
            Some(bgp::Password::Text(text)) => Ok(text.clone()),
            Some(bgp::Password::File(path)) => match read(path) {
                Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => Err(format!("the file {path} cannot be read: {error}")),
            },
            Some(bgp::Password::Missing(why)) => Err(why.clone()),
        };
        let password =
            text.and_then(|text| Password::try_from(text).map_err(|error| error.to_string()));
        match (password, self.0.get(peer)) {
            (Ok(password), _) => {
                self.0.insert(peer.to_owned(), password.clone());
                Ok(Some(password))
            }
            (Err(_), Some(known)) => Ok(Some(known.clone())),
            (Err(why), None) => Err(why),
        }
    }

    /// Forgets those of peers that are gone.
    pub(super) fn retain(&mut self, stays: impl Fn(&str) -> bool) {
        self.0.retain(|peer, _| stays(peer));
    }
}

#[cfg(test)]
mod tests;
